//! The fuzz target of the lexer and the parser. They read any text without a panic, and a
//! rule that is shown and read again has the same meaning.

use crate::diagnostic::{Line, Problems};
use crate::include::{Directive, operand};
use crate::lines::{Lines, is_comment};
use crate::{Words, parse, parse_words};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Reads `text` as the lines of a file. Does not look at the files in it.
///
/// # Panics
/// If the parser has a defect.
pub fn configuration(text: &[u8]) {
    let mut problems = Problems::default();
    for (number, text) in Lines::new(text) {
        let line = Line { file: Some(Path::new("/fuzz")), number, text };
        if is_comment(text) || line.refuses_nul(&mut problems) {
            continue;
        }
        let Directive::None = operand(&line, &mut problems) else { continue };
        let Some(pieces) = parse::split(line, &mut problems) else { continue };
        let Some(rule) = parse::rule(&line, &pieces, &mut problems) else { continue };
        let (spec, events, command) = (&rule.spec, rule.spec.events.to_string(), rule.spec.command.words());
        let words = Words {
            path: spec.path.as_os_str().as_bytes(),
            events: events.as_bytes(),
            options: &spec.options_text,
            command: command.iter().map(Vec::as_slice).collect(),
        };
        let (again, _) = parse_words(&words).expect("what is shown can be read");
        assert_eq!(again.command, spec.command, "the command means the same");
    }
    // To draw diagnostics takes longer than everything else.
    for diagnostic in problems.into_diagnostics().iter().take(2) {
        let drawn = diagnostic.render(false);
        assert!(
            !drawn.chars().any(|char| char != '\n' && facron_proto::is_unsafe(char)),
            "drawn safely: {drawn:?}"
        );
    }
}
