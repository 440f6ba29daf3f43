//! From a volume's attributes to a [`Volume`]: every mistake at once, each with the field it is in.

use std::collections::BTreeMap;

use strongroom_proto::limits::WATCH_PATHS;
use strongroom_yaml::{Node, Value, field};

use super::{
    Decode, ENTRIES, Entry, FILES, FileName, ISSUES, Layout, Mode, PodRef, Problem, Source, TEXT_BYTES,
    Template, Volume, name::Claims, source, template::is_key,
};

/// The prefix of what the kubelet adds about the pod; the author of the pod does not write it.
const KUBELET: &str = "csi.storage.k8s.io/";
/// Deepest nesting: the fields of `keys`, `from` or `template` of an entry of the list are the third level.
const DEPTH: usize = 8;
/// Most problems reported at once: nobody reads more of them.
const PROBLEMS: usize = 100;
/// Most secrets of one `from`.
const ALIASES: usize = 16;
const ATTRIBUTES: &str = "secrets, mode, uid, gid";
const FIELDS: [&str; 10] =
    ["path", "issue", "from", "version", "dir", "keys", "template", "mode", "optional", "decode"];

impl Volume {
    /// Reads the attributes of a volume, as they stand in a pod under `csi.volumeAttributes`.
    ///
    /// # Errors
    /// All mistakes, up to a hundred.
    pub fn parse(attributes: &BTreeMap<String, String>, pod: &PodRef) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader { pod, problems: Vec::new(), claims: Claims::default() };
        for name in attributes.keys().filter(|name| !name.starts_with(KUBELET)) {
            if !matches!(name.as_str(), "secrets" | "mode" | "uid" | "gid") {
                reader.problem(shown(name), format!("is not known; expected {ATTRIBUTES}"));
            }
        }
        let mode = attributes.get("mode").and_then(|text| reader.mode("mode", text));
        let uid = attributes.get("uid").and_then(|text| reader.id("uid", text));
        let gid = attributes.get("gid").and_then(|text| reader.id("gid", text));
        let entries = reader.entries(attributes.get("secrets").map(String::as_str));
        let volume = Self { entries, uid, gid, mode };
        let count = volume.paths().len();
        if count > WATCH_PATHS {
            reader.problem("secrets", format!("names {count} paths; at most {WATCH_PATHS} are allowed"));
        }
        let count = volume.issues().len();
        if count > ISSUES {
            let problem = format!("has {count} different paths to issue; at most {ISSUES} are allowed");
            reader.problem("secrets", problem);
        }
        if reader.problems.is_empty() { Ok(volume) } else { Err(reader.problems) }
    }
}

/// The fields of an entry, before it is known whether they go together.
struct Fields<'a> {
    place: &'a str,
    all: strongroom_yaml::Fields<'a>,
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a Node> {
        field(self.all, name)
    }

    fn at(&self, name: &str) -> String {
        format!("{}.{name}", self.place)
    }
}

struct Reader<'a> {
    pod: &'a PodRef,
    problems: Vec<Problem>,
    claims: Claims,
}

impl Reader<'_> {
    fn problem(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(Problem { field: field.into(), problem: problem.into() });
        }
    }

    /// The value, or its problem on the list.
    fn keep<T, E: ToString>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.problem(field, error.to_string())).ok()
    }

    fn mode(&mut self, field: &str, text: &str) -> Option<Mode> {
        self.keep(field, Mode::parse(text))
    }

    fn id(&mut self, field: &str, text: &str) -> Option<u32> {
        // The largest number means "leave it as it is" to chown.
        let id = text.parse().ok().filter(|id| *id != u32::MAX && text.bytes().all(|b| b.is_ascii_digit()));
        self.keep(
            field,
            id.ok_or_else(|| format!("is {:?}; expected a number, such as \"1000\"", shown(text))),
        )
    }

    fn entries(&mut self, text: Option<&str>) -> Vec<Entry> {
        let node = match text {
            None => Err("is missing; expected a list of secrets in YAML".to_owned()),
            Some(text) if text.len() > TEXT_BYTES => {
                Err(format!("has {} bytes; at most {TEXT_BYTES} are allowed", text.len()))
            }
            Some(text) => strongroom_yaml::read(text, DEPTH).map_err(|error| error.to_string()),
        };
        let items = node.as_ref().map_err(String::clone).and_then(|node| match &node.value {
            Value::List(_) => node.items(ENTRIES),
            other => Err(format!("is {other}; expected a list (- path: secret/...)")),
        });
        let items = self.keep("secrets", items).unwrap_or_default();
        let entries = items.iter().enumerate().filter_map(|(at, node)| {
            let place = format!("secrets[{at}]");
            let all = self.map(&place, node)?;
            self.entry(&Fields { place: &place, all })
        });
        let entries = entries.collect();
        if self.claims.count() > FILES {
            let problem = format!("makes {} files; at most {FILES} are allowed", self.claims.count());
            self.problem("secrets", problem);
        }
        entries
    }

    fn entry(&mut self, fields: &Fields<'_>) -> Option<Entry> {
        for (name, _) in fields.all.iter().filter(|(name, _)| !FIELDS.contains(&name.as_str())) {
            let problem = format!("is not known; expected one of {}", FIELDS.join(", "));
            self.problem(fields.at(&shown(name)), problem);
        }
        let mode = fields.get("mode").and_then(|node| {
            let text = self.text(&fields.at("mode"), node)?;
            self.mode(&fields.at("mode"), text)
        });
        let optional = match fields.get("optional") {
            None => false,
            Some(Node { value: Value::Bool(optional), .. }) => *optional,
            Some(Node { value: other, .. }) => {
                self.problem(fields.at("optional"), format!("is {other}; expected true or false"));
                false
            }
        };
        let layout = self.layout(fields)?;
        Some(Entry { layout, optional, mode })
    }

    fn layout(&mut self, fields: &Fields<'_>) -> Option<Layout> {
        self.combination(fields);
        let dir = fields.get("dir").and_then(|node| self.file(&fields.at("dir"), node, None));
        let decode = self.decode(fields);
        if let Some(from) = fields.get("from") {
            let aliases = self.aliases(&fields.at("from"), from);
            let (names, sources): (Vec<_>, Vec<_>) = aliases.into_iter().unzip();
            let files = self.templates(fields, Some(&names), dir.as_ref());
            return Some(Layout::Template { sources: sources.into_iter().collect::<Option<_>>()?, files });
        }
        let source = self.source(fields);
        if fields.get("template").is_some() {
            let files = self.templates(fields, None, dir.as_ref());
            return Some(Layout::Template { sources: vec![source?], files });
        }
        if let Some(keys) = fields.get("keys") {
            let files = self.keys(&fields.at("keys"), keys, dir.as_ref());
            return Some(Layout::Keys { source: source?, files, decode });
        }
        if let Some(dir) = &dir {
            let claimed = self.claims.folder(dir, fields.place);
            self.keep(&fields.at("dir"), claimed);
        }
        Some(Layout::Whole { source: source?, dir, decode })
    }

    /// Fields that do not go together.
    fn combination(&mut self, fields: &Fields<'_>) {
        let has = |name| fields.get(name).is_some();
        let named: Vec<_> = ["path", "issue", "from"].into_iter().filter(|name| has(name)).collect();
        match &named[..] {
            [] => {
                let problem =
                    "has none of path, issue and from; expected path: secret/... or issue: database/...";
                self.problem(fields.place, problem);
            }
            ["from"] if !has("template") => {
                self.problem(fields.place, "has from without template; use path, or add a template");
            }
            [_] => {}
            many => {
                self.problem(fields.place, format!("has both {}; expected one of them", many.join(" and ")))
            }
        }
        let apart = [
            ("keys", "template", "write two entries"),
            ("decode", "template", "a template takes values as they are"),
            ("from", "version", "pin a version in an entry with path"),
            ("issue", "version", "what is issued has none"),
            ("issue", "optional", "what is issued is made for the pod, or the pod waits"),
        ];
        for (one, other, why) in apart {
            if has(one) && has(other) {
                self.problem(fields.at(other), format!("cannot be combined with {one}; {why}"));
            }
        }
    }

    fn decode(&mut self, fields: &Fields<'_>) -> Decode {
        match fields.get("decode") {
            None => Decode::Plain,
            Some(node) if node.text() == Ok("base64") => Decode::Base64,
            Some(_) => {
                self.problem(fields.at("decode"), "is not known; expected base64");
                Decode::Plain
            }
        }
    }

    fn source(&mut self, fields: &Fields<'_>) -> Option<Source> {
        if let Some(issue) = fields.get("issue") {
            return Some(Source::issue(self.path(&fields.at("issue"), issue)?));
        }
        let version = match fields.get("version") {
            None => None,
            Some(Node { value: Value::Number(text), .. })
                if text.parse::<u64>().is_ok_and(|version| version > 0) =>
            {
                text.parse().ok()
            }
            Some(Node { value: other, .. }) => {
                self.problem(fields.at("version"), format!("is {other}; expected a version: 1 or more"));
                None
            }
        };
        let path = self.path(&fields.at("path"), fields.get("path")?)?;
        Some(Source::secret(path, version))
    }

    fn path(&mut self, place: &str, node: &Node) -> Option<Box<str>> {
        let text = self.text(place, node)?;
        self.keep(place, source::path(text, self.pod))
    }

    /// All names, so that a wrong path does not make its placeholders wrong too.
    fn aliases(&mut self, place: &str, node: &Node) -> Vec<(String, Option<Source>)> {
        let fields = self.map(place, node).unwrap_or_default();
        if fields.len() > ALIASES {
            self.problem(place, format!("has {} secrets; at most {ALIASES} are allowed", fields.len()));
        }
        let alias = |(alias, node): &(String, Node)| {
            let place = format!("{place}.{}", shown(alias));
            if !is_key(alias) || alias.contains('.') {
                self.problem(&place, "is not an alias; expected A-Z a-z 0-9 _ -");
            }
            (alias.clone(), self.aliased(&place, node))
        };
        fields.iter().take(ALIASES).map(alias).collect()
    }

    /// The path of a secret, or `{issue: ...}`.
    fn aliased(&mut self, place: &str, node: &Node) -> Option<Source> {
        let Ok(fields) = node.fields() else {
            return Some(Source::secret(self.path(place, node)?, None));
        };
        match fields {
            [(name, node)] if name == "issue" => {
                Some(Source::issue(self.path(&format!("{place}.issue"), node)?))
            }
            _ => {
                self.problem(place, "is not a source; expected secret/... or {issue: database/...}");
                None
            }
        }
    }

    fn keys(&mut self, place: &str, node: &Node, dir: Option<&FileName>) -> Vec<(String, FileName)> {
        let fields = self.map(place, node).unwrap_or_default();
        let file = |(key, node): &(String, Node)| {
            let place = format!("{place}.{}", shown(key));
            if !is_key(key) {
                self.problem(&place, "is not the key of a secret; expected A-Z a-z 0-9 . _ -");
            }
            let name = self.claimed(&place, node, dir)?;
            Some((key.clone(), name))
        };
        fields.iter().filter_map(file).collect()
    }

    fn templates(
        &mut self,
        fields: &Fields<'_>,
        aliases: Option<&[String]>,
        dir: Option<&FileName>,
    ) -> Vec<(FileName, Template)> {
        let Some(node) = fields.get("template") else { return Vec::new() };
        let all = self.map(&fields.at("template"), node).unwrap_or_default();
        let file = |(name, node): &(String, Node)| {
            let place = format!("{}.{}", fields.at("template"), shown(name));
            let parsed = FileName::parse(name).and_then(|name| name.within(dir));
            let name = self.keep(&place, parsed);
            if let Some(name) = &name {
                let claimed = self.claims.file(name, &place);
                self.keep(&place, claimed);
            }
            let text = self.text(&place, node)?;
            let template = self.keep(&place, Template::parse(text, aliases))?;
            Some((name?, template))
        };
        all.iter().filter_map(file).collect()
    }

    fn file(&mut self, place: &str, node: &Node, dir: Option<&FileName>) -> Option<FileName> {
        let text = self.text(place, node)?;
        self.keep(place, FileName::parse(text).and_then(|name| name.within(dir)))
    }

    fn claimed(&mut self, place: &str, node: &Node, dir: Option<&FileName>) -> Option<FileName> {
        let name = self.file(place, node, dir)?;
        let claimed = self.claims.file(&name, place);
        self.keep(place, claimed).map(|()| name)
    }

    fn text<'n>(&mut self, place: &str, node: &'n Node) -> Option<&'n str> {
        self.keep(place, node.text())
    }

    /// At least one field.
    fn map<'n>(&mut self, place: &str, node: &'n Node) -> Option<strongroom_yaml::Fields<'n>> {
        let fields = self.keep(place, node.fields())?;
        if fields.is_empty() {
            self.problem(place, "is empty; expected at least one field");
            return None;
        }
        Some(fields)
    }
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}
