//! A hostile VMM: it runs in QEMU's place, tries to reach what is not its own, and reports its
//! success. Its victims are in the argument of the kernel's command line (`-append`).
#![allow(unsafe_code)] // raw system calls, which is how an intruder makes them

use std::fs::{File, OpenOptions};
use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

use libc::c_long;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--version") {
        return println!("QEMU emulator version 7.2.22");
    }
    // Into the one place that is its own.
    let report = File::create("report").expect("a report");
    rustix::stdio::dup2_stdout(&report).expect("print into the report");
    let append = arguments.iter().skip_while(|argument| *argument != "-append").nth(1);
    for victim in append.map(String::as_str).unwrap_or_default().split_whitespace() {
        match victim.split_once('=') {
            Some(("file", path)) => {
                tell(&format!("read {path}"), File::open(path).and_then(|mut file| file.read(&mut [0; 16])));
                tell(&format!("write {path}"), OpenOptions::new().append(true).open(path));
            }
            Some(("list", path)) => tell(&format!("list {path}"), std::fs::read_dir(path)),
            Some(("socket", path)) => {
                tell(&format!("connect {path}"), UnixStream::connect(path));
                tell(
                    &format!("send to {path}"),
                    UnixDatagram::unbound().and_then(|socket| socket.send_to(b"x", path)),
                );
            }
            Some(("port", port)) => {
                tell("connect to the host", TcpStream::connect(format!("127.0.0.1:{port}")))
            }
            Some(("process", pid)) => process(pid.parse().expect("a pid")),
            _ => panic!("{victim} is no victim"),
        }
    }
    start_another();
    change_the_host();
    use_what_is_its_own();
    println!("escaped-vmm is done");
}

fn tell<T>(attempt: &str, result: Result<T>) {
    match result {
        Ok(_) => println!("GOT {attempt}"),
        Err(error) => println!("no {attempt}: {error}"),
    }
}

/// A system call with up to four arguments, the rest 0.
fn call(number: c_long, arguments: [c_long; 4]) -> Result<c_long> {
    let [a, b, c, d] = arguments;
    // SAFETY: no call below is given an address that it could write to, but null.
    match unsafe { libc::syscall(number, a, b, c, d, 0, 0) } {
        -1 => Err(Error::last_os_error()),
        result => Ok(result),
    }
}

/// As [`call`]; of a process that it made, the child ends here.
fn fork(attempt: &str, number: c_long, arguments: [c_long; 4]) {
    let made = call(number, arguments);
    if matches!(made, Ok(0)) {
        // SAFETY: it ends this process without running anything of it.
        unsafe { libc::_exit(0) };
    }
    tell(attempt, made);
}

fn start_another() {
    fork("fork", libc::SYS_fork, [0; 4]);
    fork("clone", libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0]);
    fork("fork by x32's number", libc::SYS_fork | 0x4000_0000, [0; 4]);
    tell(
        "clone3",
        call(libc::SYS_clone3, [0; 4]).or_else(|error| match error.raw_os_error() {
            Some(libc::EINVAL | libc::EFAULT) => Ok(0), // the kernel has looked at it
            _ => Err(error),
        }),
    );
    tell("run a program", Command::new("/bin/true").status());
    tell(
        "io_uring",
        call(libc::SYS_io_uring_setup, [1, 0, 0, 0]).or_else(|error| match error.raw_os_error() {
            Some(libc::EFAULT) => Ok(0),
            _ => Err(error),
        }),
    );
}

fn process(pid: c_long) {
    tell("signal a process", call(libc::SYS_kill, [pid, 0, 0, 0]));
    tell("signal all", call(libc::SYS_kill, [-1, 0, 0, 0]));
    tell("signal a thread", call(libc::SYS_tgkill, [pid, pid, 0, 0]));
    tell("signal by tkill", call(libc::SYS_tkill, [pid, 0, 0, 0]));
    tell("a pidfd", call(libc::SYS_pidfd_open, [pid, 0, 0, 0]));
    tell("trace it", call(libc::SYS_ptrace, [libc::PTRACE_SEIZE.into(), pid, 0, 0]));
    tell("limit it", call(libc::SYS_prlimit64, [pid, libc::RLIMIT_NOFILE.into(), 0, 0]));
    for file in ["mem", "environ", "maps"] {
        let path = format!("/proc/{pid}/{file}");
        tell(&format!("open {file} of a process"), File::open(path));
    }
    for number in [17, 32, 34] {
        tell("a descriptor of a process", File::open(format!("/proc/{pid}/fd/{number}")));
    }
}

fn change_the_host() {
    tell("become root", call(libc::SYS_setuid, [0; 4]));
    tell("a user namespace", call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0]));
    tell("another's namespace", File::open("/proc/1/ns/mnt"));
    tell("mount", call(libc::SYS_mount, [0; 4]));
    tell("BPF", call(libc::SYS_bpf, [0; 4]));
    tell("keys", call(libc::SYS_keyctl, [0, -3, 1, 0]));
    for device in ["/dev/mem", "/dev/vda", "/dev/sda", "/dev/tty", "/dev/net/tun", "/dev/fuse"] {
        tell(&format!("open {device}"), OpenOptions::new().read(true).open(device));
    }
    for path in
        ["/etc/shadow", "/etc/passwd", "/root/.ssh/id_rsa", "/proc/1/environ", "/proc/kcore", "/tmp", "/"]
    {
        tell(&format!("open {path}"), File::open(path));
    }
    tell("make a file in /tmp", File::create("/tmp/escaped"));
    tell("write its own kernel", OpenOptions::new().write(true).open("/proc/self/fd/32"));
}

/// Uses what it must have.
fn use_what_is_its_own() {
    let own = |what: &str, result: Result<()>| match result {
        Ok(()) => println!("has {what}"),
        Err(error) => println!("LACKS {what}: {error}"),
    };
    own("its kernel", File::open("/proc/self/fd/32").and_then(|mut file| file.read_exact(&mut [0; 4])));
    own("its directory", File::create("own").and_then(|mut file| file.write_all(b"x")));
    own("its thread", std::thread::Builder::new().spawn(|| ()).map(drop));
    own("its console", OpenOptions::new().read(true).write(true).open("console.out").map(drop));
    own("random numbers", File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut [0; 4])));
}
