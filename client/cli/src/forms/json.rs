//! Secret values in JSON: how they are read, and how they are printed. Neither way leaves a copy in memory that is not wiped.

use std::fmt;

use data_encoding::BASE64;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;
use strongroom_client::SecretBytes;

use super::{Document, Values};
use crate::failure::Failure;

/// What is done with values that are no text.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rules {
    /// Lists and objects become their own text, without the blanks between their parts.
    pub(crate) nested: bool,
    /// `null` removes a key.
    pub(crate) removes: bool,
}

/// What an object says.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) values: Values,
    pub(crate) removed: Vec<String>,
}

/// An object. Numbers and booleans become their own text, so that no digit is lost.
pub(crate) fn read(document: &Document<'_>, rules: Rules) -> Result<Read, Failure> {
    let text = document.text()?;
    // The parser's own sentence may quote the text: only its place is told.
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| {
        let why = "this is not a JSON object";
        Failure::usage(format!("{}, line {}, column {}: {why}", document.name, error.line(), error.column()))
    })?;
    let mut read = Read::default();
    for (key, raw) in fields.0 {
        let line = line_of(text, raw.get());
        if read.values.contains_key(&key) || read.removed.contains(&key) {
            return Err(document.wrong_key(line, &key, "appears twice"));
        }
        match value(raw.get(), rules.nested) {
            Ok(Some(value)) => drop(read.values.insert(key, value)),
            Ok(None) if rules.removes => read.removed.push(key),
            Ok(None) => {
                let problem = "is null; leave it out, or use strongroom patch, where null removes a key";
                return Err(document.wrong_key(line, &key, problem));
            }
            Err(problem) => return Err(document.wrong_key(line, &key, problem)),
        }
    }
    if read.values.is_empty() && read.removed.is_empty() {
        return Err(Failure::usage(format!("{} has no keys", document.name)));
    }
    Ok(read)
}

/// Nothing for `null`. The text is JSON already.
fn value(raw: &str, nested: bool) -> Result<Option<SecretBytes>, &'static str> {
    let problem = "is a list or an object; with --nested-as-json, its JSON text becomes the value";
    match raw.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<Text>(raw) {
            Ok(Text(text)) => Ok(Some(text)),
            Err(_) => Err("has half a character: \\ud800 to \\udfff come in pairs"),
        },
        Some(b'{' | b'[') => match binary(raw) {
            Some(base64) => {
                let bytes = BASE64.decode(base64.expose()).map_err(|_| "is not base64")?;
                Ok(Some(SecretBytes::new(bytes)))
            }
            None if nested => Ok(Some(compact(raw))),
            None => Err(problem),
        },
        Some(b'n') => Ok(None),
        _ => Ok(Some(SecretBytes::from(raw.as_bytes()))),
    }
}

/// The text of `{"base64": "..."}`.
fn binary(raw: &str) -> Option<SecretBytes> {
    let mut fields = serde_json::from_str::<Fields<'_>>(raw).ok()?.0;
    let (key, value) = fields.pop().filter(|_| fields.is_empty())?;
    let Text(text) = serde_json::from_str(value.get()).ok()?;
    (key == "base64").then_some(text)
}

/// Without the blanks outside of strings; everything else stays as it is.
fn compact(raw: &str) -> SecretBytes {
    let mut kept = Vec::with_capacity(raw.len());
    let (mut within, mut escaped) = (false, false);
    for byte in raw.bytes() {
        if within || !byte.is_ascii_whitespace() {
            kept.push(byte);
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => within = !within,
            _ => {}
        }
    }
    SecretBytes::new(kept)
}

/// In which line `part` of `text` begins.
fn line_of(text: &str, part: &str) -> u64 {
    let before = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let lines = text.as_bytes().iter().take(before).filter(|byte| **byte == b'\n').count();
    u64::try_from(lines).unwrap_or(u64::MAX).saturating_add(1)
}

/// The fields of an object, in order, also those that appear twice. The values are places in the text.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

/// A JSON string, straight into wiped memory.
struct Text(SecretBytes);

/// A value in JSON and YAML: text, or an object with base64 for what is not UTF-8.
pub(crate) struct JsonValue<'a>(pub(crate) &'a SecretBytes);

impl Serialize for JsonValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = self.0.expose_str() {
            return serializer.serialize_str(text);
        }
        let base64 = zeroize::Zeroizing::new(BASE64.encode(self.0.expose()));
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", base64.as_str())?;
        map.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    fields.push((key, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct String;
        impl Visitor<'_> for String {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(SecretBytes::from(text.as_bytes())))
            }
        }
        deserializer.deserialize_str(String)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const ALL: Rules = Rules { nested: true, removes: true };

    fn json(text: &str, rules: Rules) -> Result<Read, Failure> {
        read(&Document { name: "--json", bytes: &SecretBytes::from(text.as_bytes()) }, rules)
    }

    #[test]
    fn json_goes_both_ways() {
        let values =
            json(r#"{"user": "al\u00efce", "key": {"base64": "AP8="}}"#, Rules::default()).unwrap().values;
        assert_eq!(values["user"].expose(), "al\u{ef}ce".as_bytes());
        assert_eq!(values["key"].expose(), [0, 255]);
        let shown: BTreeMap<_, _> = values.iter().map(|(key, value)| (key, JsonValue(value))).collect();
        assert_eq!(
            serde_json::to_string(&shown).unwrap(),
            "{\"key\":{\"base64\":\"AP8=\"},\"user\":\"al\u{ef}ce\"}"
        );
    }

    #[test]
    fn scalars_stay_as_they_are_written() {
        for text in [
            "12345678901234567890",
            "1.10",
            "-0",
            "1e400",
            "0.1000000000000000055511151231257827",
            "true",
            "false",
        ] {
            let values = json(&format!("{{\"k\": {text} }}"), Rules::default()).unwrap().values;
            assert_eq!(values["k"].expose_str(), Ok(text));
        }
    }

    #[test]
    fn nested_values_are_their_own_text_if_asked_for() {
        let text = r#"{"k": { "a b" : [1.10, "x \" y", 12345678901234567890, null ] , "a": {} }}"#;
        let values = json(text, ALL).unwrap().values;
        assert_eq!(
            values["k"].expose_str(),
            Ok(r#"{"a b":[1.10,"x \" y",12345678901234567890,null],"a":{}}"#)
        );
        let sentence = json(text, Rules::default()).err().unwrap().to_string();
        assert!(sentence.contains("the key \"k\"") && sentence.contains("--nested-as-json"), "{sentence}");
    }

    #[test]
    fn null_removes_a_key_or_is_a_mistake() {
        let given = json("{\"a\": null, \"b\": \"\"}", ALL).unwrap();
        assert_eq!((given.removed, given.values["b"].len()), (vec!["a".to_owned()], 0));
        let sentence = json("{\n\"a\": null}", Rules::default()).err().unwrap().to_string();
        assert!(sentence.starts_with("--json, line 2: the key \"a\" is null;"), "{sentence}");
    }

    #[test]
    fn wrong_json_is_refused_without_quoting_it() {
        for (text, word) in [
            ("", "--json is empty"),
            ("{}", "no keys"),
            (r#"["hunter2"]"#, "line 1"),
            ("{\"a\": \"hunter2\",\n\"a\": \"b\"}", "line 2: the key \"a\" appears twice"),
            (r#"{"a": null, "a": null}"#, "appears twice"),
            (r#"{"a": {"base64": "hunter2!"}}"#, "the key \"a\" is not base64"),
            (r#"{"a": "hunter2\ud800"}"#, "the key \"a\" has half"),
            (r#"{"a": "hunter2"#, "line 1, column"),
            (r#"{"a": 0123}"#, "line 1, column"),
        ] {
            let sentence = json(text, ALL).err().unwrap().to_string();
            assert!(!sentence.contains("hunter2") && sentence.contains(word), "{sentence}");
        }
    }
}
