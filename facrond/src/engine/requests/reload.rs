//! `reload`.

use crate::config::{self, Diagnostic};
use crate::control::{Caller, ReplyHandle, ServeLater};
use crate::engine::Engine;
use crate::engine::rule_book::Origin;
use crate::log;
use facron_proto::method::{Empty, Reload, ReloadReply};
use facron_proto::rpc::{Code, Error};
use std::rc::Rc;

impl ServeLater<Reload> for Engine {
    fn serve_later(&mut self, _: Empty, _: &Caller, reply: ReplyHandle<Reload>) {
        let result = self.reload().map_err(|diagnostics| {
            log::diagnostics(&diagnostics);
            let diagnostics: Vec<_> = diagnostics.iter().map(Diagnostic::to_proto).collect();
            let message = "the configuration has errors; nothing was changed";
            Error::refused(Code::RELOAD_REFUSED, message, &diagnostics)
        });
        self.once_all_in_force(|_| reply.send(result));
    }
}

impl Engine {
    /// Applies the files' rules, if there is no error in them; the new ones are
    /// marked before the old ones go.
    pub(in crate::engine) fn reload(&mut self) -> Result<ReloadReply, Vec<Diagnostic>> {
        let loaded = config::load(&self.setup.conf, &self.setup.conf_dir);
        if config::has_errors(&loaded.diagnostics) {
            return Err(loaded.diagnostics);
        }
        self.permissions.rules_mut().protect(&loaded.files);
        let difference = self.rules.difference(loaded.rules);
        let reply = difference.counts();
        for (id, located) in difference.kept {
            self.rules.relocate(id, Origin::File { file: located.file, line: located.line });
        }
        for located in difference.added {
            self.insert(located);
        }
        for (id, located) in difference.changed {
            let origin = Origin::File { file: located.file, line: located.line };
            self.rules.insert_as(id, Rc::clone(&located.spec), origin);
            self.queue.flush(id);
            self.attach(id, located.spec);
        }
        for id in difference.removed {
            self.take_out(id);
        }
        self.store.write(self.rules.numbers());
        Ok(reply)
    }
}
