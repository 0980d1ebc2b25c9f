//! Tags: what users call their resources by, beside the name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema};
use utoipa::openapi::{RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

/// Maximum number of tags of a resource.
const MAX_TAGS: usize = 50;

/// Maximum lengths of a key and of a value, in characters.
const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 256;

/// Tags of a resource, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tags by key.
    #[must_use]
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Returns the tags by key.
    #[must_use]
    pub fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }

    /// Whether a resource with `tags` has all of these.
    #[must_use]
    pub fn are_in(&self, tags: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, value)| tags.get(key) == Some(value))
    }
}

/// Tags that are stored, which were checked when they came.
impl From<&BTreeMap<String, String>> for Tags {
    fn from(tags: &BTreeMap<String, String>) -> Tags {
        Tags(tags.clone())
    }
}

impl TryFrom<BTreeMap<String, String>> for Tags {
    type Error = String;

    fn try_from(tags: BTreeMap<String, String>) -> Result<Tags, String> {
        check(&tags)?;
        Ok(Tags(tags))
    }
}

/// Checks tags: their number, their lengths and their characters.
fn check(tags: &BTreeMap<String, String>) -> Result<(), String> {
    if tags.len() > MAX_TAGS {
        return Err(format!("a resource has at most {MAX_TAGS} tags, and here are {}", tags.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || " _.:/=+@-".contains(c);
    for (key, value) in tags {
        for (what, text, lengths) in [("key", key, 1..=MAX_KEY), ("value", value, 0..=MAX_VALUE)] {
            if !lengths.contains(&text.chars().count()) || !text.chars().all(allowed) {
                return Err(format!(
                    "tag {what} {text:?}: it has {} to {} letters, digits, blanks and _ . : / = + @ -",
                    lengths.start(),
                    lengths.end()
                ));
            }
        }
    }
    Ok(())
}

impl PartialSchema for Tags {
    fn schema() -> RefOr<Schema> {
        let text = |pattern: &str, least, most| {
            ObjectBuilder::new()
                .schema_type(Type::String)
                .pattern(Some(pattern))
                .min_length(Some(least))
                .max_length(Some(most))
                .build()
        };
        let value = text("^[A-Za-z0-9 _.:/=+@-]*$", 0, MAX_VALUE);
        let key = text("^[A-Za-z0-9 _.:/=+@-]+$", 1, MAX_KEY);
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .property_names(Some(key))
            .additional_properties(Some(AdditionalProperties::RefOr(value.into())))
            .max_properties(Some(MAX_TAGS))
            .description(Some("Tags of a resource, by key."))
            .into()
    }
}

impl ToSchema for Tags {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_bounded_in_number_length_and_characters() {
        let tags = |json: String| serde_json::from_str::<Tags>(&json);
        assert!(tags(r#"{"team":"a b","k_.:/=+@-":""}"#.to_owned()).is_ok());
        let many = (0..51).map(|number| format!("\"k{number}\":\"\"")).collect::<Vec<_>>().join(",");
        let long = format!(r#"{{"k":"{}"}}"#, "v".repeat(257));
        for bad in [r#"{"":"v"}"#.to_owned(), r#"{"k":"ü"}"#.to_owned(), long, format!("{{{many}}}")] {
            assert!(tags(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_filter_is_met_by_all_of_its_tags() {
        let of = |json| serde_json::from_str::<Tags>(json).unwrap();
        let stored = of(r#"{"a":"1","b":"2"}"#).into_map();
        assert!(of("{}").are_in(&stored) && of(r#"{"a":"1"}"#).are_in(&stored));
        assert!(!of(r#"{"a":"1","b":"3"}"#).are_in(&stored) && !of(r#"{"c":""}"#).are_in(&stored));
    }
}
