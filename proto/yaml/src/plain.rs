//! The plain part of YAML, read in a hundredth of the time: what machines write, and most people. Everything else (a
//! comment, an escape, a number, a text over several lines, a mistake) is not judged here but left to the YAML library.
//!
//! It must never read a text in another way than the library does, so whatever could be read in two ways is left as
//! well; a test compares the two.

use crate::{
    node::{Node, Value},
    read::Limits,
};

/// Fields of a map that are compared one by one to find one that stands twice.
const FIELDS: usize = 64;
/// Longest name of a field: YAML has a limit of its own at 1024.
const NAME_BYTES: usize = 253;
/// Words that some reader of YAML takes for something else than text.
const NOT_TEXT: [&str; 12] =
    ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "infinity", "nan"];

/// All documents, or nothing if they are not plain.
pub(crate) fn read_all(yaml: &str, limits: Limits) -> Option<Vec<Node>> {
    if !yaml.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)) {
        return None;
    }
    let mut reader = Reader { rest: yaml, number: 0, ahead: None };
    reader.step();
    reader.step_over_marker();
    let mut nodes = Vec::new();
    loop {
        nodes.push(reader.block(0, limits.depth)?);
        if reader.ahead.is_none() {
            return (nodes.len() <= limits.documents).then_some(nodes);
        }
        // Whatever else follows, it belongs to no document.
        reader.step_over_marker().then_some(())?;
    }
}

/// A line that is not empty.
#[derive(Clone, Copy)]
struct Line<'a> {
    number: u64,
    indent: usize,
    text: &'a str,
}

struct Reader<'a> {
    rest: &'a str,
    number: u64,
    ahead: Option<Line<'a>>,
}

impl<'a> Reader<'a> {
    fn step(&mut self) {
        self.ahead = None;
        while self.ahead.is_none() && !self.rest.is_empty() {
            let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
            (self.rest, self.number) = (rest, self.number + 1);
            let text = line.trim_start_matches(' ');
            let indent = line.len() - text.len();
            self.ahead = (!text.is_empty()).then_some(Line { number: self.number, indent, text });
        }
    }

    fn step_over_marker(&mut self) -> bool {
        let marker = self.ahead.is_some_and(|line| line.is_marker());
        if marker {
            self.step();
        }
        marker
    }

    /// The line ahead if it stands that far from the margin.
    fn at(&self, indent: usize) -> Option<Line<'a>> {
        self.ahead.filter(|line| line.indent == indent && !line.is_marker())
    }

    /// Nothing may stand deeper than what has just ended: it would go on with it.
    fn ended(&self, indent: usize) -> Option<()> {
        self.ahead.is_none_or(|line| line.indent <= indent).then_some(())
    }

    fn block(&mut self, indent: usize, depth: usize) -> Option<Node> {
        let line = self.at(indent)?;
        if line.text.starts_with("- ") {
            return self.list(indent, depth);
        }
        if line.text.starts_with(['{', '[']) {
            self.step();
            self.ended(indent)?;
            return inline(line.number, line.text, depth);
        }
        self.map(indent, depth)
    }

    fn list(&mut self, indent: usize, depth: usize) -> Option<Node> {
        let depth = depth.checked_sub(1)?;
        let start = self.at(indent)?.number;
        let mut items = Vec::new();
        while let Some(line) = self.at(indent) {
            let Some(item) = line.text.strip_prefix("- ") else { break };
            if entry(item).is_some() {
                let indent = indent + 2;
                self.ahead = Some(Line { indent, text: item, ..line });
                items.push(self.map(indent, depth)?);
            } else {
                self.step();
                items.push(inline(line.number, item, depth)?);
            }
        }
        self.ended(indent)?;
        Some(Node { line: start, value: Value::List(items) })
    }

    fn map(&mut self, indent: usize, depth: usize) -> Option<Node> {
        let depth = depth.checked_sub(1)?;
        let start = self.at(indent)?.number;
        let mut fields = Vec::new();
        while let Some(line) = self.at(indent) {
            if line.text.starts_with("- ") {
                break;
            }
            let (name, value) = entry(line.text)?;
            self.step();
            let value = match value {
                Some(value) => inline(line.number, value, depth)?,
                None => {
                    let below = self.ahead?;
                    let is_inside = below.indent > indent || below.text.starts_with("- ");
                    (is_inside && below.indent >= indent).then_some(())?;
                    self.block(below.indent, depth)?
                }
            };
            add(&mut fields, name, value)?;
        }
        self.ended(indent)?;
        Some(Node { line: start, value: Value::Map(fields) })
    }
}

impl Line<'_> {
    fn is_marker(&self) -> bool {
        self.indent == 0 && self.text == "---"
    }
}

fn add(fields: &mut Vec<(String, Node)>, name: &str, value: Node) -> Option<()> {
    let twice = fields.iter().any(|(known, _)| known == name);
    (!twice && fields.len() < FIELDS).then(|| fields.push((name.to_owned(), value)))
}

/// `name: value`, or `name:` with its value in the lines below.
fn entry(text: &str) -> Option<(&str, Option<&str>)> {
    let (name, rest) = field_name(text)?;
    if rest.is_empty() { Some((name, None)) } else { rest.strip_prefix(' ').map(|rest| (name, Some(rest))) }
}

/// A name, its colon, and what follows.
fn field_name(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = word(text)?;
    let is_text = name.len() <= NAME_BYTES && !NOT_TEXT.iter().any(|word| word.eq_ignore_ascii_case(name));
    is_text.then_some(())?;
    Some((name, rest.strip_prefix(':')?))
}

/// A value that takes the rest of its line.
fn inline(line: u64, text: &str, depth: usize) -> Option<Node> {
    let (node, rest) = flow(line, text, depth)?;
    rest.is_empty().then_some(node)
}

/// A value, and what follows it.
fn flow(line: u64, text: &str, depth: usize) -> Option<(Node, &str)> {
    let (value, rest) = match text.bytes().next()? {
        b'"' => {
            let (content, rest) = text.get(1..)?.split_once('"')?;
            (!content.contains('\\')).then_some(())?;
            (Value::Text(content.to_owned()), rest)
        }
        b'[' => {
            let depth = depth.checked_sub(1)?;
            let mut items = Vec::new();
            let rest = each(text.get(1..)?, ']', |text| {
                let (item, rest) = flow(line, text, depth)?;
                items.push(item);
                Some(rest)
            })?;
            (Value::List(items), rest)
        }
        b'{' => {
            let depth = depth.checked_sub(1)?;
            let mut fields = Vec::new();
            let rest = each(text.get(1..)?, '}', |text| {
                let (name, rest) = field_name(text)?;
                let (value, rest) = flow(line, rest.strip_prefix(' ')?, depth)?;
                add(&mut fields, name, value)?;
                Some(rest)
            })?;
            (Value::Map(fields), rest)
        }
        _ => {
            let (word, rest) = word(text)?;
            let value = match word {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ if NOT_TEXT.iter().any(|other| other.eq_ignore_ascii_case(word)) => return None,
                _ => Value::Text(word.to_owned()),
            };
            (value, rest)
        }
    };
    Some((Node { line, value }, rest))
}

/// One or more parts with commas between them, up to `end`; what follows that.
fn each<'a>(
    mut text: &'a str,
    end: char,
    mut part: impl FnMut(&'a str) -> Option<&'a str>,
) -> Option<&'a str> {
    loop {
        text = part(text.trim_start_matches(' '))?.trim_start_matches(' ');
        if let Some(rest) = text.strip_prefix(end) {
            return Some(rest);
        }
        text = text.strip_prefix(',')?;
    }
}

/// What begins with a letter and holds nothing that means something in YAML.
fn word(text: &str) -> Option<(&str, &str)> {
    text.starts_with(|first: char| first.is_ascii_alphabetic()).then_some(())?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
    let end = text.bytes().position(|byte| !plain(byte)).unwrap_or(text.len());
    text.split_at_checked(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::read_with_library;

    const LIMITS: Limits = Limits { documents: 3, depth: 4 };

    /// What is read here, if it is, is what the library reads.
    fn compare(yaml: &str) -> bool {
        let Some(plain) = read_all(yaml, LIMITS) else { return false };
        assert_eq!(Ok(plain), read_with_library(yaml, LIMITS), "{yaml}");
        true
    }

    #[test]
    fn what_is_plain_is_read_as_the_library_reads_it() {
        for yaml in [
            "kind: Role\nname: \"r\"\nrules:\n- paths:\n  - \"secret/{{user}}/**\"\n  - a/b\n  verbs: [read, list]\n",
            "---\nkind: Binding\n\nsubjects:\n  - user: {method: userpass, name: \"a: b # c\"}\n\
             conditions:\n  pod: true\n---\na: b\n",
            "{kind: Role, rules: [{paths: [\"*\", \"true\", \"null\", \"1\", \"\", \"~\"], verbs: \"*\"}]}\n---\n[ a , b ]",
            "a:\n- b\n- c: d\n  e: [f]\ng: h\n",
            "a:\n    - b\n    - [c, {d: e}]\n",
            "- a\n- b: c\n  d:\n  - e\n- {f: false}",
            "a:\n  {b: c}\nd: e",
            "a: b\n\n\n---\n\nc: d\n\n",
        ] {
            assert!(compare(yaml), "{yaml}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left() {
        for yaml in [
            "",
            "\n",
            "---\n",
            "a",
            "a: 1",
            "a: null",
            "a: ~",
            "a: No",
            "yes: b",
            "a: b # c",
            "# a\nb: c",
            "a: b c",
            "a: 'b'",
            "a: \"b\\n\"",
            "a: \"b",
            "a: \u{e4}",
            "a:\tb",
            "a: b\r\n",
            "a: b ",
            "a: b\n  c",
            "a: |\n  b",
            "a:\n  b",
            "a:",
            "a: []",
            "a: {}",
            "a: [b",
            "a: [b,]",
            "a: [b]c",
            "a: {b}",
            "a: {b: c, b: d}",
            "a: b\na: c",
            "a: &b c",
            "a: *b",
            "a: !b c",
            "? a",
            "a: b\n- c",
            "- a: b\n  - c",
            "k:\n  a: b\n  - c",
            "- a\n b",
            "- - a",
            "-a: b",
            "a: b\n...\n",
            "%YAML 1.2\n---\na: b",
            "a: b\n---\n---\nc: d",
            "a: b\n---\n",
            "--- a: b",
            " a: b",
            "a: 2026-01-01",
            "a: .inf",
            "a: -b",
            "\"a\": b",
            "a: b: c",
            "a:b",
            "a :b",
            "a: [b: c]",
            "<<: b",
            "a: [[[[b]]]]",
            "a: b\n---\na: b\n---\na: b\n---\na: b",
        ] {
            assert!(!compare(yaml), "{yaml}");
        }
    }

    /// Random lines, well and badly indented: whatever is taken, is taken alike.
    #[test]
    fn the_two_readers_agree_on_random_texts() {
        const LINES: [&str; 16] = [
            "a: b",
            "b: c",
            "c:",
            "d:",
            "- a",
            "- a: b",
            "- c:",
            "- [a, {b: c}]",
            "- \"x: y\"",
            "e: [f, \"g h\"]",
            "g: {h: true}",
            "---",
            "",
            "- - a",
            "a b",
            "h: \"i",
        ];
        let (mut state, mut taken) = (7_u64, 0);
        let mut below = |end: usize| {
            // Knuth's MMIX: any sequence will do, as long as it is the same every time.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % end
        };
        for _ in 0..50_000 {
            let line =
                |_| format!("{}{}\n", " ".repeat([0, 0, 2, 2, 4][below(5)]), LINES[below(LINES.len())]);
            let text: String = std::iter::once("a: b\nf:\n".to_owned()).chain((0..3).map(line)).collect();
            taken += u32::from(compare(&text));
        }
        assert!(taken > 500, "only {taken} were plain, which says little");
    }
}
