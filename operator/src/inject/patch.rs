//! JSON Patch (RFC 6902): what has changed, and nothing else, so that fields of a newer Kubernetes stay as they are.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value as Json};

/// One step of a patch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Puts a member in place, or an element before the one that is there.
    Add {
        /// Where (RFC 6901).
        path: String,
        /// What.
        value: Json,
    },
    /// Takes a member or an element out.
    Remove {
        /// Where.
        path: String,
    },
    /// Puts a value in the place of another.
    Replace {
        /// Where.
        path: String,
        /// What.
        value: Json,
    },
}

/// The steps that make `to` of `from`. Elements of lists are told apart by `name`, where all of them have one.
pub fn diff(from: &Json, to: &Json) -> Vec<Operation> {
    let mut steps = Vec::new();
    walk("", from, to, &mut steps);
    steps
}

fn walk(path: &str, from: &Json, to: &Json, steps: &mut Vec<Operation>) {
    match (from, to) {
        _ if from == to => {}
        (Json::Object(from), Json::Object(to)) => members(path, from, to, steps),
        (Json::Array(from), Json::Array(to)) => match (names(from), names(to)) {
            (Some(known), Some(wanted)) if in_same_order(&known, &wanted) => {
                named(path, (from, &known), (to, &wanted), steps);
            }
            _ => replace(path, &Json::Array(to.clone()), steps),
        },
        _ => replace(path, to, steps),
    }
}

fn members(path: &str, from: &Map<String, Json>, to: &Map<String, Json>, steps: &mut Vec<Operation>) {
    let gone = from.keys().filter(|key| !to.contains_key(*key));
    steps.extend(gone.map(|key| Operation::Remove { path: below(path, key) }));
    for (key, value) in to {
        match from.get(key) {
            Some(old) => walk(&below(path, key), old, value, steps),
            None => steps.push(Operation::Add { path: below(path, key), value: value.clone() }),
        }
    }
}

type Named<'a> = (&'a [Json], &'a [&'a str]);

fn named(path: &str, (from, known): Named<'_>, (to, wanted): Named<'_>, steps: &mut Vec<Operation>) {
    let gone = known.iter().enumerate().rev().filter(|(_, name)| !wanted.contains(name));
    steps.extend(gone.map(|(at, _)| Operation::Remove { path: format!("{path}/{at}") }));
    for (at, (value, name)) in to.iter().zip(wanted).enumerate() {
        let path = format!("{path}/{at}");
        match from.iter().zip(known).find(|(_, known)| *known == name) {
            // Everything before it is in its place by now, and so is it.
            Some((old, _)) => walk(&path, old, value, steps),
            None => steps.push(Operation::Add { path, value: value.clone() }),
        }
    }
}

/// The names of all elements, if all have one and no two the same.
fn names(list: &[Json]) -> Option<Vec<&str>> {
    let names: Vec<&str> = list.iter().map(|element| element.get("name")?.as_str()).collect::<Option<_>>()?;
    (names.iter().collect::<BTreeSet<_>>().len() == names.len()).then_some(names)
}

fn in_same_order(known: &[&str], wanted: &[&str]) -> bool {
    let stays = known.iter().filter(|name| wanted.contains(name));
    stays.eq(wanted.iter().filter(|name| known.contains(name)))
}

fn replace(path: &str, value: &Json, steps: &mut Vec<Operation>) {
    steps.push(Operation::Replace { path: path.to_owned(), value: value.clone() });
}

fn below(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Does what [`diff`] said to a document that it fits; `None` if it does not.
pub(super) fn apply(document: &mut Json, steps: Vec<Operation>) -> Option<()> {
    for step in steps {
        match step {
            Operation::Add { path, value } => match parent(document, &path)? {
                (Json::Object(members), key) => drop(members.insert(key, value)),
                (Json::Array(list), at) => list.insert(at.parse().ok().filter(|at| *at <= list.len())?, value),
                _ => return None,
            },
            Operation::Remove { path } => match parent(document, &path)? {
                (Json::Object(members), key) => drop(members.remove(&key)?),
                (Json::Array(list), at) => drop(list.remove(at.parse().ok().filter(|at| *at < list.len())?)),
                _ => return None,
            },
            Operation::Replace { path, value } => *document.pointer_mut(&path)? = value,
        }
    }
    Some(())
}

/// What contains the value at `path`, and its key in it.
fn parent<'a>(document: &'a mut Json, path: &str) -> Option<(&'a mut Json, String)> {
    let (parent, key) = path.rsplit_once('/')?;
    Some((document.pointer_mut(parent)?, key.replace("~1", "/").replace("~0", "~")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(from: Json, to: Json) -> Vec<Operation> {
        let steps = diff(&from, &to);
        let mut patched = from;
        apply(&mut patched, steps.clone()).unwrap();
        assert_eq!(patched, to);
        steps
    }

    #[test]
    fn nothing_is_said_of_what_stays() {
        assert_eq!(check(json!({"a": [1, {"b": 2}]}), json!({"a": [1, {"b": 2}]})), []);
    }

    #[test]
    fn named_elements_are_told_apart() {
        let steps = check(
            json!({"list": [{"name": "a", "x": 1}, {"name": "gone"}, {"name": "b"}]}),
            json!({"list": [{"name": "new"}, {"name": "a", "x": 2}, {"name": "b"}, {"name": "last"}]}),
        );
        let paths = json!(steps);
        assert_eq!(
            paths,
            json!([
                {"op": "remove", "path": "/list/1"},
                {"op": "add", "path": "/list/0", "value": {"name": "new"}},
                {"op": "replace", "path": "/list/1/x", "value": 2},
                {"op": "add", "path": "/list/3", "value": {"name": "last"}},
            ])
        );
    }

    #[test]
    fn lists_that_cannot_be_told_apart_are_replaced() {
        check(json!({"l": [1, 2]}), json!({"l": [2, 1, 3]}));
        check(json!([{"name": "a"}, {"name": "b"}]), json!([{"name": "b"}, {"name": "a"}]));
        check(json!([{"name": "a"}, {"name": "a", "x": 1}]), json!([{"name": "a"}]));
    }

    #[test]
    fn keys_are_escaped() {
        let steps = check(json!({"m": {}}), json!({"m": {"a.b/c~d": "x"}}));
        assert_eq!(json!(steps)[0]["path"], "/m/a.b~1c~0d");
    }

    #[test]
    fn a_patch_that_does_not_fit_is_refused() {
        for step in [
            Operation::Remove { path: "/a".to_owned() },
            Operation::Add { path: "/a/0".to_owned(), value: json!(1) },
            Operation::Replace { path: "/l/7".to_owned(), value: json!(1) },
            Operation::Add { path: "/l/7".to_owned(), value: json!(1) },
        ] {
            assert_eq!(apply(&mut json!({"l": [1]}), vec![step]), None);
        }
    }
}
