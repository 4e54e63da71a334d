//! EVENTS: names of fanotify(7) joined by `|` or `,`.

use super::diagnostic::{Line, Problems, show};
use super::lex::Word;
use super::suggest::nearest;
use crate::events::Events;

/// The greatest number of names. No useful rule has more.
const MOST: usize = 1000;

/// The events of a rule; `None` if the word has errors.
pub(super) fn events(line: &Line<'_>, word: &Word, problems: &mut Problems) -> Option<Events> {
    let mut sum = Some(Events::NONE);
    let mut at = 0;
    for name in word.bytes.split(|byte| matches!(byte, b'|' | b',')).take(MOST) {
        let place = at..at + name.len();
        at = place.end + 1;
        match event(name) {
            Ok(events) => sum = sum.map(|sum| sum.with(events)),
            Err((message, help)) => {
                problems.push(line.error(word.place(place), message).help(help));
                sum = None;
            }
        }
    }
    let sum = sum?;
    if sum.without(Events::FLAGS).is_empty() {
        let message = "EVENTS has flags only, so the rule could never fire";
        let help = "add the events that are meant, such as `FAN_CLOSE_WRITE`";
        problems.push(line.error(word.span.clone(), message).help(help));
        return None;
    }
    Some(sum)
}

/// The events of one name, or the problem with it and a correction.
fn event(name: &[u8]) -> Result<Events, (String, String)> {
    if name.is_empty() {
        return Err((
            "the name of an event is missing".to_owned(),
            "write EVENTS as one word, without blanks: `FAN_CLOSE_WRITE|FAN_MOVED_TO`".to_owned(),
        ));
    }
    let Some(events) = str::from_utf8(name).ok().and_then(Events::named) else {
        return Err((format!("unknown event `{}`", show(name)), help_for(name)));
    };
    Ok(events)
}

fn help_for(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name).to_ascii_uppercase();
    let bare = ["FAN_", "IN_"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(&name);
    let known = Events::reference().map(|(known, _)| (known.strip_prefix("FAN_").unwrap_or(known), known));
    match nearest(bare, known) {
        Some(event) => format!("did you mean `{event}`?"),
        None => {
            "write names of fanotify(7) joined by `|`, such as `FAN_CLOSE_WRITE|FAN_MOVED_TO`, or `ARRIVED`"
                .to_owned()
        }
    }
}
