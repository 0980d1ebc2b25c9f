//! hypeman started by a service, whose cgroup is ended as a whole.

use std::path::{Path, PathBuf};
use std::process::Command;

use hypeman_tests::guest::Guest;
use hypeman_tests::needs::{Need, QEMU, cgroups};
use hypeman_tests::netns::Host;
use hypeman_tests::vm::Instance;
use hypeman_tests::wait::until;

use crate::promises;

promises! {
    [QEMU, Need::NetworkNamespaces, Need::Cgroups] the_end_of_a_service_is_not_that_of_its_vms;
}

/// A cgroup of a service, which goes with its test.
struct Service(PathBuf);

impl Service {
    fn new() -> Service {
        let group = cgroups().expect("cgroups").join(format!("hypeman-test-{}", std::process::id()));
        std::fs::create_dir(&group).expect("a cgroup");
        Service(group)
    }

    /// Runs a command in it.
    fn run(&self, command: &Command) {
        let mut inside = Command::new("sh");
        let join = "echo $$ >\"$0\" && exec \"$@\"";
        inside.args(["-ec", join]).arg(self.0.join("cgroup.procs")).arg(command.get_program());
        inside.args(command.get_args()).env_clear();
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let output = inside.output().expect("sh");
        assert!(output.status.success(), "{output:?}");
    }

    /// Processes that systemd would end with it.
    fn members(&self) -> Vec<String> {
        let pids = std::fs::read_to_string(self.0.join("cgroup.procs")).expect("the members");
        let name = |pid: &str| std::fs::read_to_string(Path::new("/proc").join(pid).join("cmdline")).ok();
        pids.lines().filter_map(name).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn the_end_of_a_service_is_not_that_of_its_vms() {
    let (host, service) = (Host::new(), Service::new());
    let guest = Guest::new(host.bed(), "of-a-service").with(&["--network", "default"]).arguments();
    // As `ip netns exec`, but with the cgroups of the host (ip-netns(8) mounts another /sys).
    let mut run = Command::new("nsenter");
    run.arg(format!("--net=/run/netns/{}", host.namespace())).arg(&host.bed().hypeman);
    run.args(["run", "-d"]).args(guest).env("HYPEMAN_DATA_DIR", &host.bed().data_dir);
    let vm = Instance::named(host.bed(), "of-a-service");
    service.run(&run);
    // Its shim, its VMM, and the DNS server of its network.
    until("nothing of ours is in the service", || service.members().is_empty());
    assert_eq!(host.bed().inspect(&vm.name)["state"], "Running");
}
