//! What the gate has to say and the daemon has no room for yet. Bounded: the gate
//! never waits for the daemon, and its memory must not grow by it.

use super::message::{Answered, Line, Notice, Question};
use super::questions::Questions;
use nix::errno::Errno;
use std::collections::VecDeque;

/// Answers that wait to be told of; further ones are only counted.
const ANSWERS: usize = 1024;

/// What waits to be sent. Questions go first.
#[derive(Debug, Default)]
pub struct Outbox {
    others: VecDeque<Notice>,
    questions: VecDeque<Question>,
    answers: VecDeque<Answered>,
}

impl Outbox {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.others.is_empty() && self.questions.is_empty() && self.answers.is_empty()
    }

    /// Takes in what is neither of the other two; there is one for each order at most.
    pub fn push(&mut self, notice: Notice) {
        self.others.push_back(notice);
    }

    /// Takes a question in; no more of them are kept than are `open`.
    pub fn ask(&mut self, question: Question, open: &Questions) {
        if self.questions.len() > 2 * open.holds() + 16 {
            self.questions.retain(|question| open.is_open(question.number));
        }
        self.questions.push_back(question);
    }

    /// Takes in that somebody was answered, or says that there is no room for it.
    #[must_use]
    pub fn tell(&mut self, answered: Answered) -> bool {
        let has_room = self.answers.len() < ANSWERS;
        if has_room {
            self.answers.push_back(answered);
        }
        has_room
    }

    /// Sends what there is room for.
    ///
    /// # Errors
    /// `EPIPE` when the daemon is gone.
    pub fn flush(&mut self, line: &Line, open: &Questions) -> Result<(), Errno> {
        let sent = self.send_all(line, open);
        if sent == Err(Errno::EAGAIN) { Ok(()) } else { sent }
    }

    fn send_all(&mut self, line: &Line, open: &Questions) -> Result<(), Errno> {
        while let Some(notice) = self.others.front() {
            line.send(notice, None)?;
            self.others.pop_front();
        }
        while let Some(question) = self.questions.front() {
            if open.is_open(question.number) {
                line.send(&Notice::Question(question.clone()), None)?;
            }
            self.questions.pop_front();
        }
        while let Some(answered) = self.answers.front() {
            line.send(&Notice::Answered(answered.clone()), None)?;
            self.answers.pop_front();
        }
        Ok(())
    }
}
