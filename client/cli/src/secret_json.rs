//! Secret values in JSON: how they are read, and how they are printed. Neither way leaves a copy in memory that is not wiped.

use std::{collections::BTreeMap, fmt};

use data_encoding::BASE64;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};
use strongroom_client::SecretBytes;

use crate::failure::Failure;

/// An object of strings.
pub(crate) fn read(text: &SecretBytes) -> Result<BTreeMap<String, SecretBytes>, Failure> {
    // The parser's own sentence may quote the text: only its place is told.
    let values: JsonObject = serde_json::from_slice(text.expose()).map_err(|error| {
        let why = "not a JSON object of strings, or a key stands in it twice";
        Failure::usage(format!("--json: {why} (line {}, column {})", error.line(), error.column()))
    })?;
    Ok(values.0)
}

/// A JSON object whose values go straight into wiped memory.
struct JsonObject(BTreeMap<String, SecretBytes>);

/// A value in JSON and YAML: text, or an object with base64 for what is not UTF-8.
pub(crate) struct JsonValue<'a>(pub(crate) &'a SecretBytes);

struct OwnedJsonValue(SecretBytes);

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

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = JsonObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonObject, A::Error> {
                let mut values = BTreeMap::new();
                while let Some((key, OwnedJsonValue(value))) = map.next_entry::<String, _>()? {
                    if values.insert(key, value).is_some() {
                        return Err(de::Error::custom("a key stands twice"));
                    }
                }
                Ok(JsonObject(values))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for OwnedJsonValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = OwnedJsonValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or {\"base64\": \"...\"}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OwnedJsonValue, E> {
                Ok(OwnedJsonValue(SecretBytes::from(text.as_bytes())))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OwnedJsonValue, A::Error> {
                let wrong = || de::Error::custom("a binary value is {\"base64\": \"...\"}");
                let (key, OwnedJsonValue(text)) =
                    map.next_entry::<String, OwnedJsonValue>()?.ok_or_else(wrong)?;
                if key != "base64" || map.next_key::<String>()?.is_some() {
                    return Err(wrong());
                }
                let bytes = BASE64.decode(text.expose()).map_err(|_| wrong())?;
                Ok(OwnedJsonValue(SecretBytes::new(bytes)))
            }
        }
        deserializer.deserialize_any(Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<BTreeMap<String, SecretBytes>, Failure> {
        read(&SecretBytes::from(text.as_bytes()))
    }

    #[test]
    fn json_goes_both_ways() {
        let values = json(r#"{"user": "alice", "key": {"base64": "AP8="}}"#).unwrap();
        assert_eq!(values["user"].expose(), b"alice");
        assert_eq!(values["key"].expose(), [0, 255]);
        let shown: BTreeMap<_, _> = values.iter().map(|(key, value)| (key, JsonValue(value))).collect();
        assert_eq!(serde_json::to_string(&shown).unwrap(), r#"{"key":{"base64":"AP8="},"user":"alice"}"#);
    }

    #[test]
    fn wrong_json_is_refused_without_quoting_it() {
        for text in [
            r#"["hunter2"]"#,
            r#"{"a": 1}"#,
            r#"{"a": "hunter2", "a": "b"}"#,
            r#"{"a": {"base64": "hunter2!"}}"#,
            r#"{"a": {"b": "hunter2"}}"#,
            r#"{"a": "hunter2"#,
        ] {
            let sentence = json(text).unwrap_err().to_string();
            assert!(!sentence.contains("hunter2"), "{sentence}");
        }
    }
}
