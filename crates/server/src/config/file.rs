//! Reads the file of a configuration.

use std::path::Path;

use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Value};

use super::{Config, Invalid};

pub(super) fn read(path: &Path) -> Result<String, Invalid> {
    let invalid = |reason: std::io::Error| Invalid { place: shown(path), reason: reason.to_string() };
    std::fs::read_to_string(path).map_err(invalid)
}

/// Checks a file, and returns it as a document. Keys that nobody reads are warned of.
pub(super) fn parse(path: &Path, text: &str, warnings: &mut Vec<String>) -> Result<Value, Invalid> {
    let value = |text| Value::deserialize(Deserializer::from_str(text));
    let document = value(text).map_err(|error| invalid(path, "", &error))?;
    if document.is_null() {
        return Ok(document);
    }
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(Deserializer::from_str(text), &mut track);
    let unknown = |key: serde_ignored::Path<'_>| {
        warnings.push(format!("{}: the key {key} is not known here, and has no effect", shown(path)));
    };
    let checked: Result<Config, _> = serde_ignored::deserialize(tracked, unknown);
    checked.map_err(|error| invalid(path, &track.path().to_string(), &error))?;
    Ok(document)
}

/// The configuration of a document, whose parts were checked.
pub(super) fn of_document(document: Value) -> Result<Config, Invalid> {
    Config::deserialize(document)
        .map_err(|error| Invalid { place: "the configuration".to_owned(), reason: error.to_string() })
}

/// Names the place of an error: file, line and key.
fn invalid(path: &Path, key: &str, error: &serde_yaml_ng::Error) -> Invalid {
    let line = error.location().map(|location| format!(", line {}", location.line())).unwrap_or_default();
    let key = Some(key).filter(|key| !key.is_empty() && *key != ".").map(|key| format!(": {key}"));
    // The library's words end with the place, and may begin with the key.
    let words = error.to_string();
    let words = words.rfind(" at line ").map_or(&words[..], |end| &words[..end]);
    let words =
        words.split_once(": ").filter(|(first, _)| !first.contains(' ')).map_or(words, |(_, rest)| rest);
    Invalid { place: format!("{}{line}{}", shown(path), key.unwrap_or_default()), reason: words.to_owned() }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
