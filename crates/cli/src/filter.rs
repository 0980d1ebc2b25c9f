//! Filters of listings.

use std::str::FromStr;

/// Something that has to hold of an instance to be listed, docker's.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) key: Key,
    pub(crate) value: String,
}

/// The kind of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Name,
    Id,
    Status,
    Ancestor,
    Network,
    Health,
    Exited,
    Label,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Filter, String> {
        const KEYS: [(&str, Key); 8] = [
            ("name", Key::Name),
            ("id", Key::Id),
            ("status", Key::Status),
            ("ancestor", Key::Ancestor),
            ("network", Key::Network),
            ("health", Key::Health),
            ("exited", Key::Exited),
            ("label", Key::Label),
        ];
        let (key, value) = text.split_once('=').ok_or("it has to be KEY=VALUE")?;
        let found = KEYS.iter().find(|(name, _)| *name == key);
        let (_, key) = found.ok_or_else(|| {
            format!("there is no filter {key:?}; there are {}", KEYS.map(|(name, _)| name).join(", "))
        })?;
        Ok(Filter { key: *key, value: value.to_owned() })
    }
}
