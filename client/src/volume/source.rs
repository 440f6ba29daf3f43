//! Which secret is meant, or what is to be issued: the path, parsed once with the pod's names filled in, and the version if one is pinned.

use strongroom_proto::limits::{PATH_BYTES, PATH_SEGMENTS, SEGMENT_BYTES};

/// The pod that wants the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The service account it runs as.
    pub service_account: String,
}

/// Where values come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    path: Box<str>,
    kind: SourceKind,
}

/// What is at the path of a [`Source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// A secret, or one version of it.
    Secret {
        /// The version if one is pinned.
        version: Option<u64>,
    },
    /// Something that an engine issues, for this volume alone.
    Issue,
}

impl Source {
    pub(super) fn secret(path: Box<str>, version: Option<u64>) -> Self {
        Self { path, kind: SourceKind::Secret { version } }
    }

    pub(super) fn issue(path: Box<str>) -> Self {
        Self { path, kind: SourceKind::Issue }
    }

    /// `secret/apps/shop/db`
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The version if one is pinned.
    pub fn version(&self) -> Option<u64> {
        match self.kind {
            SourceKind::Secret { version } => version,
            SourceKind::Issue => None,
        }
    }

    /// What is there.
    pub fn kind(&self) -> SourceKind {
        self.kind
    }

    /// Whether it is issued, and not read.
    pub fn is_issued(&self) -> bool {
        self.kind == SourceKind::Issue
    }
}

/// A path with `{{namespace}}`, `{{pod}}` and `{{serviceAccount}}` filled in, or what is wrong with it.
pub(super) fn path(text: &str, pod: &PodRef) -> Result<Box<str>, String> {
    // What is filled in makes a text longer, but each name is at most 253 bytes.
    if text.len() > PATH_BYTES {
        return Err(format!("has {} bytes; at most {PATH_BYTES} are allowed", text.len()));
    }
    let filled = fill(text, pod)?;
    check(&filled)?;
    Ok(filled.into())
}

fn fill(text: &str, pod: &PodRef) -> Result<String, String> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("has a {{ without }}")?;
        let value = match name.trim() {
            "namespace" => &pod.namespace,
            "pod" => &pod.pod,
            "serviceAccount" | "serviceaccount" => &pod.service_account,
            other => {
                let expected = "expected {{namespace}}, {{pod}} or {{serviceAccount}}";
                return Err(format!("has the placeholder {:?}; {expected}", shown(other)));
            }
        };
        // A name stands for a segment or a part of one, never for more.
        if value.is_empty() || value.contains('/') {
            return Err(format!("names {{{{{}}}}}, which this pod does not have", name.trim()));
        }
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The server's rules, checked before the server is asked.
fn check(path: &str) -> Result<(), String> {
    if path.len() > PATH_BYTES {
        return Err(format!("has {} bytes; at most {PATH_BYTES} are allowed", path.len()));
    }
    let count = path.split('/').count();
    if !(2..=PATH_SEGMENTS).contains(&count) {
        return Err(format!("is {:?}; expected mount/name with 2 to {PATH_SEGMENTS} parts", shown(path)));
    }
    for segment in path.split('/') {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._~@:+=-".contains(c);
        if segment.is_empty() || segment == "." || segment == ".." {
            return Err(format!("is {:?}; parts that are empty, '.' or '..' are not allowed", shown(path)));
        }
        if segment.len() > SEGMENT_BYTES {
            return Err(format!(
                "has a part of {} bytes; at most {SEGMENT_BYTES} are allowed",
                segment.len()
            ));
        }
        if let Some(c) = segment.chars().find(|c| !allowed(*c)) {
            return Err(format!(
                "contains {c:?}; allowed characters are A-Z a-z 0-9 . _ ~ @ : + = - and / between parts"
            ));
        }
    }
    Ok(())
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> PodRef {
        PodRef { namespace: "shop".into(), pod: "web-0".into(), service_account: "web".into() }
    }

    #[test]
    fn names_of_the_pod_are_filled_in() {
        let path = |text| path(text, &web()).unwrap();
        assert_eq!(&*path("secret/{{namespace}}/db"), "secret/shop/db");
        assert_eq!(&*path("secret/x-{{ pod }}-{{serviceAccount}}/db"), "secret/x-web-0-web/db");
        // As policies write it.
        assert_eq!(&*path("secret/{{serviceaccount}}/db"), "secret/web/db");
    }

    #[test]
    fn a_path_has_the_servers_rules() {
        for text in [
            "",
            "secret",
            "/secret/a",
            "secret//a",
            "secret/a/",
            "secret/../a",
            "secret/a b",
            "secret/{{uid}}",
            "secret/{{pod",
            "secret/{{}}",
            &format!("secret/{}", "x".repeat(129)),
            &format!("secret/{}", "x/".repeat(300)),
            &format!("secret{}", "/a".repeat(16)),
        ] {
            assert!(path(text, &web()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_never_becomes_more_than_a_part() {
        let hostile = PodRef { namespace: "a/../b".into(), pod: String::new(), service_account: "..".into() };
        for text in ["secret/{{namespace}}/x", "secret/{{pod}}/x", "secret/{{serviceAccount}}/x"] {
            assert!(path(text, &hostile).is_err(), "{text}");
        }
    }
}
