//! YAML as plain nodes, with limits: the only file of the library that knows the YAML crate.

use std::{collections::BTreeSet, fmt};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// YAML as it stands there.
pub(super) enum Node {
    Null,
    Text(String),
    Bool(bool),
    Number(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// The text bounds everything but what aliases multiply, so those are not allowed at all.
pub(super) fn read(yaml: &str) -> Result<Node, String> {
    let most = yaml.len().saturating_mul(2).saturating_add(64);
    let options = serde_saphyr::options! {
        with_snippet: false,
        // YAML 1.2: a file may be called y or no.
        strict_booleans: true,
        // Refused below, in words for people.
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_events: most,
            max_nodes: most,
            max_depth: 8,
            max_anchors: 0,
            max_aliases: 0,
            max_merge_keys: 0,
            max_total_scalar_bytes: yaml.len(),
        },
    };
    serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
        let line = error.location().map_or(String::new(), |location| format!(" (line {})", location.line()));
        format!("is not YAML{line}: {}", error.without_snippet())
    })
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Null => f.write_str("empty"),
            Node::Text(_) => f.write_str("text"),
            Node::Bool(value) => write!(f, "{value}"),
            Node::Number(text) => write!(f, "the number {text}"),
            Node::List(_) => f.write_str("a list"),
            Node::Map(_) => f.write_str("a map"),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let (mut map, mut seen) = (Vec::new(), BTreeSet::new());
        while let Some((name, value)) = fields.next_entry::<String, _>()? {
            if !seen.insert(name.clone()) {
                return Err(de::Error::custom(format!("the field {name:?} is there twice")));
            }
            map.push((name, value));
        }
        Ok(Node::Map(map))
    }
}
