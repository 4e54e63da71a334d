//! File names and arguments, which are bytes and nearly always UTF-8.
//!
//! In JSON they are strings if they are UTF-8, and `{"base64": "..."}` otherwise, in both
//! directions.

use serde::de::{self, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A path, file name or argument: bytes that need not be UTF-8.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(pub Vec<u8>);

impl Text {
    /// The bytes, whether they are UTF-8 or not.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same without its middle, if it has more than `limit` bytes.
    #[must_use]
    pub fn shortened(mut self, limit: usize) -> Self {
        if self.0.len() > limit {
            let is_start = |at: &usize| self.0[*at] & 0xc0 != 0x80;
            // characters stay whole
            let end = (0..=limit / 2).rev().find(is_start).unwrap_or_default();
            let start = (self.0.len() - limit / 2..self.0.len()).find(is_start).unwrap_or(self.0.len());
            self.0.splice(end..start, "…".bytes());
        }
        self
    }
}

impl<T: Into<Vec<u8>>> From<T> for Text {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

/// Escapes what [`is_unsafe`] and bytes that are not UTF-8, for terminals and logs.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c if is_unsafe(c) => write!(f, "{}", c.escape_default())?,
                    c => fmt::Write::write_char(f, c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Whether a terminal could obey, reorder or hide this character, so that it is only shown
/// escaped: controls, format characters, line separators, private and unassigned characters
/// and others without a glyph.
pub fn is_unsafe(c: char) -> bool {
    !c.is_ascii_graphic() && c != ' ' && (is_default_ignorable(c) || !is_printable(c))
}

/// The standard library escapes just those without a glyph, and all blanks but one.
fn is_printable(c: char) -> bool {
    if c.is_whitespace() {
        return !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
    }
    // combining characters are only shown behind another one
    let mut text = [b'a', 0, 0, 0, 0];
    let length = 1 + c.encode_utf8(&mut text[1..]).len();
    str::from_utf8(&text[..length]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
}

/// `Default_Ignorable_Code_Point` of Unicode, as far as it is letters and marks.
fn is_default_ignorable(c: char) -> bool {
    matches!(c, '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}')
}

/// JSON text for a terminal: the same value, with unsafe characters as `\uXXXX`.
pub struct SafeJson<'a>(pub &'a str);

impl fmt::Display for SafeJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_unsafe(*c)) {
            f.write_str(&rest[..at])?;
            match c {
                // They stand between tokens only.
                '\t' | '\n' | '\r' => f.write_str(" ")?,
                c => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}"))?,
            }
            rest = &rest[at + c.len_utf8()..];
        }
        f.write_str(rest)
    }
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    base64: String,
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Encoded { base64: encode(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "paths and arguments are strings or {\"base64\": ...}")]
        enum Either {
            Plain(String),
            Encoded(Encoded),
        }
        match Either::deserialize(deserializer)? {
            Either::Plain(text) => Ok(Self(text.into_bytes())),
            Either::Encoded(Encoded { base64 }) => {
                decode(&base64).map(Self).ok_or_else(|| de::Error::custom("not base64"))
            }
        }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0u32, |acc, (i, b)| acc | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            let c = if i <= group.len() { ALPHABET[(bits >> (18 - 6 * i) & 63) as usize] } else { b'=' };
            out.push(char::from(c));
        }
    }
    out
}

/// Decodes base64 of RFC 4648, section 4. Padding may be missing. Other characters are refused.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut have) = (0u32, 0);
    for digit in digits {
        let value = ALPHABET.iter().position(|c| c == digit)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have & 0xff) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn utf8_is_a_string_and_other_bytes_are_base64() {
        assert_eq!(serde_json::to_string(&Text::from("a\nb")).unwrap(), r#""a\nb""#);
        assert_eq!(serde_json::to_string(&Text(vec![0xff, b'a'])).unwrap(), r#"{"base64":"/2E="}"#);
    }

    #[test]
    fn display_escapes_what_a_terminal_would_obey() {
        assert_eq!(Text(b"a\x1b[2J\n\\\xff\xe2\x80\xae".to_vec()).to_string(), r"a\u{1b}[2J\n\\\xff\u{202e}");
    }

    #[test]
    fn shortened_text_loses_its_middle_and_no_half_character() {
        let short = |text: &str, limit| Text::from(text).shortened(limit).to_string();
        assert_eq!(
            [short("12345678", 8), short("123456789", 4), short("1ü23ü9", 4)],
            ["12345678", "12…89", "1…9"]
        );
        assert_eq!(Text(vec![0x80; 9]).shortened(4), Text("…".into()));
    }

    #[test]
    fn what_has_no_glyph_is_unsafe_and_what_people_write_is_not() {
        let without = "\0\t\n\u{1b}\u{7f}\u{80}\u{9b}\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\u{200b}\u{200f}\u{2028}\u{2029}\
            \u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{206f}\u{3164}\u{e000}\u{fe0f}\u{feff}\u{fff9}\u{ffff}\
            \u{110bd}\u{1d173}\u{e0001}\u{e007f}\u{e0100}\u{f0000}\u{10ffff}";
        assert_eq!(without.chars().filter(|c| !is_unsafe(*c)).collect::<String>(), "");
        let with =
            "a ~\\'\"\u{a0}éß\u{301}ñ\u{3000}日本語ひらがなقاموس\u{5d0}\u{939}\u{94d}\u{930}한국어🦀—…€";
        assert_eq!(with.chars().filter(|c| is_unsafe(*c)).collect::<String>(), "");
    }

    #[test]
    fn safe_json_has_the_same_value() {
        let value = "a\u{9b}\u{7f}\u{202e}\u{e0001}é\n\\\"";
        let json = serde_json::to_string(value).unwrap();
        let safe = SafeJson(&format!("\t{json}\r\n")).to_string();
        assert_eq!(safe, r#" "a\u009b\u007f\u202e\udb40\udc01é\n\\\""  "#);
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), value);
    }

    #[test]
    fn base64_of_rfc_4648() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(encode(plain.as_bytes()), coded);
            assert_eq!(decode(coded).unwrap(), plain.as_bytes());
        }
        for bad in ["A", "====", "Zg===", "Z g=", "Zm9v!"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_survive_the_wire(bytes: Vec<u8>) {
            let json = serde_json::to_string(&Text(bytes.clone())).unwrap();
            prop_assert_eq!(serde_json::from_str::<Text>(&json).unwrap().0, bytes);
        }
    }
}
