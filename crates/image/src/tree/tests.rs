use super::*;
use crate::entry::Location;

fn file(size: u64) -> Entry {
    Entry { kind: Kind::File(Location { layer: 0, offset: 0, size }), ..Entry::directory() }
}

fn symlink(target: &str) -> Entry {
    Entry { kind: Kind::Symlink(target.as_bytes().into()), ..Entry::directory() }
}

fn tree(layers: &[&[(&str, Entry)]]) -> Tree {
    let mut tree = Tree::default();
    for layer in layers {
        tree.next_layer();
        for (name, entry) in *layer {
            tree.add(name.as_bytes(), entry.clone()).unwrap();
        }
    }
    tree
}

fn entries(tree: &Tree) -> Vec<(Vec<u8>, Entry)> {
    let mut entries = Vec::new();
    let Ok(()) = tree.visit(&mut |node, path, _, entry| {
        assert_eq!(tree.path(node), path);
        entries.push((path.to_vec(), entry.clone()));
        Ok::<_, std::convert::Infallible>(())
    });
    entries
}

fn names(tree: &Tree) -> Vec<String> {
    entries(tree).into_iter().map(|(path, _)| show(&path)).collect()
}

fn size(tree: &Tree, path: &str) -> u64 {
    let (_, entry) = entries(tree).into_iter().find(|(name, _)| name == path.as_bytes()).unwrap();
    match entry.kind {
        Kind::File(Location { size, .. }) => size,
        _ => panic!("{path} is no file"),
    }
}

#[test]
fn a_whiteout_hides_what_lies_lower_and_nothing_else() {
    let lower: &[_] = &[("a/b/c", file(1)), ("a/b2", file(1)), ("d", file(1))];
    let upper: &[_] = &[("a/.wh.b", file(0)), ("a/b/new", file(2)), (".wh.d", file(0)), ("./e", file(2))];
    assert_eq!(names(&tree(&[lower, upper])), ["a", "a/b", "a/b/new", "a/b2", "e"]);
    // In whichever order the layer has them.
    let upper: &[_] = &[("a/b/new", file(2)), ("a/.wh.b", file(0)), ("/e", file(2)), (".wh.d", file(0))];
    assert_eq!(names(&tree(&[lower, upper])), ["a", "a/b", "a/b/new", "a/b2", "e"]);
}

#[test]
fn an_opaque_directory_shows_only_its_own_layer() {
    let lower: &[_] = &[("a/x/y", file(1)), ("a/z", file(1)), ("ab", file(1))];
    let upper: &[_] = &[("a/n", file(2)), ("a/.wh..wh..opq", file(0))];
    assert_eq!(names(&tree(&[lower, upper])), ["a", "a/n", "ab"]);
}

#[test]
fn a_file_replaces_a_directory_and_the_other_way_round() {
    let lower: &[_] = &[("a/b", file(1)), ("f", file(1))];
    let upper: &[_] = &[("a", file(2)), ("f", Entry::directory()), ("f/g", file(3))];
    let joined = tree(&[lower, upper]);
    assert_eq!(names(&joined), ["a", "f", "f/g"]);
    assert_eq!(size(&joined, "a"), 2);
}

#[test]
fn a_hard_link_keeps_its_content_when_the_first_name_is_hidden() {
    let mut joined = tree(&[&[("a", file(7))]]);
    joined.next_layer();
    joined.link(b"b", b"/a").unwrap();
    joined.add(b".wh.a", file(0)).unwrap();
    assert_eq!(names(&joined), ["b"]);
    assert_eq!(size(&joined, "b"), 7);
}

#[test]
fn entries_below_a_symbolic_link_go_where_it_leads_inside_the_image() {
    let lower: &[_] = &[("usr/lib/x", file(1)), ("lib", symlink("usr/lib")), ("lib2", symlink("/usr/lib"))];
    let upper: &[_] = &[("lib/y", file(2)), ("lib2/z", file(3))];
    let joined = tree(&[lower, upper]);
    assert_eq!(names(&joined), ["lib", "lib2", "usr", "usr/lib", "usr/lib/x", "usr/lib/y", "usr/lib/z"]);
}

#[test]
fn what_tries_to_escape_is_refused() {
    let mut joined = tree(&[&[("a", file(1)), ("loop", symlink("loop")), ("out", symlink("../.."))]]);
    for name in ["../x", "a/../../x", "/../etc/passwd", "./../x", "a/x", "loop/x", "out/x"] {
        assert!(joined.add(name.as_bytes(), file(1)).is_err(), "{name}");
    }
    for (name, target) in [("l", "../a"), ("l", "missing"), ("l", "/"), ("../l", "a")] {
        assert!(joined.link(name.as_bytes(), target.as_bytes()).is_err(), "{name} -> {target}");
    }
    assert_eq!(names(&joined), ["a", "loop", "out"]);
}

#[test]
fn what_is_removed_and_replaced_makes_room_again() {
    let mut joined = Tree::default();
    for layer in 0..50 {
        joined.next_layer();
        joined.add(b".wh.gone", file(0)).unwrap();
        for name in 0..20 {
            joined.add(format!("d/{name}").as_bytes(), file(layer)).unwrap();
            joined.add(format!("gone/{layer}/{name}").as_bytes(), symlink("d")).unwrap();
        }
        joined.add(b"d/.wh..wh..opq", file(0)).unwrap();
    }
    assert_eq!(names(&joined).len(), 2 + 20 + 1 + 20);
    assert_eq!((joined.inodes.len(), joined.nodes.len() - joined.free.len()), (43, 44));
    let bytes =
        |tree: &Tree| names(tree).iter().map(|path| path.rsplit('/').next().unwrap().len()).sum::<usize>();
    assert_eq!(joined.metadata, bytes(&joined) + 20);
}

#[test]
fn a_directory_that_gives_way_to_a_link_to_a_file_in_it_leaves_the_file() {
    let mut joined = tree(&[&[("a/b/c", file(7))]]);
    joined.link(b"a", b"a/b/c").unwrap();
    assert_eq!(names(&joined), ["a"]);
    assert_eq!(size(&joined, "a"), 7);
    assert!(!joined.is_linked(
        joined.nodes[ROOT].children.values().next().and_then(|&n| joined.nodes[n].inode).unwrap()
    ));
}

#[test]
fn limits_are_named() {
    let mut joined = tree(&[&[("a", symlink("b/../b/../b/../b/../b/../b/.")), ("b", Entry::directory())]]);
    let deep = "d/".repeat(MOST_DEPTH + 1) + "f";
    assert!(joined.add(deep.as_bytes(), file(1)).unwrap_err().to_string().contains("256 directories"));
    joined.followed = crate::limits::MOST_FOLLOWED - 20;
    joined.add(b"a/x", file(1)).unwrap();
    assert!(joined.add(b"a/y", file(1)).unwrap_err().to_string().contains("20000000 symbolic links"));
    joined.metadata = MOST_METADATA - 1;
    joined.add(b"x", file(1)).unwrap();
    assert!(joined.add(b"y", file(1)).unwrap_err().to_string().contains("128 MiB"));
}

proptest::proptest! {
    /// Joined step by step and hidden lazily, it is what the rules of the OCI's image specification
    /// say (layer.md, whiteouts).
    #[test]
    fn it_is_the_tree_of_a_simple_model(
        layers in proptest::collection::vec(
            proptest::collection::vec((0..5_u8, proptest::collection::vec("[abc]", 1..4)), 0..8), 1..4),
    ) {
        let mut joined = Tree::default();
        let mut model = BTreeMap::<String, (bool, usize)>::new();
        for (number, layer) in layers.iter().enumerate() {
            joined.next_layer();
            for (kind, path) in layer {
                let (parent, name) = (path[..path.len() - 1].join("/"), &path[path.len() - 1]);
                let slash = if parent.is_empty() { "" } else { "/" };
                let path = path.join("/");
                let (raw, entry) = match kind {
                    0 => (format!("{parent}{slash}.wh..wh..opq"), file(0)),
                    1 => (format!("{parent}{slash}.wh.{name}"), file(0)),
                    2 => (path.clone(), Entry::directory()),
                    _ => (path.clone(), file(1)),
                };
                if joined.add(raw.as_bytes(), entry).is_ok() {
                    apply(&mut model, number, *kind, &parent, &path);
                }
            }
        }
        proptest::prop_assert_eq!(names(&joined), model.into_keys().collect::<Vec<_>>());
    }
}

/// A path and whether it is a directory, and the layer it is of.
fn apply(model: &mut BTreeMap<String, (bool, usize)>, layer: usize, kind: u8, parent: &str, path: &str) {
    let is_below =
        |name: &str, directory: &str| directory.is_empty() || name.starts_with(&format!("{directory}/"));
    let hide = |model: &mut BTreeMap<String, (bool, usize)>, directory: &str| {
        let kept: Vec<String> =
            model.iter().filter(|(_, (_, of))| *of == layer).map(|(name, _)| name.clone()).collect();
        model.retain(|name, (_, of)| {
            !is_below(name, directory) || *of == layer || kept.iter().any(|kept| is_below(kept, name))
        });
    };
    match kind {
        0 => hide(model, parent),
        1 => {
            hide(model, path);
            if model.get(path).is_some_and(|(_, of)| *of < layer)
                && !model.keys().any(|name| is_below(name, path))
            {
                model.remove(path);
            }
        }
        _ => {
            if kind != 2 || model.get(path).is_some_and(|(is_directory, _)| !is_directory) {
                model.retain(|name, _| !is_below(name, path));
            }
            for (end, _) in path.match_indices('/') {
                model.entry(path[..end].to_owned()).or_insert((true, layer));
            }
            model.insert(path.to_owned(), (kind == 2, layer));
        }
    }
}
