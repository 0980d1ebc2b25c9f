//! Files that several processes share without a daemon: locks that die with their holder, and records that a reader
//! never sees half-written.

mod copy;
mod draft;
mod error;
mod limits;
mod lock;
mod records;

pub use copy::{copy_open, copy_sparse, open_plain, open_plain_below};
pub use draft::{Draft, entries, lock_store, remove_directory, remove_entry};
pub use error::{AtPath, Error, Result, with_causes};
pub use limits::raise_descriptor_limit;
pub use lock::{Existing, Holding, Lock, holding, is_held};
pub use records::{
    read_at_most, read_existing, read_json, remove_tree, replace, replace_unsynced, sync_directory,
    write_disk, write_json, write_json_unsynced,
};
