//! `reload`.

use crate::config::Diagnostic;
use crate::control::{Caller, Serve};
use crate::engine::{Engine, log_diagnostics};
use facron_proto::method::{Empty, Reload, ReloadReply};
use facron_proto::rpc::{Code, Error};

impl Serve<Reload> for Engine {
    fn serve(&mut self, _: Empty, _: &Caller) -> Result<ReloadReply, Error> {
        self.reload().map_err(|diagnostics| {
            log_diagnostics(&diagnostics);
            let diagnostics: Vec<_> = diagnostics.iter().map(Diagnostic::to_proto).collect();
            let message = "the configuration has errors; nothing was changed";
            Error::refused(Code::RELOAD_REFUSED, message, &diagnostics)
        })
    }
}
