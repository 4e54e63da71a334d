//! Clients that use up the control socket: as many as they can be, and none of them reads.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// More than the daemon has places for.
const CLIENTS: usize = 300;

/// Sends something on all connections, again and again, until nobody wants it any more.
pub fn run(socket: &str, kind: &str) -> io::Result<()> {
    let text = text(kind)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        over.store(true, Ordering::Relaxed);
    });
    let mut clients = (0..CLIENTS).map(|_| Client::new(socket)).collect::<io::Result<Vec<_>>>()?;
    let mut announce = Some("ready");
    while !is_over.load(Ordering::Relaxed) {
        for client in &mut clients {
            if client.send(&text, kind == "flood").is_err() {
                *client = Client::new(socket)?;
            }
        }
        announce.take().into_iter().for_each(|word| println!("{word}"));
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// What the clients send.
fn text(kind: &str) -> io::Result<String> {
    let request = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
    };
    let batch = |element: &str, count: usize| format!("[{}]\n", vec![element; count].join(","));
    Ok(match kind {
        "idle" => String::new(),
        "endless-lines" => "x".repeat(1 << 20),
        "batches" => batch("1", 1 << 19) + &batch("1", 15_000) + &batch("1", 1000),
        "followers" => (request("tail", r#"{"limit":0,"follow":true}"#) + "\n").repeat(16),
        "returners" => (request("tail", r#"{"after":0,"limit":0,"follow":true}"#) + "\n").repeat(16),
        "searches" => {
            (request("tail", r#"{"limit":100000,"path":"*{x,y}*z","since":"2026-01-01T00:00:00Z"}"#) + "\n")
                .repeat(8)
        }
        "tails" => (request("tail", r#"{"limit":100000}"#) + "\n" + &request("list", "{}") + "\n").repeat(8),
        "flood" => "x\n".repeat(8192),
        _ => {
            return Err(io::Error::other(
                "idle, endless-lines, batches, followers, returners, searches, tails or flood",
            ));
        }
    })
}

struct Client {
    stream: UnixStream,
    /// How much of the text is sent.
    sent: usize,
}

impl Client {
    fn new(socket: &str) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, sent: 0 })
    }

    /// Sends as much as the socket takes, and reads only if it is told to.
    fn send(&mut self, text: &str, reads: bool) -> io::Result<()> {
        if reads {
            let _ = self.stream.read(&mut [0; 1 << 14]);
        }
        match self.stream.write(&text.as_bytes()[self.sent..]) {
            Ok(count) => self.sent = (self.sent + count) % text.len().max(1),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
