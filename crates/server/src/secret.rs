//! The secret by which tokens are signed.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hypeman_files::AtPath;
use ring::rand::{SecureRandom, SystemRandom};

/// Name of its file in the data directory, when the configuration has none.
const FILE: &str = "jwt_secret";

/// Length of a new secret in bytes: as much as its HMAC has.
const LENGTH: usize = 32;

/// The secret by which tokens are signed, never empty. Who knows it can do everything.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns the secret of the configuration, if it has one; else that of the data directory,
    /// which is made at the first use.
    ///
    /// # Errors
    /// When the data directory cannot be read or written.
    pub fn of(configured: Option<&str>, data_dir: &Path) -> hypeman_files::Result<Secret> {
        if let Some(text) = configured.filter(|text| !text.is_empty()) {
            return Ok(Secret(text.to_owned()));
        }
        let path = data_dir.join(FILE);
        match read(&path)? {
            Some(secret) => Ok(secret),
            None => make(data_dir, &path),
        }
    }

    /// The secret as bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn read(path: &Path) -> hypeman_files::Result<Option<Secret>> {
    let Some(bytes) = hypeman_files::read_existing(path)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(std::io::Error::other).at(path)?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()).map(Secret))
}

/// Makes a secret. Of two that do so at once, one finds that of the other.
fn make(data_dir: &Path, path: &Path) -> hypeman_files::Result<Secret> {
    let mut bytes = [0; LENGTH];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| std::io::Error::other("no random bytes")).at(Path::new("/dev/urandom"))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::create_dir_all(data_dir).at(data_dir)?;
    let draft: PathBuf = data_dir.join(format!(".{FILE}.{}", &text[..16]));
    let written = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        match std::fs::hard_link(&draft, path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    };
    let written = written();
    let _ = std::fs::remove_file(&draft); // has another name by now
    written.at(path)?;
    let missing = || std::io::Error::other("the secret in this file is empty; remove it for a new one");
    read(path)?.ok_or_else(missing).at(path)
}

/// Shows nothing of it.
impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_is_its_owner_s_alone_and_the_configured_one_wins() {
        let scratch = tempfile::tempdir().unwrap();
        let data_dir = scratch.path().join("data");
        let secrets: Vec<Secret> = std::thread::scope(|threads| {
            let made: Vec<_> =
                (0..8).map(|_| threads.spawn(|| Secret::of(None, &data_dir).unwrap())).collect();
            made.into_iter().map(|made| made.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0] && secret.0.len() == 2 * LENGTH));
        let mode = std::fs::metadata(data_dir.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&data_dir).unwrap().count(), 1, "no draft is left");
        assert_eq!(Secret::of(Some("mine"), &data_dir).unwrap(), Secret("mine".to_owned()));
        assert_eq!(format!("{:?}", secrets[0]), "Secret(***)");
    }
}
