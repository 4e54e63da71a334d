//! A connection to the daemon.

use crate::error::Error;
use facron_proto::Method;
use facron_proto::rpc::{Id, Incoming, request_line};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::{self, BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

pub(crate) struct Client {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
}

/// The result of the method `M`, unchanged.
pub(crate) struct Answer<M> {
    raw: Box<RawValue>,
    method: PhantomData<M>,
}

impl<M: Method> Answer<M> {
    /// The JSON of the daemon, also with members that this client does not know.
    pub(crate) fn json(&self) -> &str {
        self.raw.get()
    }

    pub(crate) fn value(&self) -> Result<M::Reply, Error> {
        self.parse()
    }

    /// The result as another type, for example one that keeps parts as JSON.
    pub(crate) fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        serde_json::from_str(self.raw.get()).map_err(Error::Protocol)
    }
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Result<Self, Error> {
        match UnixStream::connect(socket) {
            Ok(stream) => {
                Ok(Self { socket: socket.to_owned(), stream: BufReader::new(stream), line: Vec::new() })
            }
            Err(source) => Err(Error::Unreachable { socket: socket.to_owned(), source }),
        }
    }

    /// Calls a method and waits for its reply.
    pub(crate) fn call<M: Method>(&mut self, params: &M::Params) -> Result<Answer<M>, Error> {
        let line = request_line::<M>(&Id::from(1), params).map_err(Error::Protocol)?;
        match self.stream.get_mut().write_all(&line) {
            // a daemon that closes the connection may have sent the reason before
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(self.lost(error)),
            _ => {}
        }
        loop {
            if let Incoming::Reply { outcome, .. } = self.receive()? {
                let raw = outcome.map_err(Error::Refused)?.to_owned();
                return Ok(Answer { raw, method: PhantomData });
            }
        }
    }

    /// Waits for the next line.
    pub(crate) fn receive(&mut self) -> Result<Incoming<'_>, Error> {
        self.line.clear();
        match self.stream.read_until(b'\n', &mut self.line) {
            Ok(_) if self.line.ends_with(b"\n") => Incoming::parse(&self.line).map_err(Error::Protocol),
            Ok(_) => Err(Error::Closed { socket: self.socket.clone() }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                Err(Error::Closed { socket: self.socket.clone() })
            }
            Err(error) => Err(self.lost(error)),
        }
    }

    fn lost(&self, source: io::Error) -> Error {
        Error::Lost { socket: self.socket.clone(), source }
    }
}
