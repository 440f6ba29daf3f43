//! Reads a text into nodes, within a budget.

use serde_json::error::Category;
use serde_saphyr::budget::BudgetBreach;

use crate::node::{Node, Unplaced};

/// What a reader expects at most. Everything else is bounded by the length of the text, which the reader checks.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub documents: usize,
    /// Lists and maps within each other.
    pub depth: usize,
}

/// The text is not YAML, or more than its reader expects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not YAML{}: {problem}", .line.map(|line| format!(" (line {line})")).unwrap_or_default())]
pub struct NotYaml {
    pub line: Option<u64>,
    pub problem: String,
}

/// Reads one document. An empty text is an empty document.
///
/// # Errors
/// It is not YAML, more than one document, or deeper than `depth`.
pub fn read(yaml: &str, depth: usize) -> Result<Node, NotYaml> {
    Ok(serde_saphyr::from_str_with_options(yaml, options(yaml, Limits { documents: 1, depth }))?)
}

/// Reads any number of documents.
///
/// # Errors
/// One of them is not YAML, or they are more than `limits` allow.
pub fn read_all(yaml: &str, limits: Limits) -> Result<Vec<Node>, NotYaml> {
    Ok(serde_saphyr::from_multiple_with_options(yaml, options(yaml, limits))?)
}

/// Reads one document that a program wrote as JSON, many times as fast. All of it counts as the first line.
///
/// # Errors
/// It is not JSON.
pub fn read_json(json: &str) -> Result<Node, NotYaml> {
    let read = serde_json::from_str(json).map(|Unplaced(node)| node);
    read.map_err(|error| {
        let problem = match error.classify() {
            Category::Eof => "the JSON ends too early",
            _ => "it is not the JSON that was written",
        };
        NotYaml { line: None, problem: problem.to_owned() }
    })
}

/// The text bounds everything but what aliases multiply, so those are not allowed at all.
fn options(yaml: &str, limits: Limits) -> serde_saphyr::Options {
    let most = yaml.len().saturating_mul(2).saturating_add(64);
    serde_saphyr::options! {
        with_snippet: false,
        // YAML 1.2: a user, or a file, may be called y or no.
        strict_booleans: true,
        // Refused by the nodes, in words for people.
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        budget: serde_saphyr::budget! {
            max_documents: limits.documents,
            max_events: most,
            max_nodes: most,
            max_depth: limits.depth,
            max_anchors: 0,
            max_aliases: 0,
            max_merge_keys: 0,
            max_total_scalar_bytes: yaml.len(),
        },
    }
}

impl From<serde_saphyr::Error> for NotYaml {
    fn from(error: serde_saphyr::Error) -> Self {
        let location = error.location();
        let problem = match error.without_snippet() {
            serde_saphyr::Error::Budget { breach, .. } => too_much(breach).to_owned(),
            other => {
                let told = other.to_string();
                // Lines are reported in the same way everywhere.
                let place = location.map(|at| format!(" at line {}, column {}", at.line(), at.column()));
                place.and_then(|place| told.strip_suffix(&place).map(str::to_owned)).unwrap_or(told)
            }
        };
        Self { line: location.map(|location| location.line()), problem }
    }
}

fn too_much(breach: &BudgetBreach) -> &'static str {
    match breach {
        BudgetBreach::Documents { .. } => "there are too many documents",
        BudgetBreach::Depth { .. } => "lists and maps are nested too deeply",
        BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. } | BudgetBreach::MergeKeys { .. } => {
            "anchors and aliases are not allowed"
        }
        _ => "it has more content than its length allows",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Value, field};

    const LIMITS: Limits = Limits { documents: 2, depth: 3 };

    #[test]
    fn nodes_know_what_they_are_and_where() {
        let nodes = read_all("a: [1, true, x, ~]\nb: {c: 1.5}\n---\nno\n", LIMITS).unwrap();
        let fields = nodes[0].fields().unwrap();
        let items = field(fields, "a").unwrap().items(4).unwrap();
        let shown: Vec<_> = items.iter().map(|item| item.value.to_string()).collect();
        assert_eq!(shown, ["the number 1", "true", "text", "empty"]);
        assert_eq!(field(fields, "b").unwrap().line, 2);
        assert_eq!(nodes[1].text(), Ok("no"));
        assert_eq!(nodes[0].to_json(), serde_json::json!({"a": [1, true, "x", null], "b": {"c": 1.5}}));
    }

    #[test]
    fn json_is_read_as_the_yaml_that_it_is() {
        let json = r#"{"a":[1,-2,true,null,"x: y"],"b":{"c":"1"}}"#;
        let from_yaml = read_all(json, LIMITS).unwrap().remove(0);
        assert_eq!(read_json(json).unwrap(), from_yaml);
        for wrong in ["", "{", "{a: 1}", "1 2", r#"{"a":1,"a":2}"#] {
            assert!(read_json(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_field_is_there_once_however_many_there_are() {
        for count in [1, 15, 16, 17, 40] {
            let fields: Vec<_> = (0..count).map(|n| format!("\"f{n}\":{n}")).collect();
            for (again, fine) in
                [(format!("f{count}"), true), ("f0".into(), false), (format!("f{}", count - 1), false)]
            {
                let json = format!("{{{},\"{again}\":0}}", fields.join(","));
                assert_eq!((read_json(&json).is_ok(), read(&json, 3).is_ok()), (fine, fine), "{json}");
            }
        }
    }

    #[test]
    fn what_is_too_much_is_not_read() {
        for yaml in [
            "a: &x [1]\nb: *x",
            "a: &x {c: 1}\nb: {<<: *x}",
            "1\n---\n2\n---\n3",
            "[[[[1]]]]",
            "{a: 1, a: 2}",
            "a: [",
            "\u{0}",
        ] {
            assert!(read_all(yaml, LIMITS).is_err(), "{yaml:?}");
        }
        assert!(read("1\n---\n2", 3).is_err());
        let bomb = "[".repeat(100_000);
        assert!(read(&bomb, 3).is_err());
        assert_eq!(read("", 3).unwrap().value, Value::Null);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_in_words() {
        let told = |yaml: &str| read(yaml, 3).unwrap_err().to_string();
        assert_eq!(
            told("a: 1\nb: 2\na: 3\n"),
            "is not YAML: the field \"a\" appears twice, the second time in line 3"
        );
        assert_eq!(told("a: &x 1\nb: *x\n"), "is not YAML (line 1): anchors and aliases are not allowed");
        assert_eq!(
            told("a:\n  b:\n    c: [1]\n"),
            "is not YAML (line 3): lists and maps are nested too deeply"
        );
        let syntax = told("a: 1\nb: [\n");
        assert!(syntax.starts_with("is not YAML (line ") && !syntax.contains("at line"), "{syntax}");
    }
}
