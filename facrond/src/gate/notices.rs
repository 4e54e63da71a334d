//! Notices that wait to be sent to the daemon. Their number is bounded: the gate never
//! waits for the daemon, and its memory must not grow by it.
//!
//! Questions go at once. Answers are told of several at a time: who was answered goes
//! on without it, and each packet wakes the daemon, which somebody else may need to be
//! quiet.

use super::message::{Answered, Notice, Question, Totals};
use super::questions::Questions;
use super::rule_index::Match;
use crate::config::permission::Verdict;
use crate::helper::Channel;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Answers that wait to be told of; further ones are only counted.
const ANSWERS: usize = 1024;

/// Answers in one packet.
const TOGETHER: usize = 16;

/// The longest that an answer waits for others.
const GATHERING: Duration = Duration::from_millis(5);

/// What waits to be sent. Questions go before answers.
#[derive(Debug, Default)]
pub struct Notices {
    others: VecDeque<Notice>,
    questions: VecDeque<Question>,
    answers: VecDeque<Answered>,
    /// When the first of the answers is to be told of.
    due: Option<Instant>,
    /// Whether the daemon had no room.
    is_blocked: bool,
}

impl Notices {
    /// Whether it has to wait until the daemon has room.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// How long until something is to be sent.
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        self.due.filter(|_| !self.is_blocked).map(|due| due.saturating_duration_since(now))
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
            self.due.get_or_insert_with(|| Instant::now() + GATHERING);
            self.answers.push_back(answered);
        }
        has_room
    }

    /// Counts an allowance with one that was not told of yet, of the same process for the
    /// same: who opens a file again and again is told of once.
    pub fn merge(&mut self, pid: i32, mask: u64, path: &[u8], matches: &[Match]) -> bool {
        let is_same = |answered: &&mut Answered| {
            let occasion = &answered.occasion;
            let rules = answered.parts.iter().map(|part| part.rule);
            (occasion.pid, occasion.mask) == (pid, mask)
                && answered.verdict == Verdict::Allow
                && occasion.path.as_bytes() == path
                && rules.eq(matches.iter().map(|found| found.rule))
        };
        let same = self.answers.iter_mut().rev().take(TOGETHER).find(is_same);
        same.map(|answered| answered.merged += 1).is_some()
    }

    /// Sends what is due and what there is room for, with the numbers of now.
    ///
    /// # Errors
    /// `EPIPE` when the daemon is gone.
    pub fn flush(&mut self, channel: &Channel, open: &Questions, totals: Totals) -> Result<(), Errno> {
        let sent = self.send_all(channel, open, totals);
        self.is_blocked = sent == Err(Errno::EAGAIN);
        if self.is_blocked { Ok(()) } else { sent }
    }

    fn send_all(&mut self, channel: &Channel, open: &Questions, totals: Totals) -> Result<(), Errno> {
        while let Some(notice) = self.others.front() {
            channel.send(notice, None)?;
            self.others.pop_front();
        }
        while let Some(question) = self.questions.front() {
            if let Some(object) = open.object(question.number) {
                let file = question.has_file.then(|| object.as_fd());
                channel.send(&Notice::Question(question.clone()), file)?;
            }
            self.questions.pop_front();
        }
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        if self.answers.len() >= TOGETHER || is_due {
            self.send_answers(channel, totals)?;
        }
        Ok(())
    }

    fn send_answers(&mut self, channel: &Channel, totals: Totals) -> Result<(), Errno> {
        let mut together = TOGETHER;
        while !self.answers.is_empty() {
            let count = together.min(self.answers.len());
            let first = &self.answers.make_contiguous()[..count];
            match channel.send(&Notice::Answered(first.to_vec(), totals), None) {
                // Long paths: one of them always fits.
                Err(Errno::EMSGSIZE) if count > 1 => together = 1,
                sent => {
                    sent?;
                    self.answers.drain(..count);
                }
            }
        }
        self.due = None;
        Ok(())
    }
}
