//! One inotify for all that a process watches: a user may have few of them
//! (`/proc/sys/fs/inotify/max_user_instances`, 128), and each follower of a log needs one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::Notify;

/// Name of the thread that reads the events.
const THREAD: &str = "hypeman-inotify";

/// Size of a read of events in bytes.
const BUFFER: usize = 16 * 1024;

/// The hub of this process, once somebody has watched something.
static HUB: Mutex<Option<Arc<Hub>>> = Mutex::new(None);

/// What a process watches.
struct Hub {
    watched: Mutex<Watched>,
}

struct Watched {
    watches: Watches,
    subscribers: HashMap<WatchDescriptor, Vec<Arc<Subscriber>>>,
}

/// Is told of events.
#[derive(Debug, Default)]
struct Subscriber {
    told: Notify,
    is_moved: AtomicBool,
}

/// A subscription to the events of a directory.
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    descriptor: WatchDescriptor,
    subscriber: Arc<Subscriber>,
}

impl Subscription {
    /// Subscribes to the events of a directory.
    pub(crate) fn to(directory: &Path) -> std::io::Result<Subscription> {
        let hub = Hub::of_process()?;
        let subscriber = Arc::new(Subscriber::default());
        let descriptor = {
            // Locked while it is added, so that its first event finds it.
            let mut watched = hub.lock();
            let descriptor = watched.watches.add(directory, mask())?;
            watched.subscribers.entry(descriptor.clone()).or_default().push(subscriber.clone());
            descriptor
        };
        Ok(Subscription { hub, descriptor, subscriber })
    }

    /// Waits for an event since the last call; `true` when the directory may be another by now.
    /// May be dropped in between.
    pub(crate) async fn next(&self) -> bool {
        self.subscriber.told.notified().await;
        self.subscriber.is_moved.swap(false, Ordering::AcqRel)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut watched = self.hub.lock();
        let Watched { watches, subscribers } = &mut *watched;
        let Some(others) = subscribers.get_mut(&self.descriptor) else { return };
        others.retain(|other| !Arc::ptr_eq(other, &self.subscriber));
        if others.is_empty() {
            subscribers.remove(&self.descriptor);
            let _ = watches.remove(self.descriptor.clone()); // its directory may be gone
        }
    }
}

impl Hub {
    fn of_process() -> std::io::Result<Arc<Hub>> {
        let mut hub = HUB.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = &*hub {
            return Ok(hub.clone());
        }
        let inotify = Inotify::init()?;
        let watched = Watched { watches: inotify.watches(), subscribers: HashMap::new() };
        let new = Arc::new(Hub { watched: Mutex::new(watched) });
        let reader = new.clone();
        std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || reader.read(inotify))?;
        Ok(hub.insert(new).clone())
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes events on, as long as the process lives.
    fn read(&self, mut inotify: Inotify) {
        let mut buffer = vec![0; BUFFER];
        loop {
            let events = match inotify.read_events_blocking(&mut buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!("no event of files is told any more: {error}");
                    return;
                }
            };
            let mut watched = self.lock();
            for event in events {
                // Of events that were lost everybody is told.
                let is_lost = event.mask.contains(EventMask::Q_OVERFLOW);
                let is_moved = is_lost || event.mask.intersects(removal());
                let all = watched.subscribers.values().filter(|_| is_lost).flatten();
                let its_own = watched.subscribers.get(&event.wd).into_iter().flatten();
                all.chain(its_own).for_each(|subscriber| subscriber.tell(is_moved));
                if event.mask.contains(EventMask::IGNORED) {
                    watched.subscribers.remove(&event.wd);
                }
            }
        }
    }
}

impl Subscriber {
    fn tell(&self, is_moved: bool) {
        self.is_moved.fetch_or(is_moved, Ordering::AcqRel);
        self.told.notify_one();
    }
}

fn mask() -> WatchMask {
    WatchMask::MODIFY
        | WatchMask::CREATE
        | WatchMask::MOVED_TO
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
}

/// Events after which the directory may be another.
fn removal() -> EventMask {
    EventMask::DELETE | EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hundreds_are_told_of_one_directory_and_of_their_own_by_one_inotify() {
        let scratch = tempfile::tempdir().unwrap();
        let common = scratch.path().join("common");
        std::fs::create_dir(&common).unwrap();
        let of_common: Vec<_> = (0..300).map(|_| Subscription::to(&common).unwrap()).collect();
        let mut of_own = Vec::new();
        for number in 0..300 {
            let directory = scratch.path().join(format!("{number}"));
            std::fs::create_dir(&directory).unwrap();
            of_own.push((Subscription::to(&directory).unwrap(), directory));
        }
        std::fs::write(common.join("file"), "x").unwrap();
        for subscription in &of_common {
            assert!(!subscription.next().await);
        }
        for (subscription, directory) in &of_own {
            std::fs::write(directory.join("file"), "x").unwrap();
            assert!(!subscription.next().await);
        }
        drop(of_common.into_iter().skip(1).collect::<Vec<_>>());
        let (subscription, directory) = &of_own[0];
        std::fs::remove_dir_all(directory).unwrap();
        while !subscription.next().await {}
    }
}
