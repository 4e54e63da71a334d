//! A rule's command with its tokens replaced.
//!
//! A token's value is bytes and never parsed again: whatever a file is called,
//! each argument stays one argument.

use crate::config::rule::{Argument, Command, Part, Token};
use crate::event::Event;
use std::ffi::{CString, NulError, OsStr};
use std::os::unix::ffi::OsStrExt;

/// The global counter of `$+`, `$-` and `$=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter(pub i64);

/// The arguments from `argv[0]` on, replaced from left to right: by what `event`
/// says, but `$$` alone becomes the paths of all `events`.
pub fn build(
    program: &OsStr,
    args: &[Argument],
    event: &Event,
    events: &[Event],
    counter: &mut Counter,
) -> Result<Vec<CString>, NulError> {
    let mut words = Vec::with_capacity(args.len() + events.len());
    words.push(CString::new(program.as_bytes())?);
    for argument in args {
        if is_path(argument) {
            for event in events {
                words.push(CString::new(&*event.path)?);
            }
        } else {
            words.push(CString::new(replace(argument, event, counter))?);
        }
    }
    Ok(words)
}

/// The arguments of a command; in a script nothing is replaced.
pub fn of(
    command: &Command,
    event: &Event,
    events: &[Event],
    counter: &mut Counter,
) -> Result<Vec<CString>, NulError> {
    match command {
        Command::Record => Ok(Vec::new()),
        Command::Exec { program, args } => build(program, args, event, events, counter),
        Command::Shell(script) => Ok(vec![c"/bin/sh".into(), c"-c".into(), CString::new(&**script)?]),
    }
}

/// Whether it is `$$` and nothing else.
pub fn is_path(argument: &Argument) -> bool {
    argument.parts == [Part::Token(Token::Path)]
}

fn replace(argument: &Argument, event: &Event, counter: &mut Counter) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in &argument.parts {
        match part {
            Part::Literal(literal) => bytes.extend_from_slice(literal),
            Part::Token(token) => append(&mut bytes, *token, event, counter),
        }
    }
    bytes
}

fn append(bytes: &mut Vec<u8>, token: Token, event: &Event, counter: &mut Counter) {
    match token {
        Token::Path => bytes.extend_from_slice(&event.path),
        Token::Directory => bytes.extend_from_slice(directory(&event.path)),
        Token::Name => bytes.extend_from_slice(name(&event.path)),
        Token::OldPath => bytes.extend_from_slice(event.old_path.as_deref().unwrap_or_default()),
        Token::Pid => bytes.extend_from_slice(event.pid.to_string().as_bytes()),
        Token::Events => bytes.extend_from_slice(event.events.to_string().as_bytes()),
        Token::Mask => bytes.extend_from_slice(event.mask.to_string().as_bytes()),
        Token::Increment => counter.0 = counter.0.wrapping_add(1),
        Token::Decrement => counter.0 = counter.0.wrapping_sub(1),
        Token::Counter => {}
    }
    if matches!(token, Token::Increment | Token::Decrement | Token::Counter) {
        bytes.extend_from_slice(counter.0.to_string().as_bytes());
    }
}

/// The directory of an absolute path; that of `/x` and of `/` itself is `/`.
pub fn directory(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        None | Some(0) => b"/",
        Some(slash) => &path[..slash],
    }
}

/// The file name of an absolute path; that of `/` is `/`.
pub fn name(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) if path.len() > 1 => &path[slash + 1..],
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::testing::event;

    fn argument(parts: Vec<Part>) -> Argument {
        Argument { parts, text: Vec::new() }
    }

    fn one(token: Token, event: &Event) -> Vec<u8> {
        replace(&argument(vec![Part::Token(token)]), event, &mut Counter(7))
    }

    #[test]
    fn each_token() {
        let mut event = event("/srv/in/a b");
        assert_eq!(one(Token::Path, &event), b"/srv/in/a b");
        assert_eq!(one(Token::Directory, &event), b"/srv/in");
        assert_eq!(one(Token::Name, &event), b"a b");
        assert_eq!(one(Token::Pid, &event), b"4242");
        assert_eq!(one(Token::OldPath, &event), b"");
        assert_eq!(one(Token::Events, &event), b"FAN_CLOSE_WRITE");
        assert_eq!(one(Token::Mask, &event), b"8");
        assert_eq!(one(Token::Increment, &event), b"8");
        assert_eq!(one(Token::Decrement, &event), b"6");
        assert_eq!(one(Token::Counter, &event), b"7");
        event.old_path = Some(b"/old".as_slice().into());
        assert_eq!(one(Token::OldPath, &event), b"/old");
    }

    #[test]
    fn counters_go_from_left_to_right_and_on_from_job_to_job() {
        use Token::{Counter as Same, Decrement, Increment};
        let mut counter = Counter::default();
        let parts = [Increment, Same, Increment, Decrement].map(Part::Token);
        let args = [argument(parts.to_vec()), argument(vec![Part::Token(Increment)])];
        let build = |counter: &mut Counter| {
            build(OsStr::new("x"), &args, &event("/f"), &[event("/f")], counter).unwrap()
        };
        assert_eq!(build(&mut counter), [c"x".into(), c"1121".into(), CString::from(c"2")]);
        assert_eq!(build(&mut counter), [c"x".into(), c"3343".into(), CString::from(c"4")]);
    }

    #[test]
    fn any_bytes_stay_one_argument() {
        let mut event = event("/x");
        event.path = b"/d/$(id) '\"\n\xff $$".as_slice().into();
        let args = [argument(vec![Part::Literal(b"--file=".to_vec()), Part::Token(Token::Path)])];
        let built = build(OsStr::new("/bin/x"), &args, &event, &[], &mut Counter::default()).unwrap();
        assert_eq!(built[1].as_bytes(), b"--file=/d/$(id) '\"\n\xff $$");
    }

    #[test]
    fn the_path_alone_becomes_an_argument_for_each_event() {
        let events = [event("/a"), event("/b c")];
        let path = || Part::Token(Token::Path);
        let args = [
            argument(vec![path()]),
            argument(vec![Part::Literal(b"--last=".to_vec()), path()]),
            argument(vec![path(), path()]),
        ];
        let built = build(OsStr::new("x"), &args, &events[1], &events, &mut Counter::default()).unwrap();
        assert_eq!(built, [c"x", c"/a", c"/b c", c"--last=/b c", c"/b c/b c"].map(CString::from));
    }

    #[test]
    fn at_the_root() {
        assert_eq!((directory(b"/x"), name(b"/x")), (&b"/"[..], &b"x"[..]));
        assert_eq!((directory(b"/"), name(b"/")), (&b"/"[..], &b"/"[..]));
    }
}
