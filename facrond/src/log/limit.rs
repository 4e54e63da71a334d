//! Keeps the log small, whatever users do: of each kind of message some lines in some
//! seconds, and then the number of those that were left out.
//!
//! A kind is a place in the code and, where the message has one, a rule. So the messages of
//! one rule never hide those of another. What `-v` adds is not limited, and commands' output
//! has limits of its own.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// So many lines of a kind are logged within a [`WINDOW`].
const LINES: u32 = 50;
const WINDOW: Duration = Duration::from_secs(30);

/// Kinds that are known at a time; those whose window is over are forgotten first.
const MAX_KINDS: usize = 4096;

/// The target of messages that are never left out: the limit's own, and the problems of the
/// configuration.
pub(super) const UNLIMITED: &str = "unlimited";

/// The target of commands' output, which [`crate::job::output`] limits.
const OUTPUT: &str = "output";

static WINDOWS: LazyLock<Mutex<HashMap<Kind, Window>>> = LazyLock::new(Mutex::default);

fn windows() -> MutexGuard<'static, HashMap<Kind, Window>> {
    WINDOWS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    place: Identifier,
    rule: String,
}

/// A time in which the lines of a kind are counted.
#[derive(Debug)]
struct Window {
    end: Instant,
    lines: u32,
    left_out: u64,
    /// The first message that was left out.
    message: String,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { end: now + WINDOW, lines: 0, left_out: 0, message: String::new() }
    }

    /// Says how many lines were left out, if some were.
    fn tell(&self, kind: &Kind) {
        if self.left_out == 0 {
            return;
        }
        let rule = Some(&*kind.rule).filter(|rule| !rule.is_empty());
        let (left_out, message) = (self.left_out, &*self.message);
        tracing::warn!(target: UNLIMITED, rule, left_out, "more messages of this kind were left out: {message}");
    }
}

/// The layer that leaves messages out.
pub(super) struct Limit;

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if !is_limited(event.metadata()) {
            return true;
        }
        let kind = Kind { place: event.metadata().callsite(), rule: text_of(event, "rule") };
        let now = Instant::now();
        let over = take_over(&kind, now);
        if let Some(window) = over {
            window.tell(&kind);
        }
        count(kind, event, now)
    }
}

fn is_limited(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO && ![OUTPUT, UNLIMITED].contains(&metadata.target())
}

/// The window of a kind, if it is over.
fn take_over(kind: &Kind, now: Instant) -> Option<Window> {
    let mut windows = windows();
    if windows.len() >= MAX_KINDS {
        windows.retain(|_, window| window.end > now || window.left_out > 0);
    }
    windows.get(kind)?;
    if windows[kind].end > now { None } else { windows.remove(kind) }
}

/// Counts a message; whether it is shown.
fn count(kind: Kind, event: &Event<'_>, now: Instant) -> bool {
    let mut windows = windows();
    let window = windows.entry(kind.clone()).or_insert_with(|| Window::new(now));
    if window.lines < LINES {
        window.lines += 1;
        return true;
    }
    window.left_out += 1;
    if window.left_out == 1 {
        window.message = text_of(event, "message");
        let end = window.end;
        drop(windows);
        tell_at(kind, end);
    }
    false
}

/// Tells at the end of a window what it left out. Without a runtime, the next message of the
/// kind does.
fn tell_at(kind: Kind, end: Instant) {
    let Ok(runtime) = Handle::try_current() else { return };
    runtime.spawn(async move {
        tokio::time::sleep_until(end.into()).await;
        if let Some(window) = take_over(&kind, Instant::now()) {
            window.tell(&kind);
        }
    });
}

/// Tells of everything that was left out until now, for the end of the daemon.
pub(super) fn tell_all() {
    for (kind, window) in std::mem::take(&mut *windows()) {
        window.tell(&kind);
    }
}

/// A field of an event as text; empty if there is no such field.
fn text_of(event: &Event<'_>, name: &str) -> String {
    let mut wanted = Wanted { name, text: String::new() };
    event.record(&mut wanted);
    wanted.text
}

struct Wanted<'a> {
    name: &'a str,
    text: String,
}

impl Visit for Wanted<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == self.name {
            // writing to a string cannot fail
            let _ = write!(self.text, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tracing_subscriber::prelude::*;

    /// What gets through.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let text = ["message", "rule", "left_out"].map(|name| text_of(event, name)).join(" ");
            self.0.lock().unwrap().push(text);
        }
    }

    #[test]
    fn of_each_kind_and_rule_some_lines_and_then_their_number() {
        let seen = Seen::default();
        let subscriber = tracing_subscriber::registry().with(Limit).with(seen.clone());
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..LINES + 7 {
                tracing::warn!(rule = 1, "a {number}");
                tracing::warn!("b {number}");
            }
            tracing::warn!("another kind");
            for _ in 0..=LINES {
                tracing::warn!(target: UNLIMITED, "free");
                tracing::debug!("free");
            }
        });
        let count = |text: &str| seen.0.lock().unwrap().iter().filter(|line| line.starts_with(text)).count();
        let lines = LINES as usize;
        assert_eq!(
            [count("a "), count("b "), count("another"), count("free")],
            [lines, lines, 1, 2 * lines + 2]
        );
        let kind = windows().iter().find(|(kind, _)| kind.rule == "1").unwrap().0.clone();
        let window = take_over(&kind, Instant::now() + WINDOW).unwrap();
        assert_eq!((window.left_out, &*window.message), (7, &*format!("a {LINES}")));
        assert!(take_over(&kind, Instant::now() + WINDOW).is_none());
    }
}
