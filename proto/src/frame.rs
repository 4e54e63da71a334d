//! From bytes to lines, with limits for the memory and the length of a line.

use std::fmt;

/// The longest line, without its newline, that may be sent to the daemon.
pub const MAX_LINE: usize = 1 << 20;

/// The largest buffer that is kept when it is empty.
const KEEP: usize = 1 << 10;

/// A line was longer than this. It is skipped up to its newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong(usize);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the line is longer than {} bytes", self.0)
    }
}

impl std::error::Error for TooLong {}

/// Cuts a stream of bytes into lines.
///
/// Call [`Lines::next_line`] until it returns `None`, before you feed it again. Then the
/// buffer never holds more than the longest line and the bytes of the last feed.
#[derive(Debug)]
pub struct Lines {
    /// The longest line, without its newline.
    limit: usize,
    buffer: Vec<u8>,
    /// Where the next line starts.
    start: usize,
    /// The bytes from `start` to here have no newline.
    scanned: usize,
    /// Whether the rest of a line that is too long has to be skipped.
    skipping: bool,
}

impl Lines {
    /// Lines that are not longer than this.
    pub fn new(limit: usize) -> Self {
        Self { limit, buffer: Vec::new(), start: 0, scanned: 0, skipping: false }
    }

    /// Adds the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.reserve_exact(bytes.len());
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete line without its newline. For a line that is too long, the error
    /// is returned once, as soon as it is known.
    pub fn next_line(&mut self) -> Option<Result<&[u8], TooLong>> {
        let too_long = TooLong(self.limit);
        while let Some(length) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let (start, end) = (self.start, self.scanned + length);
            self.start = end + 1;
            self.scanned = self.start;
            if !std::mem::take(&mut self.skipping) {
                let line = &self.buffer[start..end];
                return Some(if line.len() > self.limit { Err(too_long) } else { Ok(line) });
            }
        }
        self.compact();
        if self.skipping || self.buffer.len() > self.limit {
            self.buffer = Vec::new();
            self.scanned = 0;
            return (!std::mem::replace(&mut self.skipping, true)).then_some(Err(too_long));
        }
        None
    }

    /// Drops the lines that were returned.
    fn compact(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.scanned = self.buffer.len();
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP {
            self.buffer = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(lines: &mut Lines) -> Vec<Result<Vec<u8>, TooLong>> {
        std::iter::from_fn(|| lines.next_line().map(|line| line.map(<[u8]>::to_vec))).collect()
    }

    #[test]
    fn a_line_that_is_too_long_is_told_once_and_the_stream_goes_on() {
        let mut lines = Lines::new(MAX_LINE);
        let mut seen = Vec::new();
        lines.feed(b"a\n");
        for _ in 0..(2 * MAX_LINE / 4096) {
            lines.feed(&[b'x'; 4096]);
            seen.extend(drain(&mut lines));
            assert!(lines.buffer.len() <= MAX_LINE + 4096);
        }
        lines.feed(b"y\nb\n\nhalf");
        seen.extend(drain(&mut lines));
        assert_eq!(seen, [Ok(b"a".to_vec()), Err(TooLong(MAX_LINE)), Ok(b"b".to_vec()), Ok(b"".to_vec())]);
    }

    #[test]
    fn the_bound_is_exact() {
        for (length, expected) in [(MAX_LINE, true), (MAX_LINE + 1, false)] {
            let mut lines = Lines::new(MAX_LINE);
            lines.feed(&vec![b'x'; length]);
            lines.feed(b"\n");
            assert_eq!(lines.next_line().unwrap().is_ok(), expected);
            assert_eq!(lines.next_line(), None);
        }
    }

    proptest! {
        #[test]
        fn however_the_bytes_arrive(text in "[ab\n]{0,60}", cuts: Vec<u8>) {
            let bytes = text.as_bytes();
            let mut lines = Lines::new(MAX_LINE);
            let (mut seen, mut at) = (Vec::new(), 0);
            for cut in cuts {
                let end = (at + usize::from(cut % 8)).min(bytes.len());
                lines.feed(&bytes[at..end]);
                seen.extend(drain(&mut lines));
                at = end;
            }
            lines.feed(&bytes[at..]);
            seen.extend(drain(&mut lines));
            let mut expected: Vec<_> = text.split('\n').map(|line| Ok(line.as_bytes().to_vec())).collect();
            expected.pop();
            prop_assert_eq!(seen, expected);
        }
    }
}
