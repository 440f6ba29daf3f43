//! Secret values in YAML: a map of texts. Numbers and booleans have to be in quotes, because YAML does not keep how they are
//! written.

use data_encoding::BASE64;
use strongroom_client::SecretBytes;
use strongroom_yaml::{Node, Value};

use super::{Document, Values};
use crate::failure::Failure;

/// A map of texts, and of `{base64: ...}` for bytes.
const DEPTH: usize = 2;

pub(crate) fn read(document: &Document<'_>) -> Result<Values, Failure> {
    let node = strongroom_yaml::read(document.text()?, DEPTH)
        .map_err(|error| Failure::usage(format!("{} {error}", document.name)))?;
    let values = texts(document, node, "")?;
    if values.is_empty() {
        return Err(Failure::usage(format!("{} has no keys", document.name)));
    }
    Ok(values)
}

/// The texts of a map, whose keys are told with `prefix`.
pub(super) fn texts(document: &Document<'_>, map: Node, prefix: &str) -> Result<Values, Failure> {
    let Value::Map(fields) = map.value else {
        return Err(document
            .wrong(map.line, format_args!("expected keys with values, and there is {}", kind(&map.value))));
    };
    let mut values = Values::new();
    for (key, node) in fields {
        let line = node.line;
        let value =
            text(node).map_err(|problem| document.wrong_key(line, &format!("{prefix}{key}"), problem))?;
        values.insert(key, value);
    }
    Ok(values)
}

fn text(node: Node) -> Result<SecretBytes, String> {
    match node.value {
        Value::Text(text) => Ok(SecretBytes::from(text)),
        Value::Map(mut fields) if fields.len() == 1 => match fields.pop() {
            Some((key, Node { value: Value::Text(text), .. })) if key == "base64" => {
                let text = SecretBytes::from(text);
                BASE64.decode(text.expose()).map(SecretBytes::new).map_err(|_| "is not base64".to_owned())
            }
            _ => Err("is a map; expected text".to_owned()),
        },
        plain @ (Value::Number(_) | Value::Bool(_)) => {
            Err(format!("is {}; put it in quotes, so that it stays as it is written", kind(&plain)))
        }
        other => Err(format!("is {}; expected text", kind(&other))),
    }
}

/// What it is, without its text: a number may be the secret.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Text(_) => "text",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Values, Failure> {
        read(&Document { name: "v.yaml", bytes: &SecretBytes::from(text.as_bytes()) })
    }

    #[test]
    fn texts_and_bytes_are_read() {
        let values =
            parse("user: alice\npin: \"0042\"\nkey: {base64: AP8=}\npem: |\n  a\n  b\nempty: \"\"\n")
                .unwrap();
        assert_eq!(values["pin"].expose(), b"0042");
        assert_eq!(values["key"].expose(), [0, 255]);
        assert_eq!(values["pem"].expose(), b"a\nb\n");
        assert!(values["empty"].is_empty());
    }

    #[test]
    fn a_mistake_has_its_line_and_its_key_and_never_the_value() {
        for (text, told) in [
            (" \n", "v.yaml is empty"),
            ("{}", "has no keys"),
            ("a: x\npin: 4217\n", "v.yaml, line 2: the key \"pin\" is a number; put it in quotes"),
            ("a: true", "the key \"a\" is true or false"),
            ("a:\n", "the key \"a\" is empty; expected text"),
            ("a: [4217]", "the key \"a\" is a list"),
            ("a: {b: 4217}", "the key \"a\" is a map"),
            ("a: {base64: '4217!'}", "the key \"a\" is not base64"),
            ("- 4217", "there is a list"),
            ("a: x\na: y", "\"a\" appears twice"),
        ] {
            let sentence = parse(text).err().unwrap().to_string();
            assert!(sentence.contains(told) && !sentence.contains("4217"), "{sentence}");
        }
    }
}
