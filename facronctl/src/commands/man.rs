//! `facronctl man`: the manual pages of both programs, for packagers.
//!
//! The pages are made from the definitions of the command lines, so that both are always
//! the same.

use crate::cli::{self, Cli};
use crate::error::Error;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use facron_config::manual;
use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

pub(super) fn run(args: &cli::Man) -> Result<(), Error> {
    write(&args.dir, "5", "facron.conf.5", manual::facron_conf().as_bytes())?;
    command(&args.dir, facron_config::cli::Cli::command(), "8")?;
    command(&args.dir, Cli::command(), "1")
}

/// A page for the command and one for each of its subcommands.
fn command(dir: &Path, command: Command, section: &str) -> Result<(), Error> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let shown = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    for command in shown.chain([&command]) {
        let man = Man::new(command.clone()).section(section).source(version()).manual("facron");
        write(dir, section, &man.get_filename(), &page(&man, command)?)?;
    }
    Ok(())
}

fn page(man: &Man, command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_help() {
        page.extend(notes(&text.to_string()).into_bytes());
    }
    page.extend(
        b".SH SEE ALSO\n.BR facrond (8),\n.BR facronctl (1),\n.BR facron.conf (5),\n.BR fanotify (7)\n",
    );
    Ok(page)
}

/// The notes after the options in the help: examples, a blank line, sentences.
fn notes(text: &str) -> String {
    let (examples, sentences) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut roff = String::from(".SH EXAMPLES\n.nf\n");
    for line in examples.lines().skip(1) {
        let _ = writeln!(roff, "{}", manual::escape(line.trim_start()));
    }
    roff.push_str(".fi\n.SH NOTES\n");
    for sentence in sentences.lines() {
        let _ = writeln!(roff, "{}\n.PP", manual::escape(sentence));
    }
    roff
}

fn version() -> String {
    format!("facron {}", env!("CARGO_PKG_VERSION"))
}

/// Writes a page to the place where man(1) looks for it.
fn write(dir: &Path, section: &str, name: &str, page: &[u8]) -> Result<(), Error> {
    let section = dir.join(format!("man{section}"));
    let path = section.join(name);
    fs::create_dir_all(&section)
        .and_then(|()| fs::write(&path, page))
        .map_err(|source| Error::Write { path, source })
}
