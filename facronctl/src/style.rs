//! Colours, for terminals that show them.

use clap::ValueEnum;
use facron_proto::State;
use tabled::settings::Color;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    Always,
    Never,
}

/// The meaning of a text, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Unsettled,
    Faint,
}

impl Tone {
    /// The parameters of SGR in ECMA-48.
    fn sgr(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Bad => "31",
            Self::Unsettled => "33",
            Self::Faint => "2",
        }
    }

    pub(crate) fn of_state(state: State) -> Self {
        match state {
            State::Active => Self::Good,
            State::Failed => Self::Bad,
            State::Waiting => Self::Unsettled,
            State::Paused | State::Done => Self::Faint,
        }
    }
}

/// Colours text, or leaves it unchanged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colored: bool,
}

impl Style {
    pub(crate) fn new(when: When, is_terminal: bool) -> Self {
        let unwanted = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colored = match when {
            When::Always => true,
            When::Never => false,
            When::Auto => is_terminal && !unwanted(),
        };
        Self { colored }
    }

    pub(crate) fn is_colored(self) -> bool {
        self.colored
    }

    /// The colour of a cell in a table.
    pub(crate) fn color(self, tone: Tone) -> Color {
        if self.colored { Color::new(format!("\x1b[{}m", tone.sgr()), "\x1b[0m") } else { Color::empty() }
    }

    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        if self.colored { format!("\x1b[{}m{text}\x1b[0m", tone.sgr()) } else { text.to_owned() }
    }
}
