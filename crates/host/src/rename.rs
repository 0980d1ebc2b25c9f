//! Another name for an instance. Its guest keeps the host name that it has until it is started
//! anew.

use hypeman_record::network::Attached;
use hypeman_record::record::Record;
use hypeman_record::{format, names};

use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::name;
use crate::store::{Store, may_be_named};

/// Gives an instance another name, under which others on its network know it from then on.
///
/// # Errors
/// When it is no name, or another instance has it, or may have it.
pub(crate) fn rename(store: &Store, instance: &Instance, new: &str) -> Result<()> {
    name::check(new)?;
    let _others_keep_theirs = store.lock()?;
    let (others, damaged) = store.list()?;
    if let Some(other) = others.iter().find(|other| other.record.name == new) {
        return Err(Error::NameTaken { name: new.to_owned(), id: other.record.id.clone() });
    }
    if let Some(error) = damaged.into_iter().find(|error| may_be_named(error, new)) {
        return Err(error);
    }
    let _unchanged = instance.lock()?;
    let path = instance.directory.join(names::RECORD);
    let record =
        format::read::<Record>(&path)?.ok_or_else(|| Error::NotFound(instance.record.name.clone()))?;
    format::rewrite(&path, &Record { name: new.to_owned(), ..record })?;
    let path = instance.directory.join(names::ATTACHED);
    if let Some(attached) = format::read::<Attached>(&path)? {
        format::rewrite(&path, &Attached { name: new.to_owned(), ..attached })?;
    }
    Ok(())
}
