//! Runs a program for its output, and ends it if it takes too long.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use wait_timeout::ChildExt;

/// Maximum length in bytes of each of its outputs; the rest is dropped.
const MOST: u64 = 16 * 1024 * 1024;

/// Time for what it has printed to arrive when it has ended: whoever it has started may have its
/// output open.
const REST: Duration = Duration::from_millis(500);

/// Runs a command with this input, and returns its output, of each stream the first 16 MiB.
///
/// # Errors
/// When it cannot be run, or has not ended in time: it is killed then.
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input); // one that has ended already takes nothing
    }
    let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
    let Some(status) = child.wait_timeout(limit)? else {
        let _ = child.kill(); // it may have ended just now
        child.wait()?;
        return Err(Error::new(ErrorKind::TimedOut, format!("it has not ended in {} s", limit.as_secs())));
    };
    let collect = |output: Receiver<Vec<u8>>| output.recv_timeout(REST).unwrap_or_default();
    Ok(Output { status, stdout: collect(stdout), stderr: collect(stderr) })
}

fn read(output: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (give, given) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut output) = output {
            let _ = (&mut output).take(MOST).read_to_end(&mut bytes);
            let _ = give.send(bytes);
            let _ = std::io::copy(&mut output, &mut std::io::sink()); // it is not to wait for us
        }
    });
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Output> {
        run(Command::new("sh").args(["-c", script]), b"input", limit)
    }

    #[test]
    fn a_program_that_hangs_is_ended_and_one_that_ends_has_its_output() {
        let error = shell("exec sleep 1000", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let output = shell("cat; echo word >&2; exit 3", Duration::from_secs(60)).unwrap();
        assert_eq!((&*output.stdout, &*output.stderr), (&b"input"[..], &b"word\n"[..]));
        assert_eq!(output.status.code(), Some(3));
    }
}
