//! Environment variables from `-e` and `--env-file`, by docker's rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The variables of the files, in order, and then those given one by one.
pub(crate) fn collect(files: &[PathBuf], given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut env = BTreeMap::new();
    for file in files {
        read(file, &mut env).with_context(|| format!("--env-file {}", file.display()))?;
    }
    for text in given {
        set(text, &mut env).with_context(|| format!("-e {text}"))?;
    }
    Ok(env)
}

/// Lines of NAME=VALUE; empty ones and those that begin with `#` are skipped. Quotes are part of
/// the value, as docker has it (docker run --env-file), which is why no crate for dotenv files will
/// do.
fn read(file: &Path, env: &mut BTreeMap<String, String>) -> Result<()> {
    let text = std::fs::read_to_string(file)?;
    // Editors on Windows begin a file with a byte order mark.
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if !line.is_empty() && !line.starts_with('#') {
            set(line, env).with_context(|| format!("line {}", number + 1))?;
        }
    }
    Ok(())
}

/// `NAME=VALUE`, or `NAME` for the value it has here, if it has one.
fn set(text: &str, env: &mut BTreeMap<String, String>) -> Result<()> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, std::env::var(text).ok()),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        bail!("{name:?} is no name of a variable; give NAME=VALUE");
    }
    if let Some(value) = value {
        env.insert(name.to_owned(), value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_variables_win_over_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("env");
        std::fs::write(&file, "\u{feff}# comment\n\nA=1\nB=\"2\" 3\nHYPEMAN_TEST_UNSET_VARIABLE\n").unwrap();
        let env = collect(&[file], &["A=x=y".to_owned()]).unwrap();
        assert_eq!(env, BTreeMap::from([("A".into(), "x=y".into()), ("B".into(), "\"2\" 3".into())]));
    }

    #[test]
    fn a_bad_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("env");
        std::fs::write(&file, "A=1\n=2\n").unwrap();
        let error = format!("{:#}", collect(std::slice::from_ref(&file), &[]).unwrap_err());
        assert!(error.contains("line 2") && error.contains(file.to_str().unwrap()), "{error}");
    }
}
