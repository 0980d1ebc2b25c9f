//! Waits for a log to change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::hub::Subscription;

/// Tells when something in the directory of a log has changed. Needs a tokio runtime.
pub struct Watch {
    path: PathBuf,
    /// `None` when someone has removed the log, and its directory perhaps, of which nothing is told
    /// while we have a file of it open.
    subscription: Option<Subscription>,
}

/// How often a log is looked for that was removed.
const LOOK: Duration = Duration::from_millis(100);

impl Watch {
    /// Watches the log at `path`, which need not exist yet. Watch first and read then: what comes
    /// in between is told.
    ///
    /// # Errors
    /// When its directory is not there, or this user watches too much already
    /// (`/proc/sys/fs/inotify`).
    pub fn on(path: &Path) -> std::io::Result<Watch> {
        let subscription = Some(Subscription::to(directory(path))?);
        Ok(Watch { path: path.to_owned(), subscription })
    }

    /// Waits for a change since the last call. May be dropped in between.
    ///
    /// # Errors
    /// When it cannot be watched any more.
    pub async fn changed(&mut self) -> std::io::Result<()> {
        let Some(subscription) = &self.subscription else {
            // Its writer makes it again.
            while self.subscription.is_none() {
                tokio::time::sleep(LOOK).await;
                self.watch_again()?;
            }
            return Ok(());
        };
        if subscription.next().await {
            self.watch_again()?;
        }
        Ok(())
    }

    /// Watches the directory in which the log is now, if it is there: another perhaps.
    fn watch_again(&mut self) -> std::io::Result<()> {
        self.subscription = match self.path.exists().then(|| Subscription::to(directory(&self.path))) {
            None => None,
            Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => None,
            Some(subscription) => Some(subscription?),
        };
        Ok(())
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Watch").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_that_is_another_before_anyone_looked_is_watched() {
        let scratch = tempfile::tempdir().unwrap();
        let log = scratch.path().join("logs/app.log");
        let make = || {
            std::fs::create_dir(log.parent().unwrap()).unwrap();
            std::fs::write(&log, "x").unwrap();
        };
        for is_moved in [false, true] {
            make();
            let _held_open = std::fs::File::open(&log).unwrap();
            let mut watch = Watch::on(&log).unwrap();
            if is_moved {
                std::fs::rename(log.parent().unwrap(), scratch.path().join("moved")).unwrap();
            } else {
                std::fs::remove_dir_all(log.parent().unwrap()).unwrap();
            }
            make();
            let told = async { while watch.changed().await.is_ok() {} };
            assert!(tokio::time::timeout(LOOK, told).await.is_err(), "all is told that has happened");
            std::fs::write(&log, "xy").unwrap();
            tokio::time::timeout(LOOK * 100, watch.changed()).await.expect("it is told").unwrap();
            std::fs::remove_dir_all(log.parent().unwrap()).unwrap();
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_removed_and_made_again_is_watched_again() {
        let scratch = tempfile::tempdir().unwrap();
        let log = scratch.path().join("logs/app.log");
        std::fs::create_dir(log.parent().unwrap()).unwrap();
        std::fs::write(&log, "x").unwrap();
        let _held_open = std::fs::File::open(&log).unwrap();
        let mut watch = Watch::on(&log).unwrap();
        std::fs::remove_dir_all(log.parent().unwrap()).unwrap();
        watch.changed().await.unwrap();
        let made = async {
            tokio::task::yield_now().await;
            std::fs::create_dir(log.parent().unwrap()).unwrap();
            std::fs::write(&log, "x").unwrap();
        };
        let (changed, ()) = tokio::join!(watch.changed(), made);
        changed.unwrap();
        std::fs::write(&log, "xy").unwrap();
        watch.changed().await.unwrap();
    }
}
