//! How the values of messages are written: safe for terminals, and not longer than somebody
//! reads.

use facron_proto::{SafeJson, Text, is_unsafe};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt::{self, Debug};
use std::io::{self, Write};
use tracing::field::Field;
use tracing_subscriber::fmt::format::Writer;

/// The longest value. Of a longer one the middle is left out.
const MAX_VALUE: usize = 1024;

/// The longest message, which may be a line that a command wrote.
const MAX_MESSAGE: usize = 4200;

const MESSAGE: &str = "message";

/// Writes one field of a message.
pub(super) fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    if field.name() != MESSAGE {
        write!(writer, "{}=", field.name())?;
    }
    let text = format!("{value:?}");
    for c in shortened(field.name(), &text).chars() {
        match c {
            c if is_unsafe(c) => write!(writer, "{}", c.escape_default())?,
            c => writer.write_char(c)?,
        }
    }
    Ok(())
}

fn shortened<'a>(name: &str, text: &'a str) -> Cow<'a, str> {
    let limit = if name == MESSAGE { MAX_MESSAGE } else { MAX_VALUE };
    if text.len() <= limit {
        return text.into();
    }
    String::from_utf8_lossy(Text::from(text).shortened(limit).as_bytes()).into_owned().into()
}

/// Writes lines of JSON to standard error.
pub(super) struct JsonLines;

impl Write for JsonLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let short = if text.len() > MAX_VALUE { shortened_json(&text) } else { text };
        io::stderr().write_all(format!("{}\n", SafeJson(short.trim_end())).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn shortened_json(line: &str) -> Cow<'_, str> {
    let Ok(mut value) = serde_json::from_str::<Value>(line) else { return line.into() };
    shorten("", &mut value);
    value.to_string().into()
}

fn shorten(name: &str, value: &mut Value) {
    match value {
        Value::String(text) => *text = shortened(name, text).into_owned(),
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| shorten(name, value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_lose_their_middle() {
        assert_eq!(shortened("path", "abc"), "abc");
        let long = format!("start{}end", "ü".repeat(MAX_VALUE));
        let short = shortened("path", &long);
        assert!(short.starts_with("startü") && short.ends_with("üend") && short.contains("ü…ü"), "{short}");
        assert!(short.len() <= MAX_VALUE + 3);
        let json =
            shortened_json(&format!(r#"{{"level":"WARN","fields":{{"path":"{long}"}}}}"#)).into_owned();
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&value["level"], value["fields"]["path"].as_str()), (&"WARN".into(), Some(&*short)));
    }
}
