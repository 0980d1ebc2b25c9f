//! Scopes: what a token may be used for.

use std::fmt;
use std::str::FromStr;

/// A scope, such as `instance:write`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    resource: &'static str,
    action: &'static str,
}

/// Resources, and their actions, by upstream's names.
const RESOURCES: [(&str, &[&str]); 9] = [
    ("build", &["read", "write", "delete"]),
    ("builder", &["read", "write", "delete"]),
    ("device", &["read", "write", "delete"]),
    ("image", &["read", "write", "delete"]),
    ("ingress", &["read", "write", "delete"]),
    ("instance", &["read", "write", "delete"]),
    ("resource", &["read", "write"]),
    ("snapshot", &["read", "write", "delete"]),
    ("volume", &["read", "write", "delete"]),
];

impl Scope {
    /// Lists all scopes, by name.
    pub fn all() -> impl Iterator<Item = Scope> {
        RESOURCES
            .iter()
            .flat_map(|(resource, actions)| actions.iter().map(|action| Scope { resource, action }))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.resource, self.action)
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Scope, String> {
        let named = Scope::all().find(|scope| text.split_once(':') == Some((scope.resource, scope.action)));
        named.ok_or_else(|| format!("{text:?} is no scope; `hypeman token --list-scopes` lists them"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        assert_eq!(Scope::all().count(), 26);
        for scope in Scope::all() {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        for bad in ["", "*", "instance", "instance:", "instance:read ", "resource:delete"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }
}
