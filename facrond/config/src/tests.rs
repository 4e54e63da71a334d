//! The grammar, fact by fact.

mod commands;
mod files;
mod grammar;
mod permissions;
mod properties;
mod rendering;
mod trust;

use super::{Diagnostic, Loaded, load_files};
use crate::rule::RuleSpec;
use facron_proto::Severity;
use std::fs;
use std::path::PathBuf;

/// What a file of this text has in it.
fn read(text: impl AsRef<[u8]>) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("facron.conf");
    fs::write(&file, text).unwrap();
    load_files(&[file])
}

/// The only rule of a text that has no errors.
#[track_caller]
fn rule(text: impl AsRef<[u8]>) -> RuleSpec {
    let loaded = read(text.as_ref());
    let errors: Vec<_> = errors(&loaded.diagnostics);
    let shown = String::from_utf8_lossy(text.as_ref());
    assert!(errors.is_empty(), "{shown}: {errors:?}");
    let [rule] = loaded.rules.as_slice() else { panic!("{shown}: {} rules", loaded.rules.len()) };
    RuleSpec::clone(&rule.spec)
}

/// `LINE:COLUMN: MESSAGE; HELP` of each error.
fn errors(diagnostics: &[Diagnostic]) -> Vec<String> {
    told(diagnostics, Severity::Error)
}

fn warnings(diagnostics: &[Diagnostic]) -> Vec<String> {
    told(diagnostics, Severity::Warning)
}

fn told(diagnostics: &[Diagnostic], severity: Severity) -> Vec<String> {
    let of_it = diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity);
    of_it
        .map(|diagnostic| {
            let mut diagnostic = diagnostic.clone();
            diagnostic.file = Some(PathBuf::from("F"));
            diagnostic.to_string().trim_start_matches("F:").to_owned()
        })
        .collect()
}
