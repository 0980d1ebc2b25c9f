//! exec and cp beside what they cannot do without: the guest's own fork and exec, and the channel
//! as it is, with `dd` and `tar` at its ends. Prints tables for docs/performance.md.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hypeman_tests::bed::Bed;
use hypeman_tests::fixtures;
use hypeman_tests::measure::{median, timed};
use hypeman_tests::needs::{BUSYBOX, QEMU, find};
use hypeman_tests::vm::Instance;

/// Commands of each kind.
const COMMANDS: usize = 50;

/// The large file, in bytes.
const SIZE: usize = 1 << 30;

/// Rounds of the copies.
const ROUNDS: usize = 3;

/// The small files.
const FILES: usize = 10_000;

/// Block size of tar's archives in bytes.
const TAR_BLOCK: u64 = 10_240;

const NAME: &str = "exec-bench";

fn main() {
    for need in [QEMU, BUSYBOX] {
        if let Some(lacking) = need.lacking() {
            println!("SKIPPED exec: {lacking}");
            return;
        }
    }
    let scratch = tempfile::tempdir().expect("a directory");
    for machine in ["qemu", "qemu-microvm"] {
        let bed = with_raw_port(scratch.path(), machine);
        let arguments = ["--hypervisor", machine, "--accel", "tcg", "--confine", "off"];
        let vm = Instance::idle(&bed, NAME, &arguments);
        println!("{machine}:\n");
        commands(&bed);
        if machine == "qemu" {
            Copies::new(&bed, &vm, scratch.path()).measure();
        }
        memory(&bed);
    }
}

/// A bed whose QEMU has another port, called `raw`, beside the agent's.
fn with_raw_port(scratch: &Path, machine: &str) -> Bed {
    let qemu = find("qemu-system-x86_64").expect("QEMU");
    let more =
        "-chardev socket,id=raw,path=raw.sock,server=on,wait=off -device virtserialport,chardev=raw,name=raw";
    let script = scratch.join(format!("qemu-{machine}"));
    let text = format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || exec {0} --version\nexec {0} \"$@\" {more}\n",
        qemu.display()
    );
    std::fs::write(&script, text).expect("write");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("chmod");
    fixtures::bed().clone().with("HYPEMAN_QEMU", script)
}

fn shell(bed: &Bed, script: &str) -> String {
    bed.shell(NAME, script)
}

fn commands(bed: &Bed) {
    let own = shell(
        bed,
        "now() { cut -d' ' -f1 /proc/uptime; }; begin=$(now); i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done; echo $begin $(now)",
    );
    let times: Vec<f64> = own.split(' ').map(|time| time.parse().expect("a time")).collect();
    let own = (times[1] - times[0]) * 1000.0 / 200.0;
    let ours = median((0..COMMANDS).map(|_| timed(|| bed.ok(&["exec", NAME, "/bin/true"])).0).collect());
    let begin = median((0..COMMANDS).map(|_| timed(|| bed.ok(&["--version"])).0).collect());
    println!("| `true`, median of {COMMANDS} | ms |\n|---|---|");
    println!("| the guest's own fork and exec | {own:.1} |");
    println!("| `hypeman exec` | {ours:.1} |");
    println!("| on top | {:.1} |", ours - own);
    println!("| of that `hypeman` itself, as it takes to print its version | {begin:.1} |\n");
}

struct Copies<'a> {
    bed: &'a Bed,
    scratch: &'a Path,
    socket: std::path::PathBuf,
    /// The raw port in the guest.
    port: String,
}

impl Copies<'_> {
    fn new<'a>(bed: &'a Bed, vm: &Instance<'_>, scratch: &'a Path) -> Copies<'a> {
        let look = "for port in /sys/class/virtio-ports/*; do [ $(cat $port/name) != raw ] || echo /dev/${port##*/}; done";
        Copies { bed, scratch, socket: vm.directory().join("vmm/raw.sock"), port: shell(bed, look) }
    }

    fn measure(&self) {
        let file = self.scratch.join("large");
        let piece: Vec<u8> =
            (0..1_u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut large = File::create(&file).expect("a file");
        (0..SIZE >> 20).for_each(|_| large.write_all(&piece).expect("write"));
        let small = self.scratch.join("small");
        std::fs::create_dir_all(&small).expect("a directory");
        for number in 0..FILES {
            std::fs::write(small.join(number.to_string()), &piece[..1024]).expect("write");
        }
        let [file, small] = [&file, &small].map(|path| path.to_str().expect("UTF-8"));
        let mut times: [Vec<Duration>; 8] = Default::default();
        for _ in 0..ROUNDS {
            let take = format!(
                "dd if={} of=/raw bs=64k count={} iflag=fullblock 2>/dev/null",
                self.port,
                SIZE >> 16
            );
            times[0].push(self.send_raw(&take, || File::open(file).expect("it")));
            times[1].push(self.timed(&["cp", "-q", file, &format!("{NAME}:/ours")]));
            let back = self.scratch.join("back");
            times[2].push(self.receive_raw(
                &format!("dd if=/raw of={} bs=64k 2>/dev/null", self.port),
                |socket| {
                    let mut target = File::create(&back).expect("a file");
                    std::io::copy(&mut socket.take(SIZE as u64), &mut target).expect("copy");
                },
            ));
            times[3].push(self.timed(&["cp", "-q", &format!("{NAME}:/ours"), back.to_str().expect("UTF-8")]));
            self.clean("/ours /raw");

            let tar = self.scratch.join("small.tar");
            let made = Command::new("tar").args(["-C", small, "-cf"]).arg(&tar).arg(".").status();
            assert!(made.expect("tar").success());
            let blocks = tar.metadata().expect("it").len() / TAR_BLOCK;
            let take = format!(
                "mkdir /raw; dd if={} bs={TAR_BLOCK} count={blocks} iflag=fullblock 2>/dev/null | tar xf - -C /raw",
                self.port
            );
            times[4].push(self.send_raw(&take, || File::open(&tar).expect("it")));
            times[5].push(self.timed(&["cp", "-q", small, &format!("{NAME}:/ours")]));
            let back = self.scratch.join("small-back");
            std::fs::create_dir_all(&back).expect("a directory");
            times[6].push(self.receive_raw(&format!("tar cf {} -C /raw .", self.port), |socket| {
                let mut tar = Command::new("tar")
                    .arg("-C")
                    .arg(&back)
                    .args(["-xf", "-"])
                    .stdin(Stdio::piped())
                    .spawn()
                    .expect("tar");
                let mut stdin = tar.stdin.take().expect("piped");
                // To the end of the archive, after which tar reads no more.
                let _ = std::io::copy(&mut { socket }, &mut stdin);
                drop(stdin);
                assert!(tar.wait().expect("its end").success());
            }));
            std::fs::remove_dir_all(&back).expect("remove it");
            times[7].push(self.timed(&["cp", "-q", &format!("{NAME}:/ours"), back.to_str().expect("UTF-8")]));
            std::fs::remove_dir_all(&back).expect("remove it");
            self.clean("/ours /raw");
        }
        let [raw_in, ours_in, raw_out, ours_out, tar_in, small_in, tar_out, small_out] =
            times.map(|times| median(times) / 1000.0);
        println!("| median of {ROUNDS} | raw channel | hypeman cp | of it |\n|---|---|---|---|");
        let line = |what: &str, raw: f64, ours: f64| {
            println!("| {what} | {raw:.1} s | {ours:.1} s | {:.2} |", raw / ours)
        };
        line("1 GiB into the guest, beside dd", raw_in, ours_in);
        line("1 GiB out of it, beside dd", raw_out, ours_out);
        line(&format!("{FILES} files of 1 KiB into it, beside tar"), tar_in, small_in);
        line(&format!("{FILES} files of 1 KiB out of it, beside tar"), tar_out, small_out);
        println!();
    }

    fn timed(&self, arguments: &[&str]) -> Duration {
        timed(|| self.bed.ok(arguments)).0
    }

    fn clean(&self, what: &str) {
        shell(self.bed, &format!("rm -r {what}; sync"));
    }

    /// Has the guest take what is written to the raw port, from the first byte to its being done.
    fn send_raw<R: Read>(&self, take: &str, source: impl FnOnce() -> R) -> Duration {
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| shell(self.bed, take));
            let socket = UnixStream::connect(&self.socket).expect("the raw port");
            timed(|| {
                std::io::copy(&mut source(), &mut { &socket }).expect("write");
                taker.join().expect("no panic")
            })
            .0
        })
    }

    /// Has the guest write to the raw port, until all of it is read.
    fn receive_raw(&self, write: &str, read: impl FnOnce(&UnixStream)) -> Duration {
        let socket = UnixStream::connect(&self.socket).expect("the raw port");
        let socket = &socket;
        std::thread::scope(|scope| {
            timed(|| {
                scope.spawn(move || {
                    shell(self.bed, write);
                    // The guest's output is in QEMU first, and then here.
                    std::thread::sleep(Duration::from_millis(50));
                    let _ = socket.shutdown(Shutdown::Both);
                });
                read(socket);
            })
            .0
        })
    }
}

fn memory(bed: &Bed) {
    let look = "for file in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $file | grep -q 'exe agent $' && d=${file%/cmdline} && \
                grep VmRSS $d/status && grep ^Pss: $d/smaps_rollup; done 2>/dev/null; ls -l /proc/1/exe >/dev/null";
    println!(
        "the agent, afterwards: {}\n",
        shell(bed, look).split_whitespace().collect::<Vec<_>>().join(" ")
    );
}
