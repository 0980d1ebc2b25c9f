//! README's first run and the tour in docs/tour.md run as they stand.

use std::process::Command;

use hypeman_tests::fixtures::{bed, busybox_tar, directory, kernel};
use hypeman_tests::needs::QEMU;

use crate::promises;

promises! {
    [QEMU] the_first_run_and_the_tour_print_what_they_show;
}

/// A command of a document, and the lines that it is shown to print.
struct Step {
    command: String,
    shown: Vec<String>,
}

/// The steps in a document: its block of `console`, whose commands begin with `$ `.
fn steps(document: &str) -> Vec<Step> {
    let (_, block) = document.split_once("```console\n").expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), shown: Vec::new() }),
            (None, Some(step)) => step.shown.push(line.to_owned()),
            (None, None) => panic!("output before the first command: {line}"),
        }
    }
    steps
}

/// Whether a line is as the tour shows it, where `...` stands for anything and blanks for any
/// number of them.
fn is_like(line: &str, shown: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, shown) = (words(line), words(shown));
    let parts: Vec<&str> = shown.split("...").collect();
    let mut rest = line.as_str();
    for (index, part) in parts.iter().enumerate() {
        let part = if parts.len() == 1 { *part } else { part.trim() };
        let found = match index {
            0 => rest.starts_with(part).then_some(0),
            _ if index == parts.len() - 1 && !part.is_empty() => {
                rest.ends_with(part).then(|| rest.len() - part.len())
            }
            _ => rest.find(part),
        };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    parts.len() > 1 || rest.is_empty()
}

/// The registry of debian:12 is out of the tests' reach: a busybox has its name, and what the tour
/// does with it.
fn the_first_run_and_the_tour_print_what_they_show() {
    kernel();
    let tar = busybox_tar();
    bed().ok(&["image", "import", "--name", "debian:12", tar.to_str().expect("UTF-8")]);
    let scratch = tempfile::tempdir_in(directory()).expect("a directory");
    let programs = bed().hypeman.parent().expect("its directory").display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let documents = [include_str!("../../README.md"), include_str!("../../docs/tour.md")];
    for Step { command, shown } in documents.into_iter().flat_map(steps) {
        if command.starts_with("hypeman pull") || command.starts_with("hypeman kernel pull") {
            continue;
        }
        let ran = Command::new("sh")
            .args(["-c", &command])
            .current_dir(scratch.path())
            .env("PATH", &path)
            .env("HYPEMAN_DATA_DIR", &bed().data_dir)
            .env("HYPEMAN_NETWORK", "none")
            .output()
            .expect("run it");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&ran.stdout), text(&ran.stderr));
        assert!(ran.status.success(), "{command}: {}\n{out}{err}", ran.status);
        let mut lines = out.lines();
        for expected in shown.iter().filter(|line| *line != "...") {
            let found = lines.any(|line| is_like(line, expected));
            assert!(found, "{command}: no line is like {expected:?}:\n{out}");
        }
    }
    bed().ok(&["image", "rm", "debian:12"]);
}
