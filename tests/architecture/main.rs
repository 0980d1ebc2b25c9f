//! The floors of the workspace: which crate may use which, and no circles of files.

mod imports;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::imports::Arrows;

/// A target of a crate of ours: `hypeman-record`, and its root file.
struct Target {
    krate: String,
    root: PathBuf,
}

/// The crates from the ground up: one may use those of the floors below its own.
const FLOORS: [&[&str]; 7] = [
    &["hypeman-files", "hypeman-copy", "hypeman-console", "hypeman-process", "hypeman-wire"],
    &["hypeman-record"],
    &["hypeman-agent", "hypeman-confine", "hypeman-image", "hypeman-network"],
    &["hypeman-vmm", "hypeman-guest"],
    &["hypeman-snapshot", "hypeman-session"],
    &["hypeman-host", "hypeman-shim"],
    &["hypeman-server"],
];

/// The crates between a host and its users.
const EDGES: [&str; 2] = [ROOF, "hypeman-server"];

/// The crate above all floors.
const ROOF: &str = "hypeman";

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// Returns the workspace's metadata (cargo-metadata(1)).
fn metadata() -> serde_json::Value {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(workspace());
    let output = cargo.output().expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The packages below `crates/`.
fn packages(metadata: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    let packages = metadata["packages"].as_array().expect("packages").iter();
    packages.filter(|package| {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        manifest.starts_with(workspace().join("crates"))
    })
}

/// The libraries and programs below `crates/`.
fn targets() -> Vec<Target> {
    let metadata = metadata();
    packages(&metadata)
        .flat_map(|package| {
            let krate = package["name"].as_str().expect("a name");
            package["targets"].as_array().expect("targets").iter().filter_map(|target| {
                let root = PathBuf::from(target["src_path"].as_str()?);
                let is_code = ["lib", "bin"].contains(&target["kind"][0].as_str()?);
                is_code.then(|| Target { krate: krate.to_owned(), root })
            })
        })
        .collect()
}

/// The files that can be reached from one, itself only if it is in a circle.
fn reach<'a>(arrows: &'a Arrows, from: &'a Path) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        next.extend(arrows[file].iter().map(PathBuf::as_path).filter(|file| reached.insert(*file)));
    }
    reached
}

/// The circles of a target: sets of files each of which can be reached from each.
fn circles(arrows: &Arrows) -> BTreeSet<BTreeSet<&Path>> {
    let circle = |file| {
        let reached = reach(arrows, file);
        reached.iter().copied().filter(|other| reach(arrows, other).contains(file)).collect()
    };
    let circles: BTreeSet<BTreeSet<&Path>> = arrows.keys().map(|file| circle(file)).collect();
    circles.into_iter().filter(|circle| !circle.is_empty()).collect()
}

/// The floor of a crate, 0 for the ground.
fn floor(krate: &str) -> usize {
    let found = FLOORS.iter().position(|floor| floor.contains(&krate));
    found.or((krate == ROOF).then_some(FLOORS.len())).unwrap_or_else(|| panic!("{krate} has no floor"))
}

#[test]
fn no_arrow_between_crates_goes_up() {
    let metadata = metadata();
    for package in packages(&metadata) {
        let krate = package["name"].as_str().expect("a name");
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
        let names = normal.map(|dependency| dependency["name"].as_str().expect("a name"));
        for used in names.filter(|name| name.starts_with("hypeman")) {
            assert!(floor(used) < floor(krate), "{krate} uses {used}, which is not below it");
        }
    }
}

#[test]
fn no_crate_has_a_circle_of_files() {
    let mut found = Vec::new();
    for target in targets() {
        let arrows = imports::arrows(&target.root);
        for circle in circles(&arrows) {
            let within = |file: &&Path| {
                let to: Vec<_> = arrows[*file]
                    .iter()
                    .filter(|to| circle.contains(to.as_path()))
                    .map(|to| short(to))
                    .collect();
                format!("  {} -> {}", short(file), to.join(", "))
            };
            let lines: Vec<String> = circle.iter().map(within).collect();
            found.push(format!("{}:\n{}", target.krate, lines.join("\n")));
        }
    }
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n"));
}

/// Types through which an operation would be done that belongs in `hypeman-host`.
const OF_THE_HOST: [&str; 6] = ["Store", "Lock", "Client", "Networks", "Snapshots", "Kernels"];

#[test]
fn the_edges_name_no_store_no_lock_and_no_client_of_a_shim() {
    let edges = targets().into_iter().filter(|target| EDGES.contains(&target.krate.as_str()));
    for file in edges.flat_map(|target| imports::arrows(&target.root).into_keys()) {
        let text = std::fs::read_to_string(&file).expect("a file");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for (number, line) in code.enumerate() {
            let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            let found = words.find(|word| OF_THE_HOST.contains(word));
            assert!(found.is_none(), "{}, statement {number}: {line}", short(&file));
        }
    }
}

fn short(file: &Path) -> String {
    file.strip_prefix(workspace().join("crates")).unwrap_or(file).display().to_string()
}
