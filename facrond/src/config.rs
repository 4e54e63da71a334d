//! Text to rules and diagnostics. Pure, but for reading the files.

pub mod filter;
pub mod rule;
