//! Names of instances and snapshots.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Maximum length of a name in bytes.
const MAX_LENGTH: usize = 63;

/// Name of an instance or a snapshot: a DNS label in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length = 63, examples("my-vm"))]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Name, String> {
        let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_label =
            name.starts_with(is_end) && name.ends_with(is_end) && name.chars().all(|c| is_end(c) || c == '-');
        match name.len() {
            0..=MAX_LENGTH if is_label => Ok(Name(name)),
            0..=MAX_LENGTH => Err(format!(
                "{name:?} is no name: it has to be lower-case letters, digits and dashes, with no dash at an end"
            )),
            length => Err(format!("a name has at most {MAX_LENGTH} characters, and this one {length}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_label_in_lower_case() {
        for name in ["a", "a-b", "0x", &"a".repeat(63)] {
            assert!(Name::try_from(name.to_owned()).is_ok(), "{name}");
        }
        for name in ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "..", "a\0", "é", &"a".repeat(64)] {
            assert!(Name::try_from(name.to_owned()).is_err(), "{name}");
        }
    }
}
