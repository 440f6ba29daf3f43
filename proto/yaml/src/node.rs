//! The nodes of a document, and how readers take them apart. A mistake is reported as a predicate, to follow the name
//! of the place: `is a list; expected text`.

use std::{collections::BTreeSet, fmt, marker::PhantomData};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// The fields of a map, in the order of the text, without duplicates.
pub type Fields<'a> = &'a [(String, Node)];

/// So many fields are few.
const FEW_FIELDS: usize = 16;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub line: u64,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Text(String),
    Bool(bool),
    /// The text of the number, which the reader parses.
    Number(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Returns the field of that name.
pub fn field<'a>(fields: Fields<'a>, name: &str) -> Option<&'a Node> {
    fields.iter().find(|(field, _)| field == name).map(|(_, node)| node)
}

impl Node {
    /// # Errors
    /// A predicate that says what the node is instead.
    pub fn text(&self) -> Result<&str, String> {
        match &self.value {
            Value::Text(text) => Ok(text),
            plain @ (Value::Number(_) | Value::Bool(_)) => {
                Err(format!("is {plain}; expected text: put it in quotes"))
            }
            other => Err(format!("is {other}; expected text")),
        }
    }

    /// # Errors
    /// A predicate that says what the node is instead.
    pub fn fields(&self) -> Result<Fields<'_>, String> {
        match &self.value {
            Value::Map(fields) => Ok(fields),
            other => Err(format!("is {other}; expected fields")),
        }
    }

    /// The entries of a list: at least one and at most `most`.
    ///
    /// # Errors
    /// A predicate that says what the node is instead.
    pub fn items(&self, most: usize) -> Result<&[Node], String> {
        match &self.value {
            Value::List(items) if items.is_empty() => Err("is empty; expected at least one".to_owned()),
            Value::List(items) if items.len() > most => {
                Err(format!("has {} entries; at most {most} are allowed", items.len()))
            }
            Value::List(items) => Ok(items),
            other => Err(format!("is {other}; expected a list")),
        }
    }

    /// The same as JSON, for readers that know their documents as types.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Text(text) => Json::from(text.as_str()),
            Value::Bool(value) => Json::from(*value),
            // What JSON has no number for, such as .inf, stays text.
            Value::Number(text) => text.parse().map_or_else(|_| Json::from(text.as_str()), Json::Number),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(fields) => {
                Json::Object(fields.iter().map(|(name, node)| (name.clone(), node.to_json())).collect())
            }
        }
    }
}

/// Says what the value is without quoting its text.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("empty"),
            Value::Text(_) => f.write_str("text"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Number(text) => write!(f, "the number {text}"),
            Value::List(_) => f.write_str("a list"),
            Value::Map(_) => f.write_str("a map"),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor::<Node>(PhantomData))
    }
}

/// A node of a text whose reader tells no lines: all of it counts as the first.
pub(crate) struct Unplaced(pub(crate) Node);

impl<'de> Deserialize<'de> for Unplaced {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserializer.deserialize_any(ValueVisitor::<Unplaced>(PhantomData))?;
        Ok(Self(Node { line: 1, value }))
    }
}

impl From<Unplaced> for Node {
    fn from(unplaced: Unplaced) -> Self {
        unplaced.0
    }
}

/// Of a value whose parts are read as `N`.
struct ValueVisitor<N>(PhantomData<N>);

impl<'de, N: Deserialize<'de> + Into<Node>> Visitor<'de> for ValueVisitor<N> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<N>()? {
            list.push(item.into());
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let (mut map, mut seen) = (Vec::<(String, Node)>::new(), BTreeSet::new());
        while let Some((name, value)) = fields.next_entry::<String, N>()? {
            let value = value.into();
            // Few are compared more quickly than they are sorted; many would take the square of their number.
            if map.len() == FEW_FIELDS {
                seen.extend(map.iter().map(|(name, _)| name.clone()));
            }
            let is_new = match map.len() < FEW_FIELDS {
                true => field(&map, &name).is_none(),
                false => seen.insert(name.clone()),
            };
            if !is_new {
                let line = value.line;
                return Err(de::Error::custom(format!(
                    "the field {name:?} appears twice, the second time in line {line}"
                )));
            }
            map.push((name, value));
        }
        Ok(Value::Map(map))
    }
}
