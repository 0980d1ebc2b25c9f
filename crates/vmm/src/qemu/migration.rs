//! Snapshots: QEMU's migration to a file, and from it.
//!
//! QEMU 7.2 has no `file:` yet (it came with 8.2), so a `cat` of its own carries the stream (qemu-options.hx, `-incoming exec`).

use std::path::Path;
use std::time::Duration;

use qapi::qmp;

use super::vm::QemuVm;
use crate::hypervisor::{Error, Result};

/// The file of a snapshot.
const FILE: &str = "memory";

/// How often an outcome is asked for.
const LOOK: Duration = Duration::from_millis(10);

impl QemuVm {
    /// Writes memory and devices of the stopped VM.
    pub(super) async fn save(&self, directory: &Path) -> Result<()> {
        let uri = format!("exec:cat > {}", quoted(&directory.join(FILE)));
        let migrate = qmp::migrate { uri: Some(uri), channels: None, detach: None, resume: None };
        self.execute(migrate).await?;
        self.wait_until_migrated("migrate").await
    }

    /// Reads them into the VM, which was started with `-incoming defer` and stays stopped.
    pub(super) async fn restore(&self, directory: &Path) -> Result<()> {
        let uri = format!("exec:cat {}", quoted(&directory.join(FILE)));
        self.execute(qmp::migrate_incoming { uri: Some(uri), channels: None, exit_on_error: None }).await?;
        self.wait_until_migrated("migrate-incoming").await
    }

    async fn wait_until_migrated(&self, request: &str) -> Result<()> {
        loop {
            let info = self.execute(qmp::query_migrate {}).await?;
            match info.status {
                Some(qmp::MigrationStatus::completed) => return Ok(()),
                Some(qmp::MigrationStatus::failed | qmp::MigrationStatus::cancelled) => {
                    let message =
                        info.error_desc.unwrap_or_else(|| "it failed; vmm.log may say why".to_owned());
                    return Err(Error::Api { request: request.to_owned(), message });
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

/// A path as one word of a shell's.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_path_is_one_word_to_a_shell() {
        let text = r#"a'b "$(c)" \d"#;
        let echo = format!("printf %s {}", super::quoted(text.as_ref()));
        let output = std::process::Command::new("sh").args(["-c", &echo]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), text);
    }
}
