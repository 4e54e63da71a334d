//! facron.conf(5), made from the tables with which the configuration is read.
//!
//! The text is in `manual/facron.conf.5`, where a line `.\" @name@` stands for a table.
//! The tables are those of the parser, so that the page lists exactly what the parser
//! accepts.

mod options;

use crate::events::Events;
use crate::option_samples;
use crate::rule::Token;
use options::OPTIONS;
use std::fmt::Write;

pub fn facron_conf() -> String {
    let tables = [
        ("events", list(Events::reference())),
        ("options", list(option_samples().map(|sample| (sample, what_does(sample))))),
        ("tokens", list(Token::reference())),
    ];
    let mut page = include_str!("manual/facron.conf.5").replace("@version@", env!("CARGO_PKG_VERSION"));
    for (name, table) in tables {
        page = page.replace(&format!(".\\\" @{name}@\n"), &table);
    }
    page
}

fn what_does(sample: &str) -> &'static str {
    let known = OPTIONS.iter().find(|(name, _)| Some(*name) == sample.split('=').next());
    known.map_or("", |(_, help)| help)
}

/// A tagged paragraph for each term.
fn list(terms: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>) -> String {
    let mut roff = String::new();
    for (term, meaning) in terms {
        let _ = write!(roff, ".TP\n\\fB{}\\fR\n{}\n", escape(term.as_ref()), escape(meaning.as_ref()));
    }
    roff
}

/// Text for man(7), with requests and escapes made harmless. Text between backquotes
/// becomes bold.
pub fn escape(text: &str) -> String {
    let mut roff = String::with_capacity(text.len());
    if text.starts_with(['.', '\'']) {
        roff.push_str("\\&");
    }
    let mut is_code = false;
    for char in text.chars() {
        match char {
            '\\' => roff.push_str("\\e"),
            '-' => roff.push_str("\\-"),
            '\'' => roff.push_str("\\(aq"),
            '`' => {
                is_code = !is_code;
                roff.push_str(if is_code { "\\fB" } else { "\\fR" });
            }
            char => roff.push(char),
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate as config;

    const README: &str = include_str!("../../../README.md");

    #[test]
    fn the_page_has_all_its_tables() {
        let page = facron_conf();
        assert!(!page.contains(".\\\" @"), "{page}");
        for (name, _) in Events::reference() {
            assert!(page.contains(&format!("\\fB{name}\\fR")), "{name}");
        }
        for (token, _) in Token::reference() {
            assert!(page.contains(&format!("\\fB{}\\fR", escape(token))), "{token}");
        }
    }

    #[test]
    fn each_option_says_what_it_does() {
        for sample in option_samples() {
            assert!(!what_does(sample).is_empty(), "{sample}");
        }
        assert_eq!(option_samples().count(), OPTIONS.len());
    }

    #[test]
    fn the_readme_names_all_that_there_is() {
        for (name, _) in Events::reference() {
            assert!(README.contains(&format!("`{name}`")), "{name}");
        }
        for (token, _) in Token::reference() {
            assert!(README.contains(&format!("`{token}`")), "{token}");
        }
        for sample in option_samples() {
            let option = sample.split_inclusive('=').next().unwrap();
            assert!(README.contains(&format!("| `{option}")), "{option}");
        }
    }

    #[test]
    fn the_example_has_no_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("facron.conf");
        let example = include_str!("../../../systemd/facron.conf");
        std::fs::write(&file, example).unwrap();
        let loaded = config::load_files(std::slice::from_ref(&file));
        assert!(loaded.rules.is_empty() && loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        std::fs::write(&file, example.replace("\n#/", "\n/")).unwrap();
        let loaded = config::load_files(&[file]);
        assert!(
            loaded.rules.len() > 4 && !config::has_errors(&loaded.diagnostics),
            "{:?}",
            loaded.diagnostics
        );
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(escape(".so `x-y` \\ '"), "\\&.so \\fBx\\-y\\fR \\e \\(aq");
    }
}
