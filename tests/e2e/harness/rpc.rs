//! A raw connection to the socket.

use super::PATIENCE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A connection that sends what it is told to, right or wrong.
pub struct Rpc {
    reader: BufReader<UnixStream>,
    last_id: u64,
}

impl Rpc {
    /// Connects to a socket.
    #[track_caller]
    pub fn connect(socket: &str) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(stream), last_id: 0 }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// A second way to send, for another thread.
    pub fn sender(&self) -> UnixStream {
        self.reader.get_ref().try_clone().unwrap()
    }

    /// The next line; `None` if the daemon closed the connection.
    #[track_caller]
    pub fn receive(&mut self) -> Option<Value> {
        let mut line = Vec::new();
        let length = self.reader.read_until(b'\n', &mut line).unwrap();
        (length > 0).then(|| serde_json::from_slice(&line).unwrap())
    }

    /// Whether something has been sent by the daemon, or is within this time.
    #[track_caller]
    pub fn has_more(&self, within: Duration) -> bool {
        let timeout = PollTimeout::try_from(within).unwrap();
        let mut fds = [PollFd::new(self.reader.get_ref().as_fd(), PollFlags::POLLIN)];
        !self.reader.buffer().is_empty() || poll(&mut fds, timeout).unwrap() > 0
    }

    /// Calls a method: its result, or its error. Notifications before it are left out.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value, Value> {
        self.last_id += 1;
        let id = self.last_id;
        let request = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": id});
        self.send(format!("{request}\n").as_bytes());
        loop {
            let mut reply = self.receive().unwrap();
            if reply["id"] == id {
                return if reply.get("error").is_some() {
                    Err(reply["error"].take())
                } else {
                    Ok(reply["result"].take())
                };
            }
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) {
        self.reader.get_ref().shutdown(Shutdown::Write).unwrap();
    }
}
