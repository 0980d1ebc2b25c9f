//! A registry.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::processes::KilledOnDrop;
use crate::wait::until;

/// User and password that the registry wants.
pub const USER: &str = "ada";
/// The user's password.
pub const PASSWORD: &str = "lovelace";

/// A registry on a port of its own, which ends with this.
#[derive(Debug)]
pub struct Registry {
    _process: KilledOnDrop,
    directory: PathBuf,
    /// Its address.
    pub address: String,
}

impl Registry {
    /// Starts a registry that wants a password, whose files are in `directory`.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(directory: &Path) -> Registry {
        let passwords = Command::new("htpasswd").args(["-Bbn", USER, PASSWORD]).output().expect("htpasswd");
        std::fs::write(directory.join("htpasswd"), passwords.stdout).expect("write");
        let path = directory.join("htpasswd");
        Registry::configured(
            directory,
            &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}", path.display()),
        )
    }

    /// Starts a registry that is open to all.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_open(directory: &Path) -> Registry {
        Registry::configured(directory, "")
    }

    fn configured(directory: &Path, auth: &str) -> Registry {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/storage}}}}\n\
             http: {{addr: '{address}'}}\n{auth}\n",
            directory.display()
        );
        std::fs::write(directory.join("config.yml"), config).expect("write");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(directory.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let process = KilledOnDrop(command.spawn().expect("docker-registry"));
        until("the registry listens", || TcpStream::connect(&address).is_ok());
        Registry { _process: process, directory: directory.to_owned(), address }
    }

    /// Brings a root filesystem into the registry as an image, `NAME:TAG`, with this command.
    ///
    /// # Panics
    /// When the registry does not take it.
    pub fn push(&self, rootfs: &Path, image: &str, cmd: &[&str]) {
        let layout = self.directory.join("layout");
        crate::layout::write(&layout, rootfs, &serde_json::json!({ "Cmd": cmd }));
        let mut command = Command::new("skopeo");
        let credentials = format!("{USER}:{PASSWORD}");
        command.args([
            "copy",
            "-q",
            "--insecure-policy",
            "--dest-tls-verify=false",
            "--dest-creds",
            &credentials,
        ]);
        command.arg(format!("oci:{}", layout.display())).arg(format!("docker://{}/{image}", self.address));
        assert!(command.status().expect("skopeo").success());
    }
}
