//! Which names a role allows: patterns, segment by segment. `*` stands for any one segment, `{{namespace}}` and the like for
//! who asks. A value is compared with a whole segment, so one that has a separator in it matches nothing.

use crate::model::{Invalid, Principal};

const VARIABLES: [&str; 6] = ["namespace", "serviceaccount", "pod", "cluster", "user", "method"];
/// Any one segment.
const ANY: &str = "*";

/// Fails unless `pattern` can be meant.
pub(super) fn check(field: &str, pattern: &str) -> Result<(), Invalid> {
    let mut rest = pattern;
    while let Some((_, after)) = rest.split_once("{{") {
        let known = after.split_once("}}").filter(|(name, _)| VARIABLES.contains(name));
        let Some((_, after)) = known else {
            let problem = format!("has {pattern:?}; expected {{{{NAME}}}} of {}", VARIABLES.join(", "));
            return Err(Invalid::new(field, problem));
        };
        rest = after;
    }
    // Of two in one segment nobody could tell where the one ends.
    let two = pattern.split(['.', '/']).any(|segment| segment.matches("{{").count() > 1);
    let partly = pattern.split(['.', '/']).any(|segment| segment.contains(ANY) && segment != ANY);
    match two || partly || pattern.is_empty() {
        true => {
            let problem =
                format!("has {pattern:?}; expected at most one variable in a segment, and * as a whole one");
            Err(Invalid::new(field, problem))
        }
        false => Ok(()),
    }
}

/// Whether `name` is one of those that the pattern allows `who`.
pub(super) fn allows(pattern: &str, separator: char, name: &str, who: &Principal) -> bool {
    let (mut wanted, mut found) = (pattern.split(separator), name.split(separator));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(wanted), Some(found)) if segment(wanted, found, who) => {}
            _ => return false,
        }
    }
}

fn segment(wanted: &str, found: &str, who: &Principal) -> bool {
    if wanted == ANY {
        return !found.is_empty();
    }
    filled(wanted, who).is_some_and(|text| text == found)
}

/// The one name that a pattern stands for, if it has no `*` and all that it asks for is known.
pub(super) fn only(pattern: &str, separator: char, who: &Principal) -> Option<String> {
    let fill = |segment: &str| {
        let text = filled(segment, who).filter(|_| segment != ANY)?;
        (!text.contains(separator)).then_some(text)
    };
    let segments: Option<Vec<String>> = pattern.split(separator).map(fill).collect();
    Some(segments?.join(&separator.to_string()))
}

fn filled(segment: &str, who: &Principal) -> Option<String> {
    let Some((before, rest)) = segment.split_once("{{") else { return Some(segment.to_owned()) };
    let (name, after) = rest.split_once("}}")?;
    Some(format!("{before}{}{after}", value(name, who).filter(|value| !value.is_empty())?))
}

fn value<'a>(name: &str, who: &'a Principal) -> Option<&'a str> {
    match (name, who) {
        ("namespace", Principal::ServiceAccount { namespace, .. }) => Some(namespace),
        ("serviceaccount", Principal::ServiceAccount { name, .. }) => Some(name),
        ("cluster", Principal::ServiceAccount { cluster, .. }) => Some(cluster),
        ("pod", Principal::ServiceAccount { pod, .. }) => pod.as_ref().map(|pod| &*pod.name),
        ("user", Principal::User { name, .. }) => Some(name),
        ("method", Principal::User { method, .. }) => Some(method),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_a_name_of_somebody_else() {
        let who = |text: &str| Principal::named(text, &[]).unwrap();
        let web = who("kubernetes/main/payments/web");
        let service = "*.{{namespace}}.svc";
        assert!(allows(service, '.', "web.payments.svc", &web));
        for other in
            ["web.orders.svc", "payments.svc", "a.web.payments.svc", ".payments.svc", "web.payments.svc.x"]
        {
            assert!(!allows(service, '.', other, &web), "{other}");
        }
        let spiffe = "spiffe://example.org/ns/{{namespace}}/sa/{{serviceaccount}}";
        assert_eq!(only(spiffe, '/', &web).as_deref(), Some("spiffe://example.org/ns/payments/sa/web"));
        assert!(allows(spiffe, '/', "spiffe://example.org/ns/payments/sa/web", &web));
        assert!(!allows(spiffe, '/', "spiffe://example.org/ns/payments/sa/other", &web));
        // What is no service account has no namespace, and names with a separator do not reach into the next segment.
        assert!(!allows(service, '.', "web.payments.svc", &who("userpass/alice")));
        assert_eq!(only(service, '.', &web), None);
        let dotted = who("kubernetes/main/payments/web.orders");
        assert!(!allows("{{serviceaccount}}.svc", '.', "web.orders.svc", &dotted));
        assert_eq!(only("{{serviceaccount}}.svc", '.', &dotted), None);
    }

    #[test]
    fn a_pattern_that_cannot_be_meant_is_refused() {
        for good in ["a.b", "*.b", "{{user}}.b", "x-{{pod}}.b", "spiffe://a/{{namespace}}/*"] {
            check("dns", good).unwrap();
        }
        for bad in ["", "a*.b", "{{nobody}}.b", "{{user", "{{namespace}}-{{pod}}.b", "{{ user }}"] {
            assert!(check("dns", bad).is_err(), "{bad}");
        }
    }
}
