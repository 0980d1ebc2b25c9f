//! Files that several processes share without a daemon.
//!
//! Owns locks that die with their holder, records that a reader never sees half-written, drafts
//! that become visible when they are whole, and sparse copies.
//!
//! Must not know: what is in a record.

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
