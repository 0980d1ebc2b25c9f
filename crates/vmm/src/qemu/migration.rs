//! Snapshots: QEMU's migration to a file, and from it.
//!
//! From 9.0 on a page of memory has its place in the file (`mapped-ram`), which is then no larger
//! than the memory. Before, the stream is written into a descriptor that QEMU gets over QMP: it
//! knows no `file:` before 8.2, and with `exec:` nobody would learn that the disk is full
//! (migration/fd.c, migration/file.c).

use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use hypeman_files::AtPath;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::json;

use super::file_format::FileFormat;
use super::qmp::{
    Getfd, Migrate, MigrateCancel, MigrateIncoming, MigrateSetCapabilities, MigrateSetParameters,
    MigrationStatus, QueryMigrate,
};
use super::vm::QemuVm;
use crate::error::{Error, Result};
use crate::home;

/// The file of a snapshot.
pub(super) const FILE: &str = "memory";

/// By what name QEMU knows its descriptor.
const DESCRIPTOR: &str = "snapshot";

/// How often an outcome is asked for.
const LOOK: Duration = Duration::from_millis(1);

impl QemuVm {
    /// Writes memory and devices of the stopped VM.
    pub(super) async fn save(&self, directory: &Path) -> Result<()> {
        self.forget_last().await?;
        // Without a limit: nobody uses the disk for anything that would not have to wait for this.
        self.execute(MigrateSetParameters { max_bandwidth: i64::MAX.unsigned_abs() }).await?;
        let home = home::own(&self.directory);
        let uri = match (self.file_format, &home) {
            (FileFormat::Stream, _) => {
                let path = self.directory.join(directory).join(FILE);
                let mut options = OpenOptions::new();
                let file =
                    options.write(true).create(true).truncate(true).mode(0o600).open(&path).at(&path)?;
                self.stream(&path, &file).await?
            }
            (FileFormat::Mapped, Some(home)) => self.mapped(&home::begin_snapshot(home)?.join(FILE)).await?,
            (FileFormat::Mapped, None) => self.mapped(&directory.join(FILE)).await?,
        };
        self.execute(Migrate { uri }).await?;
        self.wait_until_migrated("migrate").await?;
        match home {
            Some(home) if self.file_format == FileFormat::Mapped => {
                home::take_snapshot(&home, &self.directory.join(directory))
            }
            _ => Ok(()),
        }
    }

    /// Reads them into the VM, which was started with `-incoming defer` and stays stopped.
    pub(super) async fn restore(&self, directory: &Path) -> Result<()> {
        let uri = match (self.file_format, home::own(&self.directory)) {
            (FileFormat::Stream, _) => {
                let path = self.directory.join(directory).join(FILE);
                let file = File::open(&path).at(&path)?;
                self.stream(&path, &file).await?
            }
            (FileFormat::Mapped, Some(_)) => self.mapped(&home::restored().join(FILE)).await?,
            (FileFormat::Mapped, None) => self.mapped(&directory.join(FILE)).await?,
        };
        self.execute(MigrateIncoming { uri }).await?;
        self.wait_until_migrated("migrate-incoming").await
    }

    /// Ends a migration that was given up. Without one this does nothing.
    pub(super) async fn forget_last(&self) -> Result<()> {
        self.execute(MigrateCancel {}).await?;
        loop {
            let info = self.execute(QueryMigrate {}).await?;
            match info.status {
                None
                | Some(
                    MigrationStatus::None
                    | MigrationStatus::Completed
                    | MigrationStatus::Failed
                    | MigrationStatus::Cancelled,
                ) => return Ok(()),
                Some(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Makes QEMU ready for a file in which each page has its place. What it is to be called.
    async fn mapped(&self, path: &Path) -> Result<String> {
        let mapped = json!({"capability": "mapped-ram", "state": true});
        self.execute(MigrateSetCapabilities { capabilities: vec![mapped] }).await?;
        Ok(format!("file:{}", path.display()))
    }

    /// Makes QEMU ready for a stream into or from a file, which it gets. What it is to be called.
    async fn stream(&self, path: &Path, file: &File) -> Result<String> {
        self.send(file).at(path)?;
        self.execute(Getfd { fdname: DESCRIPTOR.to_owned() }).await?;
        Ok(format!("fd:{DESCRIPTOR}"))
    }

    /// Sends a descriptor, which QEMU keeps for the next `getfd`. A byte has to go with it; a space
    /// means nothing in JSON.
    fn send(&self, file: &File) -> std::io::Result<()> {
        let descriptors = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(b" ")], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    async fn wait_until_migrated(&self, request: &str) -> Result<()> {
        loop {
            let info = self.execute(QueryMigrate {}).await?;
            match info.status {
                Some(MigrationStatus::Completed) => return Ok(()),
                Some(MigrationStatus::Failed | MigrationStatus::Cancelled) => {
                    let message =
                        info.error_desc.unwrap_or_else(|| "it failed; vmm.log may say why".to_owned());
                    return Err(Error::Api { request: request.to_owned(), message });
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }
}
