//! `version`, `list`, `show`, `status`: nothing changes.

use crate::control::{Caller, Serve};
use crate::engine::Engine;
use facron_proto::method::{Empty, GetStatus, List, Show, ShowParams, Version, VersionReply};
use facron_proto::rpc::Error;
use facron_proto::{PROTOCOL, Rule, Status};

impl Serve<Version> for Engine {
    fn serve(&mut self, _: Empty, _: &Caller) -> Result<VersionReply, Error> {
        Ok(VersionReply { facrond: env!("CARGO_PKG_VERSION").to_owned(), protocol: PROTOCOL })
    }
}

impl Serve<List> for Engine {
    fn serve(&mut self, _: Empty, _: &Caller) -> Result<Vec<Rule>, Error> {
        Ok(self.rules.iter().map(|entry| self.rule(entry)).collect())
    }
}

impl Serve<Show> for Engine {
    fn serve(&mut self, params: ShowParams, _: &Caller) -> Result<Rule, Error> {
        self.find(&params.rule).map(|entry| self.rule(entry))
    }
}

impl Serve<GetStatus> for Engine {
    fn serve(&mut self, _: Empty, _: &Caller) -> Result<Status, Error> {
        self.count_answers();
        Ok(self.status())
    }
}
