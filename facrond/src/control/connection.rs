//! One connection: lines in, replies and notifications out.
//!
//! One task does both, and it reads only when everything before has been
//! written. So replies keep the order of their requests, notifications stand
//! between them and never inside a batch, and a client that does not read
//! fills its own socket and nothing else.
//!
//! Requests are read and carried out in turns (see [`super::shares`]), and the thread does
//! something else after each. A client that does not fetch its reply keeps others of its
//! user from their turns, and is disconnected.

use super::dispatch::dispatch;
use super::{Api, Caller, EngineHandle};
use facron_proto::frame::{Lines, TooLong};
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

/// Answers a client until it closes its side.
pub(super) async fn serve<E: Api>(
    stream: UnixStream,
    engine: EngineHandle<E>,
    caller: Caller,
) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let limits = caller.limits();
    let output = Output { writer, buffer: Vec::new(), stall: limits.stall };
    let connection = Arc::clone(&caller.connection);
    let mut session = Session { engine, caller, output };
    let mut lines = Lines::new(limits.line);
    loop {
        while let Some(line) = lines.next_line() {
            session.answer_line(line).await?;
            session.tell_records().await?;
            yield_now().await;
        }
        tokio::select! {
            ready = reader.readable() => {
                ready?;
                let turn = connection.place().turn().await;
                if read_some(&reader, &mut lines)? == Progress::Ended {
                    return Ok(());
                }
                turn.end().await;
            }
            () = connection.ready() => session.tell_records().await?,
        }
        yield_now().await;
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
        let turn = connection.place().turn().await;
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
                        self.output.flush_if_large().await?;
                    }
                    yield_now().await;
                }
                if before == b"," {
                    self.output.buffer.extend_from_slice(b"]\n");
                }
            }
        }
        self.output.flush_in_time().await?;
        turn.end().await;
        Ok(())
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
        self.output.flush().await
    }
}

struct Output {
    writer: OwnedWriteHalf,
    buffer: Vec<u8>,
    stall: Duration,
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

    async fn flush_if_large(&mut self) -> io::Result<()> {
        if self.is_large() { self.flush_in_time().await } else { Ok(()) }
    }

    /// The same where others wait until this client reads.
    async fn flush_in_time(&mut self) -> io::Result<()> {
        timeout(self.stall, self.flush()).await?
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.buffer).await?;
        self.buffer.clear();
        self.buffer.shrink_to(FLUSH);
        Ok(())
    }
}
