//! Problems of a configuration, in the form for clients.

use crate::Text;
use serde::{Deserialize, Serialize};

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The line cannot be used.
    Error,
    /// The line works, but probably not as its author expects.
    Warning,
}

/// One problem of one line of configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// An error drops its line; a warning does not.
    pub severity: Severity,
    /// The problem, in one lowercase sentence without a full stop.
    pub message: String,
    /// The file, if the rule is in a file.
    pub file: Option<Text>,
    /// The line, from 1; 0 for the file as a whole.
    pub line: u32,
    /// The column of the first wrong byte, from 1.
    pub column: u32,
    /// A correction, if there is one.
    pub help: Option<String>,
    /// The whole diagnostic as text of several lines, with a marker under the place.
    pub rendered: String,
}
