//! Which file of a crate uses which, from the paths in its source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// Files of a crate by module path (`["commands", "ps"]`; empty for the root).
type Modules = BTreeMap<Vec<String>, PathBuf>;

/// The arrows between the files of one target: who uses whom, by file.
pub(crate) type Arrows = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// The arrows between the files below a target's root, such as `src/lib.rs`. Tests are left out,
/// and so is what a file takes from the module that it is a part of (`super::Item`).
///
/// # Panics
/// When a file cannot be read or parsed.
pub(crate) fn arrows(root: &Path) -> Arrows {
    let mut modules = Modules::new();
    let directory = root.parent().expect("a directory");
    collect(root, directory, &[], &mut modules);
    let of = |(module, file): (&Vec<String>, &PathBuf)| {
        let mut uses = Uses { module, modules: &modules, found: BTreeSet::new() };
        uses.visit_file(&parse(file));
        uses.found.remove(file);
        (file.clone(), uses.found)
    };
    modules.iter().map(of).collect()
}

fn parse(file: &Path) -> syn::File {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Whether an item is there only for tests.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        list.path.is_ident("cfg") && list.tokens.to_string() == "test"
    })
}

/// Finds the files of a module and of all below it, as the compiler does.
fn collect(file: &Path, directory: &Path, module: &[String], modules: &mut Modules) {
    modules.insert(module.to_vec(), file.to_owned());
    for item in parse(file).items {
        let syn::Item::Mod(item) = item else { continue };
        if item.content.is_some() || is_test(&item.attrs) {
            continue;
        }
        let name = item.ident.to_string();
        let below = directory.join(&name);
        let candidates = [directory.join(format!("{name}.rs")), below.join("mod.rs")];
        let file = candidates.iter().find(|file| file.is_file());
        let file = file.unwrap_or_else(|| panic!("{}: no file for mod {name}", directory.display()));
        let module = [module, &[name]].concat();
        collect(file, &below, &module, modules);
    }
}

/// Collects the files that one file's paths lead to.
struct Uses<'a> {
    module: &'a Vec<String>,
    modules: &'a Modules,
    found: BTreeSet<PathBuf>,
}

impl Uses<'_> {
    /// Adds the file that a path leads to, if it stays in the crate.
    fn add(&mut self, segments: &[String]) {
        let mut at = match segments.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.module.clone(),
            Some(first) => {
                let child = [&self.module[..], &[first.to_owned()]].concat();
                if !self.modules.contains_key(&child) {
                    return;
                }
                self.found.insert(self.modules[&child].clone());
                return self.descend(child, &segments[1..], false);
            }
            None => return,
        };
        let mut rest = segments;
        while let [first, others @ ..] = rest {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => drop(at.pop()),
                _ => break,
            }
            rest = others;
        }
        let parent = self.module.split_last().map(|(_, parent)| parent);
        let is_of_parent = segments[0] == "super" && Some(&at[..]) == parent;
        self.descend(at, rest, is_of_parent);
    }

    /// Follows a path from a module as far as there are files; the arrow to the first of them may
    /// be left out.
    fn descend(&mut self, mut at: Vec<String>, segments: &[String], without_first: bool) {
        let first = at.len();
        for segment in segments {
            at.push(segment.clone());
            if !self.modules.contains_key(&at) {
                at.pop();
                break;
            }
        }
        if !without_first || at.len() > first {
            self.found.insert(self.modules[&at].clone());
        }
    }

    fn add_tree(&mut self, prefix: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.add_tree(prefix, &path.tree);
                prefix.pop();
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(prefix, tree);
                }
            }
            syn::UseTree::Name(name) => self.add(&[&prefix[..], &[name.ident.to_string()]].concat()),
            syn::UseTree::Rename(name) => self.add(&[&prefix[..], &[name.ident.to_string()]].concat()),
            syn::UseTree::Glob(_) => self.add(prefix),
        }
    }
}

impl<'ast> Visit<'ast> for Uses<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.add_tree(&mut Vec::new(), &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.add(&segments);
        }
        syn::visit::visit_path(self, path);
    }
}
