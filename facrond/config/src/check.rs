//! The output of `facrond check` and `facronctl check`.

use super::{Loaded, load, load_files};
use facron_proto::Severity;
use std::path::{Path, PathBuf};

/// Checks the files, or without files `conf` and `dir` as the daemon reads them.
/// Returns all diagnostics with a summary line, and whether there are no errors.
pub fn check(conf: &Path, dir: &Path, files: &[PathBuf], color: bool) -> (String, bool) {
    let loaded = if files.is_empty() { load(conf, dir) } else { load_files(files) };
    let mut text = String::new();
    for diagnostic in &loaded.diagnostics {
        text.push_str(&diagnostic.render(color));
        text.push_str("\n\n");
    }
    let (summary, good) = summary(&loaded);
    text.push_str(&summary);
    text.push('\n');
    (text, good)
}

fn summary(loaded: &Loaded) -> (String, bool) {
    let count = |severity| loaded.diagnostics.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let problems = match (errors, warnings) {
        (0, 0) => "no problems".to_owned(),
        (0, _) => plural(warnings, "warning"),
        (_, 0) => plural(errors, "error"),
        (_, _) => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    };
    let files = plural(loaded.files.len(), "file");
    let rules = plural(loaded.rules.len(), "rule");
    (format!("{files}, {rules}: {problems}"), errors == 0)
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
