//! What a user without rights can do to a daemon of root: slow down his own rule, and
//! nothing else. One module for each door that he has.

mod clients;
mod commands;
mod files;
mod permissions;
mod trees;
