//! Problems of a configuration as they travel.

use crate::Text;
use serde::{Deserialize, Serialize};

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The line cannot be used.
    Error,
    /// The line works, but probably not as its author thinks.
    Warning,
}

/// One problem of one line of configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// An error drops its line; a warning does not.
    pub severity: Severity,
    /// What is wrong, in one lowercase sentence without a full stop.
    pub message: String,
    /// The file, if it came from one.
    pub file: Option<Text>,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: u32,
    /// The column of the first wrong byte, from 1.
    pub column: u32,
    /// What would be right, where that can be said.
    pub help: Option<String>,
    /// The whole of it, drawn as text with the place marked.
    pub rendered: String,
}
