//! Fields of a record that this release does not know, wherever in it they stand. Those beside the
//! record's own fields its envelope takes ([`crate::format::Envelope`]); of those within its parts
//! only the file tells.

use std::collections::BTreeMap;

use serde_json::Value;

/// Unknown fields of one value.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    /// The whole value.
    Whole(Value),
    /// Something in these fields of an object.
    Fields(BTreeMap<String, Tree>),
    /// Something in these elements of an array.
    Elements(BTreeMap<usize, Tree>),
}

/// Unknown fields of one record, to be written with another one that comes of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unknown(Option<Tree>);

impl Unknown {
    /// Fields that a record has as it lies on disk, and lacks as this release writes it.
    pub(crate) fn between(was: &Value, known: &Value) -> Unknown {
        Unknown(unknown(was, known))
    }

    /// Those of the part of a record that stands in this field.
    #[must_use]
    pub fn of_part(self, field: &str) -> Unknown {
        match self.0 {
            Some(Tree::Fields(mut fields)) => Unknown(fields.remove(field)),
            _ => Unknown(None),
        }
    }

    /// The same for a record of which this one is the part in this field.
    #[must_use]
    pub fn as_part(self, field: &str) -> Unknown {
        Unknown(self.0.map(|tree| Tree::Fields([(field.to_owned(), tree)].into())))
    }

    /// Puts them where they were, but for what is there already or has no place any more.
    pub(crate) fn put_into(&self, value: &mut Value) {
        if let Some(tree) = &self.0 {
            put(tree, value);
        }
    }
}

/// The part of `was` that `known` lacks.
fn unknown(was: &Value, known: &Value) -> Option<Tree> {
    match (was, known) {
        (Value::Object(was), Value::Object(known)) => {
            let fields = was.iter().filter_map(|(name, was)| {
                let tree = match known.get(name) {
                    Some(known) => unknown(was, known)?,
                    None => Tree::Whole(was.clone()),
                };
                Some((name.clone(), tree))
            });
            let fields: BTreeMap<_, _> = fields.collect();
            (!fields.is_empty()).then_some(Tree::Fields(fields))
        }
        (Value::Array(was), Value::Array(known)) if was.len() == known.len() => {
            let elements = was.iter().zip(known).enumerate();
            let elements = elements.filter_map(|(index, (was, known))| Some((index, unknown(was, known)?)));
            let elements: BTreeMap<_, _> = elements.collect();
            (!elements.is_empty()).then_some(Tree::Elements(elements))
        }
        _ => None,
    }
}

fn put(tree: &Tree, value: &mut Value) {
    match (tree, value) {
        (Tree::Fields(fields), Value::Object(object)) => {
            for (name, tree) in fields {
                match (tree, object.get_mut(name)) {
                    (tree, Some(value)) => put(tree, value),
                    (Tree::Whole(unknown), None) => drop(object.insert(name.clone(), unknown.clone())),
                    (_, None) => {}
                }
            }
        }
        (Tree::Elements(elements), Value::Array(array)) => {
            for (index, tree) in elements {
                if let Some(value) = array.get_mut(*index) {
                    put(tree, value);
                }
            }
        }
        _ => {}
    }
}
