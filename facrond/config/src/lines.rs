//! From a file to logical lines.

/// The logical lines of a file, with the number of the first physical line of each.
///
/// A line ends with a newline, or with a carriage return and a newline. An odd number of
/// backslashes before that joins the next line, except in a comment.
pub(super) struct Lines<'a> {
    text: &'a [u8],
    pos: usize,
    number: u32,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, pos: 0, number: 1 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.pos >= self.text.len() {
            return None;
        }
        let (start, number) = (self.pos, self.number);
        let comment = is_comment(&self.text[start..]);
        loop {
            let rest = &self.text[self.pos..];
            let len = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let end = self.pos + len;
            let line = rest[..len].strip_suffix(b"\r").unwrap_or(&rest[..len]);
            let logical = start..self.pos + line.len();
            let backslashes = line.iter().rev().take_while(|byte| **byte == b'\\').count();
            self.pos = end + 1;
            self.number = self.number.saturating_add(1);
            if comment || backslashes % 2 == 0 || self.pos >= self.text.len() {
                return Some((number, &self.text[logical]));
            }
        }
    }
}

/// Whether the first byte that is not blank is `#`.
pub(super) fn is_comment(line: &[u8]) -> bool {
    line.iter().find(|byte| !matches!(byte, b' ' | b'\t')) == Some(&b'#')
}
