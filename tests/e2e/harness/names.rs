//! File names that somebody is not ready for.

/// Names that are one argument each, and must stay it.
const AWKWARD: [&[u8]; 18] = [
    b"with blanks  in it",
    b"'single' \"double\" `back`",
    b"new\nline",
    b"tab\tand\rreturn",
    b"$(touch x)",
    b"`touch x`",
    b";touch x;",
    b"| touch x &",
    b"-rf",
    b"--help",
    b"$$ $@ $# $+ %s {} * ? [a]",
    b"back\\slash\\n",
    b"escape \x1b[31mred\x07",
    b"not UTF-8 \xff\xfe\x80",
    b"ends in CR\r",
    "right-to-left \u{202e}txt.exe".as_bytes(),
    "hidden \u{9b}31m\u{7f}\u{61c}\u{2060}\u{ad}\u{e0041}\u{e000}".as_bytes(),
    b" ",
];

/// Those, and one that is as long as a name can be.
pub fn awkward_names() -> Vec<Vec<u8>> {
    let longest = vec![b'n'; 255];
    AWKWARD.iter().map(|name| name.to_vec()).chain([longest]).collect()
}
