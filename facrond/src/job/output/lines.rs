//! Cuts a stream of bytes into lines of bounded length, and keeps its end.

/// No line is longer; what follows up to the newline is left out.
pub(super) const MAX_LINE: usize = 4096;

/// How much of the end of the output an outcome has.
const MAX_TAIL: usize = 1024;

/// One line, without its newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) bytes: &'a [u8],
    /// Whether it went on after [`MAX_LINE`].
    pub(super) is_cut: bool,
}

/// The line that is not complete yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    /// The rest of the line has no place any more.
    skips_rest: bool,
}

impl Lines {
    /// Takes the next bytes and hands on the lines that they complete.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.append(&bytes[..end], &mut each);
            if !self.skips_rest {
                each(Line { bytes: &self.partial, is_cut: false });
            }
            self.partial.clear();
            self.skips_rest = false;
            bytes = &bytes[end + 1..];
        }
        self.append(bytes, &mut each);
    }

    /// Hands on what came after the last newline.
    pub(super) fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if !self.partial.is_empty() {
            each(Line { bytes: &self.partial, is_cut: false });
            self.partial.clear();
        }
    }

    /// Goes past bytes whose lines nobody wants; how many of them ended there.
    #[expect(clippy::naive_bytecount, reason = "the compiler vectorises it well enough")]
    pub(super) fn skip(&mut self, bytes: &[u8]) -> usize {
        self.partial.clear();
        self.skips_rest = bytes.last().is_some_and(|byte| *byte != b'\n');
        bytes.iter().filter(|byte| **byte == b'\n').count()
    }

    fn append(&mut self, bytes: &[u8], each: &mut impl FnMut(Line<'_>)) {
        if self.skips_rest {
            return;
        }
        let room = MAX_LINE - self.partial.len();
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            each(Line { bytes: &self.partial, is_cut: true });
            self.partial.clear();
            self.skips_rest = true;
        }
    }
}

/// The last bytes of the output.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(MAX_TAIL)..];
        let excess = (self.bytes.len() + bytes.len()).saturating_sub(MAX_TAIL);
        self.is_cut |= excess > 0 || bytes.len() == MAX_TAIL;
        self.bytes.drain(..excess);
        self.bytes.extend_from_slice(bytes);
    }

    /// From the first line that is there from its beginning, if any is; `None`
    /// if nothing was written.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if self.is_cut
            && let Some(newline) = bytes.iter().position(|byte| *byte == b'\n')
        {
            bytes.drain(..=newline);
        }
        (!bytes.is_empty()).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.feed(chunk, |line| found.push((line.bytes.to_vec(), line.is_cut)));
        }
        lines.finish(|line| found.push((line.bytes.to_vec(), line.is_cut)));
        found
    }

    #[test]
    fn long_lines_are_cut_once() {
        let long = vec![b'x'; 3 * MAX_LINE];
        let found = lines(&[&long, &long, b"y\nnext\n", &long[..MAX_LINE], b"\n"]);
        let cut = (vec![b'x'; MAX_LINE], true);
        assert_eq!(found, [cut, (b"next".to_vec(), false), (vec![b'x'; MAX_LINE], false)]);
    }

    #[test]
    fn skipped_lines_are_counted_and_never_shown_in_part() {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        lines.feed(b"a\nhalf", |line| found.push(line.bytes.to_vec()));
        assert_eq!(lines.skip(b" of it\nb\nhalf"), 2);
        lines.feed(b" of it\nc\n", |line| found.push(line.bytes.to_vec()));
        assert_eq!(found, [b"a".to_vec(), b"c".to_vec()]);
    }

    #[test]
    fn the_tail_begins_with_a_whole_line() {
        let mut tail = Tail::default();
        assert_eq!(tail.take(), None);
        tail.push(b"one\ntwo\n");
        assert_eq!(tail.take().unwrap(), b"one\ntwo");
        for i in 0..1000 {
            tail.push(format!("line {i}\n").as_bytes());
        }
        let text = String::from_utf8(tail.take().unwrap()).unwrap();
        assert!(text.len() <= MAX_TAIL && text.len() > MAX_TAIL - 20, "{}", text.len());
        assert!(text.starts_with("line 8") && text.ends_with("line 999"), "{text}");
    }

    proptest! {
        #[test]
        fn lines_are_those_of_split_however_they_arrive(chunks: Vec<Vec<u8>>) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let all = chunks.concat();
            let mut expected: Vec<_> = all.split(|b| *b == b'\n').map(|line| (line.to_vec(), false)).collect();
            if expected.last().is_some_and(|(line, _)| line.is_empty()) {
                expected.pop();
            }
            prop_assert_eq!(lines(&chunks), expected);
        }
    }
}
