//! Filters of a template: `{{key | json}}` makes of a value what belongs at that place of a file. They copy values only into
//! memory that is wiped, and say no where a value has no such form.

use data_encoding::BASE64;
use zeroize::Zeroizing;

/// How a value is written into a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A string of JSON (RFC 8259), with its quotes.
    Json,
    /// A string of YAML 1.2, with its quotes.
    Yaml,
    /// Percent-encoded for any part of a URL (RFC 3986).
    UrlEncode,
    /// One word of a POSIX shell, in single quotes.
    Shell,
    /// A value of Java's `.properties`.
    Properties,
    /// Base64 with padding (RFC 4648).
    Base64,
    /// Without blanks and line breaks at both ends.
    Trim,
}

/// The most bytes that one byte of a value becomes: `\u0000`.
const GROWTH: usize = 6;

impl Filter {
    /// All of them, by their names.
    pub(super) const ALL: [(&'static str, Self); 7] = [
        ("json", Self::Json),
        ("yaml", Self::Yaml),
        ("urlencode", Self::UrlEncode),
        ("shell", Self::Shell),
        ("properties", Self::Properties),
        ("base64", Self::Base64),
        ("trim", Self::Trim),
    ];

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, filter)| filter)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, filter)| *filter == self).map_or("", |(name, _)| name)
    }

    /// Writes the value; nothing if it cannot be written so: JSON, YAML and properties are text, and a shell has no zero byte.
    pub(super) fn apply(self, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let room = value.len().checked_mul(GROWTH)?.checked_add(2)?;
        let mut made = Zeroizing::new(Vec::with_capacity(room));
        match self {
            // A string of JSON is one of YAML too, if what YAML calls unprintable is escaped as well.
            Self::Json | Self::Yaml => quote(std::str::from_utf8(value).ok()?, &mut made),
            Self::Properties => properties(std::str::from_utf8(value).ok()?, &mut made),
            Self::UrlEncode => value.iter().for_each(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => made.push(*byte),
                other => made.extend([
                    b'%',
                    digit(*other >> 4).to_ascii_uppercase(),
                    digit(*other).to_ascii_uppercase(),
                ]),
            }),
            Self::Shell if value.contains(&0) => return None,
            Self::Shell => {
                made.push(b'\'');
                value.iter().for_each(|byte| match byte {
                    b'\'' => made.extend(br"'\''"),
                    other => made.push(*other),
                });
                made.push(b'\'');
            }
            Self::Base64 => {
                made.resize(BASE64.encode_len(value.len()), 0);
                BASE64.encode_mut(value, &mut made);
            }
            Self::Trim => made.extend(value.trim_ascii()),
        }
        Some(made)
    }
}

fn quote(text: &str, made: &mut Vec<u8>) {
    made.push(b'"');
    for c in text.chars() {
        match c {
            '"' | '\\' => made.extend([b'\\', c as u8]),
            '\n' => made.extend(br"\n"),
            '\r' => made.extend(br"\r"),
            '\t' => made.extend(br"\t"),
            // Control characters, the breaks of lines that only Unicode knows, and what is no character in YAML.
            '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                escape(c, made);
            }
            other => push(other, made),
        }
    }
    made.push(b'"');
}

/// As `java.util.Properties` stores them, and reads them in any encoding: everything beyond ASCII is escaped.
fn properties(text: &str, made: &mut Vec<u8>) {
    for (at, c) in text.char_indices() {
        match c {
            ' ' if at == 0 => made.extend(br"\ "),
            '\\' | '=' | ':' | '#' | '!' => made.extend([b'\\', c as u8]),
            '\n' => made.extend(br"\n"),
            '\r' => made.extend(br"\r"),
            '\t' => made.extend(br"\t"),
            '\u{c}' => made.extend(br"\f"),
            ' '..='~' => push(c, made),
            other => escape(other, made),
        }
    }
}

/// `\uXXXX`, and two of them for a character beyond the first 65,536.
fn escape(c: char, made: &mut Vec<u8>) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        let [high, low] = unit.to_be_bytes();
        made.extend([b'\\', b'u', digit(high >> 4), digit(high), digit(low >> 4), digit(low)]);
    }
}

fn push(c: char, made: &mut Vec<u8>) {
    made.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The hex digit of the lower four bits.
fn digit(bits: u8) -> u8 {
    match bits & 0xf {
        low @ 0..=9 => b'0'.saturating_add(low),
        low => b'a'.saturating_add(low).saturating_sub(10),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(filter: Filter, value: &str) -> String {
        String::from_utf8(filter.apply(value.as_bytes()).unwrap().to_vec()).unwrap()
    }

    /// Texts that each form has to escape somewhere.
    const NASTY: &str = "a\"\\/'b\n\r\t\u{c}\0\u{1f}\u{7f}\u{85}é\u{2028}\u{feff}😀$`{}: #=!~ ";

    #[test]
    fn json_and_yaml_are_read_as_the_value() {
        let json = made(Filter::Json, NASTY);
        assert!(
            json.starts_with(r#""a\"\\/'b\n\r\t\u000c\u0000\u001f\u007f\u0085é\u2028\ufeff😀"#),
            "{json}"
        );
        let node = strongroom_yaml::read(&format!("a: {}", made(Filter::Yaml, NASTY)), 3).unwrap();
        assert_eq!(strongroom_yaml::field(node.fields().unwrap(), "a").unwrap().text(), Ok(NASTY));
    }

    #[test]
    fn the_examples_of_the_specifications_hold() {
        // RFC 3986, section 2.3: unreserved characters stay, everything else is encoded, with upper-case digits.
        assert_eq!(made(Filter::UrlEncode, "AZaz09-._~"), "AZaz09-._~");
        assert_eq!(
            made(Filter::UrlEncode, ":/?#[]@!$&'()*+,;=% é"),
            "%3A%2F%3F%23%5B%5D%40%21%24%26%27%28%29%2A%2B%2C%3B%3D%25%20%C3%A9"
        );
        // RFC 4648, section 10.
        for (value, base64) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(made(Filter::Base64, value), base64);
        }
        // java.util.Properties.store.
        assert_eq!(
            made(Filter::Properties, "  a=b:c#d!e\\f\n\t\u{c}é😀"),
            r"\  a\=b\:c\#d\!e\\f\n\t\f\u00e9\ud83d\ude00"
        );
        // POSIX, 2.2.2: nothing is special in single quotes but their end.
        assert_eq!(made(Filter::Shell, "it's $5 `x` \\\n"), "'it'\\''s $5 `x` \\\n'");
        assert_eq!(made(Filter::Trim, " \n a b\r\n"), "a b");
    }

    #[test]
    fn what_has_no_such_form_is_refused() {
        for filter in [Filter::Json, Filter::Yaml, Filter::Properties] {
            assert!(filter.apply(b"\xff").is_none());
        }
        assert!(Filter::Shell.apply(b"a\0b").is_none());
        for filter in [Filter::UrlEncode, Filter::Base64, Filter::Trim, Filter::Shell] {
            assert!(filter.apply(b"\xff").is_some());
        }
    }

    proptest! {
        #[test]
        fn nothing_grows_out_of_its_memory(text in "\\PC{0,40}|[\\x00-\\x20\\x7f'\"]{0,40}") {
            for (name, filter) in Filter::ALL {
                prop_assert_eq!(Filter::parse(name), Some(filter));
                if let Some(made) = filter.apply(text.as_bytes()) {
                    prop_assert!(made.len() <= text.len() * GROWTH + 2);
                }
            }
        }

        #[test]
        fn yaml_reads_every_text_as_it_was(text in any::<String>()) {
            let node = strongroom_yaml::read(&made(Filter::Yaml, &text), 2).unwrap();
            prop_assert_eq!(node.text(), Ok(text.as_str()));
        }
    }
}
