//! One connection: lines in, replies and notifications out.
//!
//! One task does both, and it reads only when everything before has been
//! written. So replies keep the order of their requests, notifications stand
//! between them and never inside a batch, and a client that does not read
//! fills its own socket and nothing else.
//!
//! Requests of clients that may only read are read and carried out in turns (see [`super::shares`]),
//! and the thread does something else after each. A client that does not fetch its reply keeps
//! others from their turns, and is disconnected.

use super::dispatch::dispatch;
use super::{Access, Api, Caller, EngineHandle};
use facron_proto::frame::{Lines, MAX_LINE, TooLong};
use facron_proto::rpc::{self, Code, Error, Id, Line, Reply, Request};
use serde_json::value::RawValue;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::yield_now;
use tokio::time::timeout;

/// How much is read at once.
const CHUNK: usize = 16 << 10;

/// Replies of a batch, and notifications, are collected up to this size.
const FLUSH: usize = 16 << 10;

/// The longest line of a client that may only read.
pub(super) const MAX_READERS_LINE: usize = 32 << 10;

/// How long such a client may take to fetch a reply, once the socket is full.
const STALL: Duration = Duration::from_secs(3);

/// Answers a client until it closes its side.
pub(super) async fn serve<E: Api>(
    stream: UnixStream,
    engine: EngineHandle<E>,
    caller: Caller,
) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let longest = if caller.access == Access::Full { MAX_LINE } else { MAX_READERS_LINE };
    let mut session = Session { engine, caller, output: Output { writer, buffer: Vec::new() } };
    let mut lines = Lines::new(longest);
    let connection = Arc::clone(&session.caller.connection);
    loop {
        while let Some(line) = lines.next_line() {
            session.answer_line(line).await?;
            session.tell_records().await?;
            session.leave_room().await;
        }
        tokio::select! {
            ready = reader.readable() => {
                ready?;
                let _turn = connection.place().turn().await;
                if read_some(&reader, &mut lines)? == Progress::Ended {
                    return Ok(());
                }
            }
            () = session.caller.connection.ready() => session.tell_records().await?,
        }
        session.leave_room().await;
    }
}

#[derive(PartialEq)]
enum Progress {
    Open,
    Ended,
}

/// Reads what is there. No connection has a buffer for it.
fn read_some(reader: &OwnedReadHalf, lines: &mut Lines) -> io::Result<Progress> {
    let mut chunk = [0; CHUNK];
    match reader.try_read(&mut chunk) {
        Ok(0) => return Ok(Progress::Ended),
        Ok(count) => lines.feed(&chunk[..count]),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    Ok(Progress::Open)
}

struct Session<E> {
    engine: EngineHandle<E>,
    caller: Caller,
    output: Output,
}

impl<E: Api> Session<E> {
    /// Answers a line in its turn, which ends when the client has the replies.
    async fn answer_line(&mut self, line: Result<&[u8], TooLong>) -> io::Result<()> {
        let connection = Arc::clone(&self.caller.connection);
        let _turn = connection.place().turn().await;
        let parsed = line
            .map_err(|error| Error::new(Code::INVALID_REQUEST, format!("invalid request: {error}")))
            .and_then(rpc::parse);
        match parsed {
            Err(error) => self.output.reply(b"", &Id::Null, Err(&error), b"\n")?,
            Ok(Line::Single(value)) => {
                self.answer(value, b"", b"\n").await?;
            }
            Ok(Line::Batch(values)) => {
                let mut before: &[u8] = b"[";
                for value in values {
                    if self.answer(value, before, b"").await? {
                        before = b",";
                        self.output.flush_if_large(self.patience()).await?;
                    }
                    self.leave_room().await;
                }
                if before == b"," {
                    self.output.buffer.extend_from_slice(b"]\n");
                }
            }
        }
        self.output.flush(self.patience()).await
    }

    /// Lets others use the thread, if this client may only read.
    async fn leave_room(&self) {
        if self.caller.access != Access::Full {
            yield_now().await;
        }
    }

    /// How long others wait until this client reads.
    fn patience(&self) -> Duration {
        if self.caller.access == Access::Full { Duration::MAX } else { STALL }
    }

    /// Does one request; false if it was a notification, which has no reply.
    async fn answer(&mut self, value: &RawValue, before: &[u8], after: &[u8]) -> io::Result<bool> {
        let (id, outcome) = match Request::parse(value) {
            Err(error) => (Some(Id::Null), Err(error)),
            Ok(request) => {
                let outcome = dispatch(&self.engine, &request, &self.caller).await;
                (request.id, outcome)
            }
        };
        let Some(id) = id else { return Ok(false) };
        self.output.reply(before, &id, outcome.as_deref(), after)?;
        Ok(true)
    }

    /// Writes the records that wait: all, or as many as requests may have to wait for.
    async fn tell_records(&mut self) -> io::Result<()> {
        while let Some(line) = self.caller.connection.take() {
            self.output.buffer.extend_from_slice(&line?);
            if self.output.is_large() {
                self.caller.connection.wake();
                break;
            }
        }
        self.output.flush(Duration::MAX).await
    }
}

struct Output {
    writer: OwnedWriteHalf,
    buffer: Vec<u8>,
}

impl Output {
    fn reply(
        &mut self,
        before: &[u8],
        id: &Id,
        outcome: Result<&RawValue, &Error>,
        after: &[u8],
    ) -> io::Result<()> {
        self.buffer.extend_from_slice(before);
        serde_json::to_writer(&mut self.buffer, &Reply::new(id, outcome))?;
        self.buffer.extend_from_slice(after);
        Ok(())
    }

    fn is_large(&self) -> bool {
        self.buffer.len() >= FLUSH
    }

    async fn flush_if_large(&mut self, patience: Duration) -> io::Result<()> {
        if self.is_large() { self.flush(patience).await } else { Ok(()) }
    }

    async fn flush(&mut self, patience: Duration) -> io::Result<()> {
        timeout(patience, self.writer.write_all(&self.buffer)).await??;
        self.buffer.clear();
        self.buffer.shrink_to(FLUSH);
        Ok(())
    }
}
