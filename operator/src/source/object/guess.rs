//! What can be told of a document that is not YAML. A broken policy must still close what it targets.

use super::id::{Kind, ObjectId};

/// The object that the text seems to describe.
pub(super) fn id(text: &str) -> Option<ObjectId> {
    let kind = Kind::from_name(after(text, "kind:")?)?;
    // In what follows `metadata:` the first of each is the object's own.
    let metadata = text.split_once("metadata:").map_or(text, |(_, rest)| rest);
    let namespace = after(metadata, "namespace:").filter(|_| kind.is_namespaced());
    ObjectId::new(kind, namespace, after(metadata, "name:")?)
}

fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let starts_word = |(at, _): &(usize, &str)| {
        let before = text.get(..*at).and_then(|before| before.chars().next_back());
        before.is_none_or(|before| before.is_whitespace() || matches!(before, '{' | ','))
    };
    let (at, _) = text.match_indices(key).find(starts_word)?;
    let rest = text.get(at + key.len()..)?.trim_start_matches([' ', '\t', '"', '\'']);
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))).unwrap_or(rest.len());
    rest.get(..end).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_names_in_both_styles() {
        for text in [
            "kind: FapiPolicy\nmetadata: {name: payments, namespace: bank}\nspec: [",
            "kind: FapiPolicy\nmetadata:\n  namespace: \"bank\"\n  name: payments\nspec:\n  a: b: c\n",
        ] {
            assert_eq!(id(text).map(|id| id.to_string()).as_deref(), Some("FapiPolicy bank/payments"));
        }
    }

    #[test]
    fn gives_up_on_the_rest() {
        assert_eq!(id("kind: FapiPolicy\nmetadata: {name: payments\n"), None);
        assert_eq!(id("kind: Secret\nmetadata: {name: a, namespace: b}\n"), None);
        assert_eq!(id("{{{{"), None);
    }
}
