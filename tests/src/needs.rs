//! Requirements of tests on the machine, and how to get them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use hypeman_record::spec::{CpuFeatures, HypervisorKind};
use hypeman_vmm::Error;
use hypeman_vmm::findings::Findings;

/// Something a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A program.
    Tool {
        /// Its name.
        name: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// To be root: to mount a small disk or to build a Debian.
    Root,
    /// To make network namespaces, with bridges and rules in them.
    NetworkNamespaces,
    /// A cgroup of version 2 in which others can be made.
    Cgroups,
    /// A /dev/kvm that opens.
    Kvm,
    /// A KVM on which QEMU brings up VMs.
    QemuKvm,
    /// Cloud Hypervisor or its double.
    CloudHypervisor,
    /// A client of upstream's that `scripts/sdks.sh` has installed.
    Client {
        /// A file of it, below `target/sdk`.
        file: &'static str,
    },
    /// A program that a script puts into `target/tools`.
    Fetched {
        /// Its name.
        name: &'static str,
        /// The script, with its arguments.
        script: &'static str,
    },
}

/// Prometheus' promtool.
pub const PROMTOOL: Need = Need::Fetched { name: "promtool", script: "scripts/promtool.sh" };
/// To make Debian packages.
pub const CARGO_DEB: Need = Need::Fetched { name: "cargo-deb", script: "scripts/tool.sh cargo-deb 3.8.0" };
/// To check Debian packages.
pub const LINTIAN: Need = Need::Tool { name: "lintian", package: "lintian" };
/// QEMU.
pub const QEMU: Need = Need::Tool { name: "qemu-system-x86_64", package: "qemu-system-x86" };
/// logrotate.
pub const LOGROTATE: Need = Need::Tool { name: "logrotate", package: "logrotate" };
/// A registry.
pub const REGISTRY: Need = Need::Tool { name: "docker-registry", package: "docker-registry" };
/// To copy images to a registry.
pub const SKOPEO: Need = Need::Tool { name: "skopeo", package: "skopeo" };
/// To give a registry a password.
pub const HTPASSWD: Need = Need::Tool { name: "htpasswd", package: "apache2-utils" };
/// To build a Debian.
pub const MMDEBSTRAP: Need = Need::Tool { name: "mmdebstrap", package: "mmdebstrap" };
/// To ask a server.
pub const CURL: Need = Need::Tool { name: "curl", package: "curl" };
/// Upstream's client in Python.
pub const PYTHON_CLIENT: Need = Need::Client { file: "python/bin/python" };
/// Upstream's client in JavaScript.
pub const NPM_CLIENT: Need = Need::Client { file: "js/node_modules/@onkernel/hypeman" };
/// The program of the small image.
pub const BUSYBOX: Need = Need::Tool { name: "busybox", package: "busybox-static" };

impl Need {
    /// Why a test cannot run here and what to do, or `None` when nothing is lacking.
    #[must_use]
    pub fn lacking(self) -> Option<String> {
        match self {
            Need::Tool { name, package } => {
                find(name).is_none().then(|| format!("{name} is missing: apt-get install {package}"))
            }
            Need::Root => {
                (!rustix::process::geteuid().is_root()).then(|| "needs root: run `sudo make test`".to_owned())
            }
            Need::Cgroups => cgroups()
                .is_none()
                .then(|| "no cgroup of version 2 can be made; run as root of a host with one".to_owned()),
            Need::NetworkNamespaces => namespaces().clone(),
            Need::Client { file } => (!crate::server::sdks().join(file).exists())
                .then(|| format!("target/sdk/{file} is missing: run scripts/sdks.sh")),
            Need::Fetched { name, script } => {
                (!tool(name).exists()).then(|| format!("{name} is missing: run {script}"))
            }
            Need::CloudHypervisor => crate::ch::lacking(),
            Need::QemuKvm => {
                qemu_on_kvm().as_ref().err().map(|error| format!("{error}; run where KVM works"))
            }
            Need::Kvm => {
                let open = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
                open.err().map(|error| format!("/dev/kvm: {error}; run where KVM is"))
            }
        }
    }
}

/// The path of a program in `target/tools`.
#[must_use]
pub fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target/tools/bin").join(name)
}

/// The CPU features with which QEMU runs on KVM here, or why it does not; tried once.
pub fn qemu_on_kvm() -> &'static Result<CpuFeatures, Error> {
    static TRIED: OnceLock<Result<CpuFeatures, Error>> = OnceLock::new();
    TRIED.get_or_init(|| {
        let qemu = hypeman_vmm::hypervisor(HypervisorKind::Qemu).discover(None, &Findings::none())?;
        hypeman_vmm::qemu::try_features(&qemu)
    })
}

/// Where cgroups of version 2 are mounted and can be made.
#[must_use]
pub fn cgroups() -> Option<std::path::PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    let top = Path::new(mount.split(' ').nth(1)?).to_owned();
    let probe = top.join(format!("hypeman-probe-{}", std::process::id()));
    std::fs::create_dir(&probe).ok()?;
    std::fs::remove_dir(&probe).ok()?;
    Some(top)
}

/// Why network namespaces cannot be made here, with all that tests want in them; tried once.
fn namespaces() -> &'static Option<String> {
    static TRIED: OnceLock<Option<String>> = OnceLock::new();
    TRIED.get_or_init(|| {
        let tools = [
            ("ip", "iproute2"),
            ("nft", "nftables"),
            ("dnsmasq", "dnsmasq-base"),
            ("busybox", "busybox-static"),
        ];
        let missing = tools.iter().find_map(|(name, package)| Need::Tool { name, package }.lacking());
        let refused_why = || {
            let script =
                "ip link add bridge0 type bridge && ip tuntap add tap0 mode tap && nft add table inet t";
            let tried = std::process::Command::new("unshare").args(["--net", "sh", "-ec", script]).output();
            match tried {
                Ok(output) if output.status.success() => None,
                Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
                Err(error) => Some(error.to_string()),
            }
        };
        let refused =
            |why| format!("no network namespace with bridges, TAPs and nftables: {why}; run as root");
        missing.or_else(|| refused_why().map(refused))
    })
}

/// A program in `PATH`, or where Debian keeps those of root.
#[must_use]
pub fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories =
        std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(|d| Path::new(d).to_owned()));
    directories.map(|directory| directory.join(name)).find(|path| path.is_file())
}
