//! Until when each rule knows what has happened, across restarts of the daemon.
//!
//! The store has one time, until when everything is known, and for each rule whether this time is
//! its own. At the start, the rules that were watched have something to catch up with since then.
//! A rule that is not through with that keeps the time of the start in the store.
//!
//! Around that time, a file may have been told already. So the store also has the events of the
//! last seconds. A rule is known by its words: rules of files have other numbers after a restart.

use crate::config::rule::RuleSpec;
use crate::config::when;
use crate::event::Event;
use crate::events::Events;
use crate::store::{Change, DirectoriesRow, End, Known, Number, Store, WatermarkRow};
use crate::watch::{Directories, Missed};
use facron_proto::RuleId;
use rustc_hash::FxHashMap;
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often it is written until when everything is known: while there are events, and without.
const BUSY: Duration = Duration::from_millis(25);
const IDLE: Duration = Duration::from_secs(30);

/// How long events are kept: always, and while a rule catches up, which may be interrupted.
const KEPT: Duration = Duration::from_secs(3);
const KEPT_LONG: Duration = Duration::from_secs(3600);

/// The memory for events between two writes. What there is no room for may be told twice.
const ROOM: usize = 1 << 20;

/// So much is written at once.
const ENOUGH: usize = 1 << 16;

/// How late file times may be.
const SLACK: Duration = Duration::from_millis(20);

type Told = FxHashMap<u64, Missed>;

/// Stands for the rule's number in entries about places that are still to be looked at.
const PENDING: u64 = 0;

/// The engine's knowledge of what rules have to catch up with.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// The rules that are watched, or were, by their words.
    rules: FxHashMap<u64, Watched>,
    /// The words of each rule that is watched.
    words: FxHashMap<RuleId, u64>,
    /// What an earlier daemon has told, by rule.
    told: Told,
    /// The directories that were in the trees of rules.
    directories: FxHashMap<u64, Rc<Directories>>,
    /// Rules that catch up, and whether what they find may have run.
    catching_up: FxHashMap<RuleId, bool>,
    is_after_crash: bool,
    /// Of a daemon that ended in order; see [`Missed::pending`].
    pending: Option<Rc<HashSet<Rc<[u8]>>>>,
    /// Events since the last write.
    batch: Vec<u8>,
    last_event: Option<SystemTime>,
    sent: Option<Instant>,
    /// What was written last.
    until: Option<SystemTime>,
}

/// What is known of a rule.
#[derive(Debug)]
struct Watched {
    /// When it was first watched.
    begun: SystemTime,
    /// Since when it has to catch up.
    since: Option<SystemTime>,
    /// Whether it had nothing to catch up with when the earlier daemon ended.
    was_through: bool,
    /// How many rules have these words.
    users: usize,
}

impl Watched {
    fn row(&self, rule: u64) -> Change {
        Change::Watermark(WatermarkRow { rule, begun: nanos(self.begun), since: self.since.map(nanos) })
    }
}

impl CatchUp {
    /// Goes on where an earlier daemon has ended.
    pub(super) fn new(earlier: &Known, store: &Store) -> Self {
        let now = SystemTime::now();
        store.write(Change::Number { name: Number::CleanEnd, value: End::None as u64 });
        if earlier.watermarks.is_empty() {
            // Before the first rule is: there is no rule without a time.
            store.write(Change::Known { until: nanos(now), told: Vec::new(), forget: 0 });
            return Self::default();
        }
        let known = time_of(earlier.until);
        if let Ok(set_back) = known.duration_since(now) {
            tracing::error!(
                "the clock was set back by {set_back:?} at least: what has changed while no daemon ran is not \
                 known, and is not looked for"
            );
        }
        let known = known.min(now);
        let rules = earlier.watermarks.iter().map(|row| {
            let since = Some(row.since.map_or(known, time_of).min(known));
            let was_through = row.since.is_none();
            (row.rule, Watched { begun: time_of(row.begun), since, was_through, users: 0 })
        });
        let rules = rules.collect();
        let is_clean = earlier.end != End::None;
        if !is_clean {
            tracing::warn!(
                since = %crate::wire::timestamp(known),
                "the last daemon did not end in order: what has changed since is looked for and may run twice; \
                 what was deleted or read is known only if systemd has kept the queue"
            );
        }
        store.write(Change::FreezeWatermarks { since: nanos(known) });
        let mut told = read_all(&earlier.told, if is_clean { now } else { known - SLACK });
        let directories = earlier.directories.iter().map(|row| {
            let numbers = numbers_of(&row.numbers);
            (row.rule, Rc::new(Directories { time: time_of(row.time), numbers }))
        });
        let directories = directories.collect();
        let pending = told.remove(&PENDING).unwrap_or_default().told.into_keys().collect();
        let pending = (earlier.end == End::AllTold).then(|| Rc::new(pending));
        Self { rules, told, directories, is_after_crash: !is_clean, pending, ..Self::default() }
    }

    /// What a rule that is now watched is to be told of before.
    pub(super) fn begin(&mut self, id: RuleId, spec: &RuleSpec, store: &Store) -> Option<Missed> {
        let wanted = spec.options.catch_up;
        let words = words_of(spec);
        self.forget_unless(id, Some(words), store);
        self.words.insert(id, words);
        if wanted == when::CatchUp::No {
            return None;
        }
        let is_first = !self.rules.contains_key(&words);
        let rule = self.rules.entry(words).or_insert_with(|| {
            let since = (wanted == when::CatchUp::All).then_some(UNIX_EPOCH);
            Watched { begun: SystemTime::now(), since, was_through: false, users: 0 }
        });
        rule.users += 1;
        if is_first {
            store.write(rule.row(words));
        }
        let since = rule.since?;
        self.catching_up.insert(id, self.is_after_crash && !is_first);
        let told = self.told.get(&words).map(|missed| missed.told.clone()).unwrap_or_default();
        let directories = self.directories.get(&words).cloned();
        let since = Some(since).filter(|since| *since > UNIX_EPOCH);
        let pending = self.pending.clone().filter(|_| rule.was_through);
        Some(Missed { since, begun: Some(rule.begun), told, directories, pending })
    }

    /// A rule has caught up.
    pub(super) fn end(&mut self, id: RuleId, store: &Store) {
        self.catching_up.remove(&id);
        if let Some(words) = self.words.get(&id)
            && let Some(rule) = self.rules.get_mut(words)
        {
            rule.since = None;
            store.write(rule.row(*words));
        }
    }

    /// The directories in the tree of a rule, as far as it has caught up.
    pub(super) fn note_directories(&self, id: RuleId, found: &Directories, store: &Store) {
        if let Some(words) =
            self.words.get(&id).filter(|words| self.rules.get(words).is_some_and(|rule| rule.since.is_none()))
            && !found.numbers.is_empty()
        {
            let numbers = found.numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let time = nanos(found.time);
            store.write(Change::Directories(DirectoriesRow { rule: *words, time, numbers }));
        }
    }

    /// The rules that are watched.
    pub(super) fn rules(&self) -> Vec<RuleId> {
        self.words.keys().copied().collect()
    }

    /// A rule is resumed: nobody wanted to be told of the time before.
    pub(super) fn skip(&mut self, spec: &RuleSpec, store: &Store) {
        let words = words_of(spec);
        if let Some(rule) = self.rules.get_mut(&words) {
            (rule.begun, rule.since) = (SystemTime::now(), None);
            store.write(rule.row(words));
        }
    }

    /// All rules are known that there are. Others of an earlier daemon are gone.
    pub(super) fn forget_others<'s>(&mut self, specs: impl Iterator<Item = &'s RuleSpec>, store: &Store) {
        let known: HashSet<_> = specs.map(words_of).collect();
        for (rule, _) in self.rules.extract_if(|words, _| !known.contains(words)) {
            self.directories.remove(&rule);
            store.write(Change::RemoveWatermark { rule });
        }
    }

    /// A rule is gone. If it comes back, it is a new one.
    pub(super) fn forget(&mut self, id: RuleId, store: &Store) {
        self.forget_unless(id, None, store);
    }

    fn forget_unless(&mut self, id: RuleId, words: Option<u64>, store: &Store) {
        let Some(before) = self.words.remove(&id) else { return };
        self.catching_up.remove(&id);
        let Some(rule) = self.rules.get_mut(&before) else { return };
        rule.users = rule.users.saturating_sub(1);
        if rule.users == 0 && Some(before) != words {
            self.rules.remove(&before);
            self.directories.remove(&before);
            store.write(Change::RemoveWatermark { rule: before });
        }
    }

    /// Whether an event that a look of this rule finds may have run before.
    pub(super) fn may_have_run(&self, id: RuleId) -> bool {
        self.catching_up.get(&id).is_some_and(|may_have_run| *may_have_run)
    }

    /// An event of a rule, whatever becomes of it: its number, time, events and path.
    pub(super) fn note(&mut self, id: RuleId, event: &Event) {
        self.last_event = Some(event.time);
        let Some(words) = self.words.get(&id).copied().filter(|_| self.batch.len() < ROOM) else { return };
        let arrived = if event.events.contains(Events::ARRIVED) { Events::CLOSE_WRITE.mask() } else { 0 };
        self.append(words, event.time, event.events.mask() | arrived, &event.path);
    }

    fn append(&mut self, words: u64, time: SystemTime, events: u64, path: &[u8]) {
        let len = u64::try_from(path.len()).unwrap_or(u64::MAX);
        for number in [words, nanos(time), events, len] {
            self.batch.extend(number.to_le_bytes());
        }
        self.batch.extend(path);
    }

    /// Everything is told that has happened until then.
    pub(super) fn on_drained(&mut self, until: SystemTime, now: Instant, store: &Store) {
        if self.batch.len() >= ENOUGH || self.next_due().is_none_or(|due| due <= now) {
            self.write(until, store);
            self.sent = Some(now);
        }
    }

    fn write(&mut self, until: SystemTime, store: &Store) {
        let kept = if self.catching_up.is_empty() { KEPT } else { KEPT_LONG };
        let forget = nanos(until.checked_sub(kept).unwrap_or(UNIX_EPOCH));
        self.until = Some(until);
        let told = std::mem::take(&mut self.batch);
        store.write(Change::Known { until: nanos(until), told, forget });
    }

    /// When it is to be written again until when everything is known.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let is_sure = self.last_event.is_none_or(|last| self.until.is_some_and(|until| until > last + SLACK));
        let pause = if self.batch.is_empty() && is_sure { IDLE } else { BUSY };
        self.sent.map(|sent| sent + pause)
    }

    /// How long to wait before the end until no file time is in doubt.
    pub(super) fn doubt(&self) -> Duration {
        let past = self.last_event.and_then(|last| last.elapsed().ok());
        past.map_or(Duration::ZERO, |past| (SLACK * 2).saturating_sub(past))
    }

    /// The daemon ends in order. It has told everything but what was still to be looked at at
    /// these places, if that is known.
    pub(super) fn close(&mut self, until: SystemTime, pending: Option<&[Vec<u8>]>, store: &Store) {
        let now = SystemTime::now();
        for path in pending.into_iter().flatten() {
            self.append(PENDING, now, 0, path);
        }
        self.write(until, store);
        let end = if pending.is_some() { End::AllTold } else { End::InOrder };
        store.write(Change::Number { name: Number::CleanEnd, value: end as u64 });
    }
}

/// The events of batches, by rule. The time of one after `sure` counts as somewhat earlier: its
/// file may have changed again before its time did.
fn read_all(batches: &[Vec<u8>], sure: SystemTime) -> Told {
    let mut told = Told::default();
    for batch in batches {
        let mut rest = &**batch;
        while let Some((words, time, events, path)) = read(&mut rest) {
            let time = time_of(time);
            let time = if time > sure { time - SLACK } else { time };
            told.entry(words).or_default().note_told(&Rc::from(path), time, Events::from_mask(events));
        }
    }
    told
}

fn numbers_of(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect()
}

fn read<'b>(rest: &mut &'b [u8]) -> Option<(u64, u64, u64, &'b [u8])> {
    let mut number = || {
        let (first, others) = rest.split_first_chunk::<8>()?;
        *rest = others;
        Some(u64::from_le_bytes(*first))
    };
    let (words, time, events, len) = (number()?, number()?, number()?, number()?);
    let (path, others) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = others;
    Some((words, time, events, path))
}

/// A number for the words of a rule. FNV-1a, so that it is the same in later versions.
fn words_of(spec: &RuleSpec) -> u64 {
    let events = spec.events.to_string();
    let command = spec.command.words();
    let words = [spec.path.as_os_str().as_bytes(), events.as_bytes(), &spec.options_text];
    let words = words.into_iter().chain(command.iter().map(Vec::as_slice));
    let bytes = words.flat_map(|word| word.iter().copied().chain([0]));
    let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.fold(0xcbf2_9ce4_8422_2325, mix)
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn time_of(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Words, parse_words};
    use crate::job::testing::event;

    const RULE: RuleId = RuleId(1);

    fn spec(options: &str) -> RuleSpec {
        let words =
            Words { path: b"/a", events: b"ARRIVED", options: options.as_bytes(), command: vec![b"-"] };
        parse_words(&words).unwrap().0
    }

    fn earlier(until: SystemTime, since: Option<SystemTime>, options: &str) -> Known {
        let watermarks =
            vec![WatermarkRow { rule: words_of(&spec(options)), begun: 0, since: since.map(nanos) }];
        Known { until: nanos(until), watermarks, end: End::InOrder, ..Known::default() }
    }

    fn missed(known: &Known, options: &str) -> Option<Missed> {
        let store = Store::absent();
        CatchUp::new(known, &store).begin(RULE, &spec(options), &store)
    }

    #[test]
    fn a_rule_is_told_of_the_time_since_it_was_watched() {
        let (long_ago, now) = (UNIX_EPOCH + Duration::from_secs(1), SystemTime::now());
        let yesterday = now - Duration::from_secs(86_400);
        let since = |known: &Known, options: &str| missed(known, options).unwrap().since;
        assert_eq!(since(&earlier(yesterday, None, ""), ""), Some(yesterday));
        assert_eq!(since(&earlier(yesterday, Some(long_ago), ""), ""), Some(long_ago));
        assert!(missed(&earlier(yesterday, None, ""), "retry=1").is_none(), "another rule");
        assert_eq!(since(&earlier(yesterday, None, ""), "catch-up=all"), None);
        assert_eq!(since(&earlier(yesterday, None, "catch-up=all"), "catch-up=all"), Some(yesterday));
        assert_eq!(since(&earlier(yesterday, Some(UNIX_EPOCH), "catch-up=all"), "catch-up=all"), None);
        assert!(missed(&earlier(yesterday, None, "catch-up=no"), "catch-up=no").is_none());
    }

    #[test]
    fn a_clock_that_was_set_back_says_nothing() {
        let now = SystemTime::now();
        let found = missed(&earlier(now + Duration::from_secs(3600), None, ""), "").unwrap().since;
        assert!(found.is_some_and(|since| since >= now && since <= SystemTime::now()), "{found:?}");
    }

    #[test]
    fn a_rule_that_comes_back_is_a_new_one() {
        let store = Store::absent();
        let mut catch_up = CatchUp::new(&earlier(SystemTime::now(), None, "catch-up=all"), &store);
        assert!(catch_up.begin(RULE, &spec("catch-up=all"), &store).unwrap().since.is_some());
        assert!(catch_up.begin(RuleId(2), &spec("catch-up=all"), &store).is_some());
        catch_up.forget(RULE, &store);
        catch_up.end(RuleId(2), &store);
        assert!(catch_up.begin(RULE, &spec("catch-up=all"), &store).is_none(), "another has the same words");
        catch_up.forget(RULE, &store);
        catch_up.forget(RuleId(2), &store);
        assert_eq!(catch_up.begin(RULE, &spec("catch-up=all"), &store).unwrap().since, None);
    }

    #[test]
    fn what_was_told_is_read_again() {
        let store = Store::absent();
        let mut catch_up = CatchUp::default();
        catch_up.begin(RULE, &spec(""), &store);
        let told = event("/a/1");
        catch_up.note(RULE, &told);
        catch_up.note(RuleId(2), &event("/b"));
        let batch = std::mem::take(&mut catch_up.batch);
        let mut cut = batch.clone();
        cut.truncate(batch.len() - 1);
        let known =
            |end, until| Known { told: vec![batch.clone(), cut.clone()], end, ..earlier(until, None, "") };
        let times = [(End::InOrder, told.time), (End::None, told.time - SLACK)].map(|(end, time)| {
            let mut catch_up = CatchUp::new(&known(end, told.time), &store);
            let missed = catch_up.begin(RULE, &spec(""), &store).unwrap();
            assert_eq!(missed.told.len(), 1);
            (missed.told[&told.path].0, time, catch_up.may_have_run(RULE))
        });
        assert_eq!(times.map(|(found, expected, _)| found == expected), [true, true], "{times:?}");
        assert_eq!(times.map(|(_, _, repeated)| repeated), [false, true]);
    }
}
