//! `facronctl check`: the daemon's own checker, without a daemon.

use crate::cli;
use crate::error::Error;
use crate::terminal::Terminal;
use facron_config as config;
use facron_config::paths::Paths;
use std::process::ExitCode;

pub(super) fn run(args: &cli::Check, terminal: &mut Terminal<'_>) -> Result<ExitCode, Error> {
    let Paths { conf, conf_dir, .. } = Paths::default();
    let good = if terminal.json {
        let loaded = match &args.files[..] {
            [] => config::load(&conf, &conf_dir),
            files => config::load_files(files),
        };
        let diagnostics: Vec<_> = loaded.diagnostics.iter().map(config::Diagnostic::to_proto).collect();
        let json = serde_json::to_string(&diagnostics).map_err(Error::Protocol)?;
        terminal.json(&json)?;
        !config::has_errors(&loaded.diagnostics)
    } else {
        let (text, good) = config::check(&conf, &conf_dir, &args.files, terminal.style.is_colored());
        terminal.out.write_all(text.as_bytes())?;
        good
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
