//! Images and kernels, as a user gets, uses and removes them.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use hypeman_tests::bed::Bed;
use hypeman_tests::disk::SmallDisk;
use hypeman_tests::fixtures::{self, bed, busybox, busybox_tar};
use hypeman_tests::needs::{BUSYBOX, HTPASSWD, Need, QEMU, REGISTRY, SKOPEO};
use hypeman_tests::registry::Registry;
use hypeman_tests::vm::Instance;

use crate::promises;

promises! {
    [BUSYBOX, REGISTRY, SKOPEO, HTPASSWD] pulled_with_docker_s_credentials;
    [BUSYBOX] an_import_killed_half_way_leaves_nothing;
    [BUSYBOX, Need::Root] one_is_removed_from_a_full_disk;
    [REGISTRY, SKOPEO, HTPASSWD] credentials_that_a_helper_has_not_got_are_none;
    [QEMU, BUSYBOX]
        what_killed_kernel_commands_leave_is_swept,
        one_in_use_is_not_removed,
        a_kernel_of_one_s_own_with_its_modules;
}

fn pulled_with_docker_s_credentials() {
    let scratch = tempfile::tempdir().expect("a directory");
    let registry = Registry::start(scratch.path());
    registry.push(&busybox_tar(), "app:1", &["/bin/echo", "pulled"]);
    let bed = Bed::new(&scratch.path().join("data"));
    let reference = format!("{}/app:1", registry.address);
    let pull = |docker: &str| {
        let mut command = bed.command(&["pull", &reference]);
        command.env("DOCKER_CONFIG", scratch.path().join(docker)).output().expect("hypeman pull")
    };
    let refused = pull("nobody");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("docker login"), "{words}");
    assert_eq!(bed.ok(&["image", "ls", "-q"]), "");

    std::fs::create_dir(scratch.path().join("ada")).expect("a directory");
    // base64 of USER, as docker keeps it.
    let login = format!(r#"{{"auths": {{"{}": {{"auth": "YWRhOmxvdmVsYWNl"}}}}}}"#, registry.address);
    std::fs::write(scratch.path().join("ada/config.json"), login).expect("write");
    let pulled = pull("ada");
    assert!(pulled.status.success(), "{pulled:?}");
    let image: serde_json::Value =
        serde_json::from_str(&bed.ok(&["image", "inspect", &reference])).expect("JSON");
    assert_eq!(image[0]["config"]["cmd"], serde_json::json!(["/bin/echo", "pulled"]));
}

fn an_import_killed_half_way_leaves_nothing() {
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(&scratch.path().join("data"));
    let images = bed.data_dir.join("images");
    // A FIFO, so that the import is surely in the middle of it when it is killed.
    let fifo = scratch.path().join("half.tar");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).expect("a FIFO");
    let import = ["image", "import", "--name", "half", fifo.to_str().expect("UTF-8")];
    let mut child = bed.command(&import).stdout(Stdio::null()).spawn().expect("hypeman image import");
    let tar = std::fs::read(busybox_tar()).expect("read");
    let mut writer = std::fs::OpenOptions::new().write(true).open(&fifo).expect("open the FIFO");
    writer.write_all(&tar[..tar.len() / 2]).expect("write half of it");
    let hidden = || {
        let names =
            std::fs::read_dir(&images).expect("images").map(|entry| entry.expect("entry").file_name());
        names.filter(|name| name.to_string_lossy().starts_with(".new-")).count()
    };
    assert_eq!(hidden(), 1);
    child.kill().expect("kill -9");
    child.wait().expect("its end");
    drop(writer);
    assert_eq!(bed.ok(&["image", "ls", "-q"]), "");
    bed.ok(&["image", "import", "--name", "half", busybox_tar().to_str().expect("UTF-8")]);
    assert_eq!(bed.ok(&["image", "ls", "-q"]).lines().count(), 1);
    assert_eq!(hidden(), 0, "what the killed one had begun is swept away");
}

fn one_is_removed_from_a_full_disk() {
    let disk = SmallDisk::new("8m");
    let bed = Bed::new(&disk.path().join("data"));
    bed.ok(&["image", "import", "--name", "full", busybox_tar().to_str().expect("UTF-8")]);
    let _ = std::fs::write(disk.path().join("fill"), vec![1; 16 << 20]); // takes what there is
    assert!(disk.is_full());
    bed.ok(&["image", "rm", "full"]);
    assert_eq!(bed.ok(&["image", "ls", "-q"]), "");
    assert!(!disk.is_full());
}

/// docker's own helper says so on its standard output, and fails.
fn credentials_that_a_helper_has_not_got_are_none() {
    let scratch = tempfile::tempdir().expect("a directory");
    let registry = Registry::start(scratch.path());
    let helper = scratch.path().join("docker-credential-nothing");
    std::fs::write(
        &helper,
        "#!/bin/sh\ncat >/dev/null\necho credentials not found in native keychain\nexit 1\n",
    )
    .and_then(|()| std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)))
    .expect("write the helper");
    std::fs::write(scratch.path().join("config.json"), r#"{"credsStore": "nothing"}"#).expect("write");
    let path = format!("{}:{}", scratch.path().display(), std::env::var("PATH").expect("a PATH"));
    let bed = Bed::new(&scratch.path().join("data")).with("DOCKER_CONFIG", scratch.path()).with("PATH", path);
    // The registry wants a password: that is what has to be told, and not the helper.
    bed.fails(&["pull", &format!("{}/app:1", registry.address)], &["docker login"]);
}

fn what_killed_kernel_commands_leave_is_swept() {
    fixtures::kernel();
    let scratch = tempfile::tempdir().expect("a directory");
    let bed = Bed::new(&scratch.path().join("data"));
    let kernels = bed.data_dir.join("kernels");
    for left in [".new-1", ".removed-own"] {
        std::fs::create_dir_all(kernels.join(left)).expect("a directory");
        std::fs::write(kernels.join(left).join("vmlinuz"), "x").expect("a file");
    }
    let hidden = || {
        let names =
            std::fs::read_dir(&kernels).expect("kernels").map(|entry| entry.expect("entry").file_name());
        names.filter(|name| name.to_string_lossy().starts_with('.') && name != ".lock").count()
    };
    bed.ok(&["kernel", "import", "--name", "own", fixtures::testguest()]);
    assert_eq!(hidden(), 0);
    std::fs::create_dir(kernels.join(".removed-own")).expect("a directory");
    std::fs::write(kernels.join(".removed-own").join("vmlinuz"), "x").expect("a file");
    bed.ok(&["kernel", "rm", "own"]);
    assert_eq!(hidden(), 0);
    assert_eq!(bed.ok(&["kernel", "ls", "--format", "json"]), "");
}

fn one_in_use_is_not_removed() {
    fixtures::kernel();
    bed().ok(&[
        "image",
        "import",
        "--name",
        "test/used",
        "--cmd",
        "sleep 1",
        busybox_tar().to_str().expect("UTF-8"),
    ]);
    let vm = Instance::named(bed(), "uses-it");
    bed().ok(&["create", "--name", "uses-it", "test/used"]);
    bed().fails(&["image", "rm", "test/used"], &["test/used", "uses-it"]);
    let kernel = bed().inspect("uses-it")["kernel"]["version"].as_str().expect("a version").to_owned();
    bed().fails(&["kernel", "rm", &kernel], &[&kernel]);
    drop(vm);
    bed().ok(&["image", "rm", "test/used"]);
    bed().fails(&["image", "inspect", "test/used"], &["test/used"]);
}

fn a_kernel_of_one_s_own_with_its_modules() {
    let image = busybox();
    let kernels = bed().ok(&["kernel", "ls", "--format", "json"]);
    let first: serde_json::Value =
        serde_json::from_str(kernels.lines().next().expect("a kernel")).expect("JSON");
    let vmlinuz = Path::new(first["vmlinuz"].as_str().expect("a path"));
    let modules = vmlinuz.with_file_name("modules");
    let modules = modules.to_str().expect("UTF-8");
    let import =
        ["kernel", "import", "--name", "0-own", "--modules", modules, vmlinuz.to_str().expect("UTF-8")];
    let _ = bed().run(&["kernel", "rm", "0-own"]); // of an earlier run of the tests that was interrupted
    bed().ok(&import);
    bed().fails(&import, &["0-own"]);
    let outcome = bed().run(&["run", "--rm", "--kernel", "0-own", image, "uname", "-s"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "Linux\n"), "{outcome:?}");
    bed().ok(&["kernel", "rm", "0-own"]);
}
