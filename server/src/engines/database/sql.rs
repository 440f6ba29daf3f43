//! Text that becomes SQL: names and values quoted by PostgreSQL's rules, and statements of operators with places for them.

use strongroom_proto::limits;

use crate::model::Invalid;

/// Longest name of a user: PostgreSQL cuts longer ones off, and then they are somebody else's.
pub(super) const NAME_BYTES: usize = 63;
/// Most statements of one list.
const STATEMENTS: usize = 20;
/// Their bytes together; three lists fit in one record.
const STATEMENTS_BYTES: usize = 16 << 10;

/// What stands in a statement for something that is known only when it is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The user's name.
    Name,
    /// A SCRAM verifier of the password.
    Password,
    /// When the user ends, as a time.
    Expires,
}

impl Place {
    const ALL: [Self; 3] = [Self::Name, Self::Password, Self::Expires];

    const fn text(self) -> &'static str {
        match self {
            Self::Name => "{{name}}",
            Self::Password => "{{password}}",
            Self::Expires => "{{expires}}",
        }
    }
}

/// A name as SQL has it, whatever is in it.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL has it, whatever is in it and whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A name that PostgreSQL takes as it is.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), Invalid> {
    let problem = match name {
        "" => "is empty; expected the name of a user of the database".to_owned(),
        _ if name.contains('\0') => "has a zero byte, which no name has".to_owned(),
        _ if name.len() > NAME_BYTES => {
            format!("has {} bytes; PostgreSQL knows names of at most {NAME_BYTES}", name.len())
        }
        _ => return Ok(()),
    };
    Err(Invalid::new(field, problem))
}

/// Statements of an operator, which may name `may` and have to name `must`.
pub(super) fn check(
    field: &str,
    statements: &[String],
    must: &[Place],
    may: &[Place],
) -> Result<(), Invalid> {
    let bytes: usize = statements.iter().map(String::len).sum();
    if statements.len() > STATEMENTS || bytes > STATEMENTS_BYTES {
        let problem =
            format!("are too many; expected at most {STATEMENTS} statements of {STATEMENTS_BYTES} bytes");
        return Err(Invalid::new(field, problem));
    }
    for (n, statement) in statements.iter().enumerate() {
        check_one(&format!("{field}[{n}]"), statement, may)?;
    }
    for place in must {
        if !statements.iter().any(|statement| statement.contains(place.text())) {
            return Err(Invalid::new(field, format!("never say {}", place.text())));
        }
    }
    Ok(())
}

fn check_one(field: &str, statement: &str, may: &[Place]) -> Result<(), Invalid> {
    let wrong = |problem: String| Err(Invalid::new(field, problem));
    if statement.trim().is_empty() || statement.contains('\0') {
        return wrong("is no statement of SQL".to_owned());
    }
    let mut rest = statement;
    while let Some((before, from)) = rest.split_once("{{") {
        let Some((inner, after)) = from.split_once("}}") else {
            return wrong("has {{ without }}".to_owned());
        };
        let named = Place::ALL.iter().find(|place| place.text() == format!("{{{{{inner}}}}}"));
        if !named.is_some_and(|place| may.contains(place)) {
            let known: Vec<&str> = may.iter().map(|place| place.text()).collect();
            let shown: String = inner.chars().take(limits::KEY_BYTES.min(32)).collect();
            return wrong(format!("has {{{{{shown}}}}}; here it can have {}", known.join(", ")));
        }
        if before.ends_with(['\'', '"']) || after.starts_with(['\'', '"']) {
            return wrong(format!("has {{{{{inner}}}}} within quotes; it is quoted already"));
        }
        rest = after;
    }
    Ok(())
}

/// The statements with what the places stand for, which is quoted already.
pub(super) fn filled(statements: &[String], values: &[(Place, &str)]) -> Vec<String> {
    let fill = |statement: &String| {
        // One pass, so that no value is ever looked at for places.
        let (mut made, mut rest) = (String::with_capacity(statement.len() * 2), statement.as_str());
        while let Some((at, (place, value))) = values
            .iter()
            .filter_map(|(place, value)| Some((rest.find(place.text())?, (place, value))))
            .min_by_key(|(at, _)| *at)
        {
            let (before, from) = rest.split_at(at);
            made.push_str(before);
            made.push_str(value);
            rest = from.get(place.text().len()..).unwrap_or_default();
        }
        made + rest
    };
    statements.iter().map(fill).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn quotes_whatever_is_in_it() {
        assert_eq!(identifier("a\"; DROP ROLE b; --"), "\"a\"\"; DROP ROLE b; --\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'; --"), " E'a\\\\''; --'");
    }

    proptest! {
        /// Within the quotes there is no other quote that is not doubled.
        #[test]
        fn nothing_gets_out_of_the_quotes(text in "[a'\"\\\\{}; \u{e9}]{0,20}") {
            let name = identifier(&text);
            prop_assert!(!name[1..name.len() - 1].replace("\"\"", "").contains('"'));
            let value = literal(&text);
            let inner = value.trim_start().trim_start_matches('E');
            prop_assert!(!inner[1..inner.len() - 1].replace("\\\\", "").replace("''", "").contains(['\'', '\\']));
        }
    }

    #[test]
    fn a_value_is_never_looked_at_for_places() {
        let made = filled(
            &list(&["x {{name}} y {{password}} {{name}}"]),
            &[(Place::Name, "\"{{password}}\""), (Place::Password, "'{{name}}'")],
        );
        assert_eq!(made, ["x \"{{password}}\" y '{{name}}' \"{{password}}\""]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let all = [Place::Name, Place::Password, Place::Expires];
        let problem =
            |statement: &str| check("creation", &list(&[statement]), &[], &all).unwrap_err().problem;
        assert_eq!(problem("CREATE ROLE \"{{name}}\""), "has {{name}} within quotes; it is quoted already");
        assert_eq!(
            problem("CREATE ROLE {{user}}"),
            "has {{user}}; here it can have {{name}}, {{password}}, {{expires}}"
        );
        assert_eq!(problem("CREATE ROLE {{name"), "has {{ without }}");
        assert_eq!(problem("  "), "is no statement of SQL");
        let without = check("creation", &list(&["CREATE ROLE {{name}}"]), &all[..2], &all).unwrap_err();
        assert_eq!(without.to_string(), "creation: never say {{password}}");
        assert!(check("creation", &vec!["SELECT 1".to_owned(); STATEMENTS + 1], &[], &all).is_err());
        assert!(check_name("user", &"é".repeat(32)).is_err() && check_name("user", &"e".repeat(63)).is_ok());
    }
}
