//! Splitting a file into documents, each read by itself: one that is broken leaves the others as they are.

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    /// The line of the file that it starts on, from 1.
    pub(crate) line: u32,
    pub(crate) text: &'a str,
}

/// The documents of a file that say anything.
///
/// A line that begins with `---` ends a document wherever it stands (YAML 1.2, section 9.1.2): no scalar can contain one.
pub(crate) fn split(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    let mut position = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        position += line.len();
        if is_marker(line) {
            push(&mut documents, text, start..position - line.len(), first_line);
            (start, first_line) = (position, number + 1);
        }
    }
    push(&mut documents, text, start..text.len(), first_line);
    documents
}

fn push<'a>(documents: &mut Vec<Document<'a>>, text: &'a str, range: std::ops::Range<usize>, line: u32) {
    let Some(text) = text.get(range) else { return };
    let says_something = text.lines().any(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    if says_something {
        documents.push(Document { line, text });
    }
}

/// `---` or the end marker `...`, alone on a line but for blanks and a comment.
fn is_marker(line: &str) -> bool {
    let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."));
    rest.is_some_and(|rest| {
        rest.trim().is_empty() || rest.trim_start().starts_with('#') && rest.starts_with([' ', '\t'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_and_counts_lines() {
        let text = "# head\n---\na: 1\n--- # next\nb: |\n  ---\n  x\n---\n# nothing\n---\nc: 3";
        let documents = split(text);
        let found: Vec<_> = documents.iter().map(|document| (document.line, document.text)).collect();
        assert_eq!(found, [(3, "a: 1\n"), (5, "b: |\n  ---\n  x\n"), (11, "c: 3")]);
    }

    #[test]
    fn an_empty_file_has_none() {
        assert_eq!(split(""), []);
        assert_eq!(split("# only a comment\n\n---\n"), []);
    }
}
