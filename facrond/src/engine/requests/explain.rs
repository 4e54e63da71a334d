//! `explain`.

use crate::control::{Caller, Serve};
use crate::engine::Engine;
use crate::event::Event;
use crate::events::Events;
use crate::job::argv;
use crate::kernel::object::PATH_MAX;
use crate::matcher::foresee;
use facron_proto::Text;
use facron_proto::method::{Explain, ExplainParams, Explained};
use facron_proto::rpc::{Code, Error};
use std::slice;
use std::time::SystemTime;

impl Serve<Explain> for Engine {
    fn serve(&mut self, params: ExplainParams, _: &Caller) -> Result<Vec<Explained>, Error> {
        let path = params.path.as_bytes();
        if path.first() != Some(&b'/') || path.contains(&0) {
            return Err(Error::new(
                Code::INVALID_PARAMS,
                format!("the path {} is not absolute", params.path),
            ));
        }
        // Comparing it with all rules would take long.
        if path.len() >= PATH_MAX {
            let why = format!("the path has {} bytes; no path has {PATH_MAX} or more", path.len());
            return Err(Error::new(Code::INVALID_PARAMS, why));
        }
        let events = parse(&params.events.0)?;
        let mut counter = self.runner.counter();
        let mut explained = Vec::new();
        for entry in self.rules.iter().filter(|entry| entry.is_on()) {
            let matched = foresee(&entry.spec, path, events);
            if matched.is_empty() {
                continue;
            }
            let event = imagine(path, matched);
            let words = argv::of(&entry.spec.command, &event, slice::from_ref(&event), &mut counter);
            let words = words.map_err(|error| Error::new(Code::FAILED, error.to_string()))?;
            let argv = words.into_iter().map(|word| Text(word.into_bytes())).collect();
            explained.push(Explained { rule: entry.id, argv });
        }
        Ok(explained)
    }
}

fn parse(names: &str) -> Result<Events, Error> {
    let unknown = |name: &str| {
        let name = Text::from(name);
        Error::new(
            Code::INVALID_PARAMS,
            format!("unknown event {name}; the names are those of fanotify(7), and ARRIVED"),
        )
    };
    names.split(['|', ',']).map(str::trim).try_fold(Events::NONE, |events, name| {
        Events::named(name).map(|event| events.with(event)).ok_or_else(|| unknown(name))
    })
}

fn imagine(path: &[u8], events: Events) -> Event {
    Event {
        time: SystemTime::now(),
        events,
        mask: events.mask(),
        path: path.into(),
        old_path: None,
        pid: 0,
        exe: None,
        uid: None,
        synthetic: true,
        object: None,
    }
}
