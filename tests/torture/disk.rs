//! A disk that is full now and then.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use rustix::fs::FallocateFlags;

/// Longest time without room, and between two such times.
const LONGEST: Duration = Duration::from_millis(1500);
const LONGEST_PEACE: Duration = Duration::from_secs(6);

/// Takes all the room there is, some time from now, and gives it back.
pub(crate) fn fill_for_a_while(disk: &Path, rng: &mut Rng) {
    std::thread::sleep(LONGEST_PEACE.mul_f64(rng.f64()));
    let path = disk.join("filling");
    let file = File::create(&path).expect("a file");
    let mut size = 0;
    // Room that others free meanwhile is taken too.
    for _ in 0..3 {
        let free = rustix::fs::statvfs(disk).map_or(0, |disk| disk.f_bavail * disk.f_frsize);
        if rustix::fs::fallocate(&file, FallocateFlags::empty(), size, free).is_ok() {
            size += free;
        }
    }
    std::thread::sleep(LONGEST.mul_f64(rng.f64()));
    std::fs::remove_file(&path).expect("remove it");
}
