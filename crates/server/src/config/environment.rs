//! Variables of the environment that go over the file of a configuration.

use serde::Deserialize;
use serde_yaml_ng::{Mapping, Value};

use super::{Config, Invalid};

/// Between the parts of a key in the name of its variable.
const SEPARATOR: &str = "__";

/// Variables of the command line, which mean the same here and go before the others.
const OF_THE_COMMAND_LINE: [(&str, [&str; 2]); 2] =
    [("HYPEMAN_NETWORK", ["network", "default"]), ("HYPEMAN_HYPERVISOR", ["hypervisor", "default"])];

/// Puts the variables that are set into a document.
pub(super) fn overlay(
    document: &mut Value,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(), Invalid> {
    let defaults = serde_yaml_ng::to_value(Config::default()).unwrap_or_default();
    let mut keys = Vec::new();
    collect(&defaults, &mut Vec::new(), &mut keys);
    let of_keys = keys.into_iter().map(|key| (key.join(SEPARATOR).to_uppercase(), key));
    let others = OF_THE_COMMAND_LINE.map(|(name, key)| (name.to_owned(), key.map(str::to_owned).to_vec()));
    for (name, key) in of_keys.chain(others) {
        // An empty one is none.
        if let Some(text) = variable(&name).filter(|text| !text.is_empty()) {
            put(document, &key, value(&name, &key, &text)?);
        }
    }
    Ok(())
}

/// Collects the keys of a document that have no keys below them.
fn collect(document: &Value, above: &mut Vec<String>, keys: &mut Vec<Vec<String>>) {
    let Value::Mapping(mapping) = document else { return keys.push(above.clone()) };
    for (key, value) in mapping {
        above.push(key.as_str().unwrap_or_default().to_owned());
        collect(value, above, keys);
        above.pop();
    }
}

/// The value of a variable: its text, where the key takes text, else what that is in YAML.
fn value(name: &str, key: &[String], text: &str) -> Result<Value, Invalid> {
    let fits = |value: &Value| {
        let mut document = Value::Null;
        put(&mut document, key, value.clone());
        Config::deserialize(document).map(drop)
    };
    let as_text = Value::String(text.to_owned());
    if fits(&as_text).is_ok() {
        return Ok(as_text);
    }
    let parsed = serde_yaml_ng::from_str(text).unwrap_or(as_text);
    let invalid = |error: serde_yaml_ng::Error| Invalid {
        place: format!("the variable {name}={text:?}"),
        reason: error.to_string(),
    };
    fits(&parsed).map_err(invalid)?;
    Ok(parsed)
}

/// Puts a value into a document, which becomes a mapping where it is none.
fn put(document: &mut Value, key: &[String], value: Value) {
    let [first, rest @ ..] = key else { return *document = value };
    if !document.is_mapping() {
        *document = Value::Mapping(Mapping::new());
    }
    if let Value::Mapping(mapping) = document {
        put(mapping.entry(Value::String(first.clone())).or_insert(Value::Null), rest, value);
    }
}
