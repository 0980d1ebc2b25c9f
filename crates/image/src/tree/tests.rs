use super::*;
use crate::entry::Location;

fn file(size: u64) -> Entry {
    Entry { kind: Kind::File(Location { layer: 0, offset: 0, size }), ..Entry::directory() }
}

fn symlink(target: &str) -> Entry {
    Entry { kind: Kind::Symlink(target.into()), ..Entry::directory() }
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

fn names(tree: &Tree) -> Vec<String> {
    tree.entries().map(|(path, _, _)| show(path)).collect()
}

fn size(tree: &Tree, path: &str) -> u64 {
    let (_, _, entry) = tree.entries().find(|(name, _, _)| name == &path.as_bytes()).unwrap();
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
