//! Shell scripts on a command line, and a warning about tokens in them.
//!
//! A token in the SCRIPT of `sh -c SCRIPT` would turn the name of a file into code. So
//! nothing is replaced in this operand. A warning explains how to pass the path as an
//! argument behind the script.

use super::command::tokens;
use super::diagnostic::{Line, Problems};
use super::lex::Word;
use super::rule::Token;
use std::borrow::Cow;

const SHELLS: [&[u8]; 6] = [b"sh", b"bash", b"dash", b"ash", b"ksh", b"zsh"];

/// Long options of bash and zsh whose value is the next word.
const WITH_VALUE: [&[u8]; 3] = [b"--rcfile", b"--init-file", b"--emulate"];

/// The index of the word that is the script operand of a shell.
///
/// `env` and `busybox` before the shell are recognized, in any directory.
pub(super) fn script(words: &[&[u8]]) -> Option<usize> {
    let mut at = 0;
    loop {
        let word = words.get(at)?;
        match word.rsplit(|byte| *byte == b'/').next()? {
            b"env" => at = behind_env(words, at + 1),
            b"busybox" => at += 1,
            name if SHELLS.contains(&name) => return operand(words, at + 1),
            _ => return None,
        }
    }
}

/// The index of the program that `env` runs, after its options and assignments.
fn behind_env(words: &[&[u8]], mut at: usize) -> usize {
    while let Some(word) = words.get(at) {
        match *word {
            b"-u" | b"-C" | b"--unset" | b"--chdir" => at += 2,
            word if word.starts_with(b"-") || word.contains(&b'=') => at += 1,
            _ => break,
        }
    }
    at
}

/// The first operand of a shell that has the option `-c`.
///
/// As in sh(1), options end at the first word that is not an option, or at `--` or `-`.
/// Each `o`, and in bash each `O`, takes one more word.
fn operand(words: &[&[u8]], mut at: usize) -> Option<usize> {
    let mut has_script = false;
    while let Some(word) = words.get(at) {
        match *word {
            b"-" | b"--" => {
                at += 1;
                break;
            }
            word if word.starts_with(b"--") => at += 1 + usize::from(WITH_VALUE.contains(&word)),
            [sign @ (b'-' | b'+'), letters @ ..] if !letters.is_empty() => {
                has_script |= *sign == b'-' && letters.contains(&b'c');
                at += 1 + letters.iter().filter(|letter| matches!(letter, b'o' | b'O')).count();
            }
            _ => break,
        }
    }
    (has_script && at < words.len()).then_some(at)
}

/// Warns of a token in a script.
///
/// `$@`, `$*`, `$#` and `$-` are also variables of the shell. If a token is passed behind
/// the script, the author means those.
pub(super) fn warn(line: &Line<'_>, script: &Word, behind: &[Cow<'_, Word>], problems: &mut Problems) {
    let passed = behind.iter().any(|word| tokens(word).next().is_some());
    let is_meant =
        |token| passed && matches!(token, Token::Directory | Token::Pid | Token::Name | Token::Decrement);
    let Some((at, token)) = tokens(script).find(|(_, token)| !is_meant(*token)) else { return };
    let message = format!(
        "`{}` is not replaced in a shell's script, so that no file name can become code",
        token.as_str()
    );
    let help = "pass it behind the script: `sh -c 'mv -- \"$1\" /done' sh $$`";
    problems.push(line.warning(script.place(at..at + 2), message).help(help));
}
