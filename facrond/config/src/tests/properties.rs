//! What holds for all bytes.

use super::read;
use crate::lex::quote_into;
use crate::rule::Command;
use crate::{Words, check, parse_words};
use proptest::prelude::*;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes that a word of a file can have.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let special = prop::sample::select(b"$\\'\" []#@-*\r\t$\\".to_vec());
    let any = (1..=255_u8).prop_filter("a newline", |byte| *byte != b'\n');
    prop::collection::vec(prop_oneof![special, any], 0..20)
}

/// Text in the neighbourhood of the grammar.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "/a",
        " ",
        " ",
        "OPEN",
        "|",
        "FAN_",
        "[",
        "]",
        "once",
        "include=",
        "timeout=3s",
        "env=A=b",
        "name=x",
        "\\",
        "\n",
        "'",
        "\"",
        "$",
        "$$",
        "-",
        "sh -c ",
        "@include ",
        "*",
        "#",
        "\r\n",
        "\0",
        "\u{e9}",
        "\u{202e}",
        "..",
    ]);
    let any = prop::collection::vec(any::<u8>(), 0..4);
    let piece = prop_oneof![4 => piece.prop_map(|piece| piece.as_bytes().to_vec()), 1 => any];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_quoted_word_means_its_bytes(tail in word()) {
        let path = [b"/x", tail.as_slice()].concat();
        prop_assume!(!tail.contains(&b'/'));
        let mut line = Vec::new();
        quote_into(&path, &mut line);
        line.extend(b" OPEN -");
        let loaded = read(&line);
        prop_assert_eq!(loaded.rules[0].spec.path.as_os_str().as_bytes(), path);
    }

    #[test]
    fn the_words_of_a_command_are_the_command(program in word(), args in prop::collection::vec(word(), 0..4)) {
        let command: Vec<_> = [program.as_slice()].into_iter().chain(args.iter().map(Vec::as_slice)).collect();
        for command in [command.clone(), [b"sh", b"-c".as_slice()].into_iter().chain(command).collect()] {
            let words = Words { path: b"/a", events: b"OPEN", options: b"", command };
            let Ok((first, _)) = parse_words(&words) else { continue };
            let shown = first.command.words();
            let again = Words { command: shown.iter().map(Vec::as_slice).collect(), ..words };
            prop_assert_eq!(parse_words(&again).unwrap().0, first);
        }
    }

    #[test]
    fn a_command_of_a_file_survives_being_shown(args in prop::collection::vec(word(), 0..4)) {
        let mut line = b"/a OPEN true".to_vec();
        for arg in &args {
            line.push(b' ');
            quote_into(arg, &mut line);
        }
        let loaded = read(&line);
        let spec = &loaded.rules[0].spec;
        let shown = spec.command.words();
        let words = Words { path: b"/a", events: b"OPEN", options: b"", command: shown.iter().map(Vec::as_slice).collect() };
        prop_assert_eq!(&parse_words(&words).unwrap().0.command, &spec.command);
        let Command::Exec { args: parsed, .. } = &spec.command else { panic!("no command") };
        prop_assert_eq!(parsed.len(), args.len());
    }

    #[test]
    fn any_text_is_checked_without_a_panic_and_drawn_safely(text in text()) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, &text).unwrap();
        let (drawn, _) = check(Path::new(""), Path::new(""), &[file], false);
        prop_assert!(!drawn.chars().any(|c| c != '\n' && facron_proto::is_unsafe(c)), "{drawn:?}");
    }

    #[test]
    fn any_words_are_parsed_without_a_panic(path: Vec<u8>, events: Vec<u8>, options in text(), command in prop::collection::vec(word(), 0..3)) {
        let words = Words { path: &path, events: &events, options: &options, command: command.iter().map(Vec::as_slice).collect() };
        if let Err(diagnostics) = parse_words(&words) {
            prop_assert!(diagnostics.iter().all(|diagnostic| !diagnostic.render(true).is_empty()));
        }
    }
}
