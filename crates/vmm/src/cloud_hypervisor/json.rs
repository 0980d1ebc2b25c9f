//! JSON that keeps what we do not understand: the order of fields, the digits of numbers, and
//! fields that a release other than ours has added.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

/// Deepest nesting that is read. A `config.json` has less than 10.
const MAX_DEPTH: usize = 64;

/// The fault of a document and its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) String);

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Malformed {
        Malformed(error.to_string())
    }
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Json {
    /// Fields in their order.
    Object(Vec<(String, Json)>),
    /// Values in their order.
    Array(Vec<Json>),
    /// A text.
    String(String),
    /// A number, `true`, `false` or `null`, as it was written.
    Other(Box<RawValue>),
}

impl Json {
    /// Reads a document.
    ///
    /// # Errors
    /// The line and column where it is none, or the path to what is nested too deeply or there
    /// twice.
    pub(crate) fn parse(text: &[u8]) -> Result<Json, Malformed> {
        // All of it is looked at once, so that an error has its true line and column.
        let raw: &RawValue = serde_json::from_slice(text)?;
        expand(raw, "", 0)
    }

    /// The document, in one line.
    pub(crate) fn to_vec(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// The value of a field; `None` when it is not there or `null`, or this is no object.
    pub(crate) fn get_mut(&mut self, field: &str) -> Option<&mut Json> {
        let Json::Object(fields) = self else { return None };
        let value = &mut fields.iter_mut().find(|(name, _)| name == field)?.1;
        (!matches!(value, Json::Other(raw) if raw.get() == "null")).then_some(value)
    }

    /// The text of a field.
    pub(crate) fn text(&mut self, field: &str) -> Option<&str> {
        match self.get_mut(field) {
            Some(Json::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Gives a field of an object a text, in its place or at the end.
    pub(crate) fn set(&mut self, field: &str, text: &str) {
        let Json::Object(fields) = self else { return };
        let value = Json::String(text.to_owned());
        match fields.iter_mut().find(|(name, _)| name == field) {
            Some((_, old)) => *old = value,
            None => fields.push((field.to_owned(), value)),
        }
    }

    /// Takes a field out of an object.
    pub(crate) fn remove(&mut self, field: &str) {
        if let Json::Object(fields) = self {
            fields.retain(|(name, _)| name != field);
        }
    }

    /// Calls `change` for each text that is a value.
    pub(crate) fn for_each_text(&mut self, change: &mut impl FnMut(&mut String)) {
        match self {
            Json::Object(fields) => fields.iter_mut().for_each(|(_, value)| value.for_each_text(change)),
            Json::Array(values) => values.iter_mut().for_each(|value| value.for_each_text(change)),
            Json::String(text) => change(text),
            Json::Other(_) => {}
        }
    }
}

/// One level of a value.
enum Level {
    Object(Vec<(String, Box<RawValue>)>),
    Array(Vec<Box<RawValue>>),
}

fn expand(raw: &RawValue, path: &str, depth: usize) -> Result<Json, Malformed> {
    let at = |path: &str, what: &str| {
        Err(Malformed(format!("{what} at {}", if path.is_empty() { "the top" } else { path })))
    };
    if depth > MAX_DEPTH {
        return at(path, &format!("nested more than {MAX_DEPTH} deep"));
    }
    let text = raw.get();
    let wrong = |error: serde_json::Error| Malformed(format!("{error} at {path}"));
    Ok(match text.as_bytes().first() {
        Some(b'{' | b'[') => match serde_json::from_str(text).map_err(wrong)? {
            Level::Object(fields) => {
                let mut expanded: Vec<(String, Json)> = Vec::with_capacity(fields.len());
                let mut names = std::collections::HashSet::new();
                for (name, value) in fields {
                    let path = format!("{path}/{name}");
                    if !names.insert(name.clone()) {
                        return at(&path, "there twice");
                    }
                    expanded.push((name, expand(&value, &path, depth + 1)?));
                }
                Json::Object(expanded)
            }
            Level::Array(values) => {
                let expand = |(index, value): (usize, Box<RawValue>)| {
                    expand(&value, &format!("{path}/{index}"), depth + 1)
                };
                Json::Array(values.into_iter().enumerate().map(expand).collect::<Result<_, _>>()?)
            }
        },
        Some(b'"') => Json::String(serde_json::from_str(text).map_err(wrong)?),
        _ => Json::Other(raw.to_owned()),
    })
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Level, D::Error> {
        struct LevelVisitor;
        impl<'de> Visitor<'de> for LevelVisitor {
            type Value = Level;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object or an array")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Level, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Level::Object(fields))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Level, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = sequence.next_element()? {
                    values.push(value);
                }
                Ok(Level::Array(values))
            }
        }
        deserializer.deserialize_any(LevelVisitor)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            Json::Array(values) => values.serialize(serializer),
            Json::String(text) => serializer.serialize_str(text),
            Json::Other(raw) => raw.serialize(serializer),
        }
    }
}
