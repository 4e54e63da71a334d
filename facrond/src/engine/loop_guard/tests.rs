use super::*;
use crate::config::rule::{Command, RuleSpec};
use crate::event::Event;
use crate::events::Events;
use std::rc::Rc;
use std::time::SystemTime;

fn job(path: &str) -> Job {
    let spec = RuleSpec {
        path: "/d".into(),
        events: Events::CLOSE_WRITE,
        options: Rc::default(),
        options_text: Vec::new(),
        command: Command::Record,
    };
    let event = Event {
        time: SystemTime::UNIX_EPOCH,
        events: Events::CLOSE_WRITE,
        mask: Events::CLOSE_WRITE.mask(),
        path: path.as_bytes().into(),
        old_path: None,
        pid: 0,
        exe: None,
        uid: None,
        synthetic: false,
        object: None,
    };
    Job::new(RuleId(1), Rc::new(spec), event)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A daemon whose command takes ten milliseconds and writes what `writes` says.
struct Model<'a> {
    guard: LoopGuard,
    now: Instant,
    runs: Vec<(Duration, Job)>,
    start: Instant,
    writes: &'a dyn Fn(&Job) -> Option<String>,
}

impl<'a> Model<'a> {
    fn new(writes: &'a dyn Fn(&Job) -> Option<String>) -> Self {
        let now = Instant::now();
        Self { guard: LoopGuard::new(Privilege::User), now, runs: Vec::new(), start: now, writes }
    }

    fn event(&mut self, path: &str) {
        if let Some(job) = self.guard.on_event(job(path), self.now) {
            self.run(job);
        }
    }

    fn run(&mut self, job: Job) {
        self.guard.on_start(&job);
        let mut next = Some(job);
        while let Some(job) = next.take() {
            self.now += ms(5);
            let echo =
                (self.writes)(&job).and_then(|path| self.guard.on_event(super::tests::job(&path), self.now));
            self.now += ms(5);
            self.guard.on_end(&job, self.now);
            self.runs.push((self.now - self.start, job));
            next = echo.inspect(|job| self.guard.on_start(job));
            assert!(self.runs.len() < 10_000, "spins");
        }
    }

    /// Lets time pass, with what gets due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.guard.next_due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            for job in self.guard.take_due(self.now) {
                self.run(job);
            }
        }
        self.now = self.now.max(end);
    }
}

#[test]
fn a_rule_that_fires_itself_does_so_a_handful_of_times_a_minute_and_is_named() {
    let mut model = Model::new(&|_| Some("/d/f".to_owned()));
    assert_eq!(model.guard.remark(RuleId(1)), None);
    model.event("/d/f");
    model.pass(ms(60_000));
    assert!((4..=8).contains(&model.runs.len()), "{}", model.runs.len());
    let pauses: Vec<_> = model.runs.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].0)).collect();
    assert!(pauses.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2), "{pauses:?}");
    assert!(model.guard.remark(RuleId(1)).unwrap().contains("/d/f"));
}

#[test]
fn what_others_do_meanwhile_runs_at_once_and_stands_for_the_echo() {
    let mut model = Model::new(&|_| Some("/d/f".to_owned()));
    model.event("/d/f");
    for _ in 0..20 {
        model.pass(ms(3000));
        let before = model.runs.len();
        model.event("/d/f");
        assert_eq!(model.runs.len(), before + 1);
    }
    assert!(model.runs.len() <= 21 + 8, "{}", model.runs.len());
    assert!(model.runs.iter().any(|(_, job)| job.merged > 0));
}

#[test]
fn a_command_that_does_not_fire_itself_is_never_delayed() {
    let mut model = Model::new(&|_| None);
    for n in 0..1000 {
        model.event(&format!("/d/{}", n % 7));
        model.pass(WINDOW + ms(1));
    }
    assert_eq!(model.runs.len(), 1000);
    assert_eq!(model.guard.remark(RuleId(1)), None);
}

#[test]
fn an_event_while_the_command_runs_on_its_path_gets_a_run_after_it() {
    let mut guard = LoopGuard::new(Privilege::User);
    let now = Instant::now();
    let first = guard.on_event(job("/d/f"), now).unwrap();
    guard.on_start(&first);
    assert!(guard.on_event(job("/d/f"), now + ms(1)).is_none());
    assert!(guard.on_event(job("/d/f"), now + ms(2)).is_none());
    assert!(guard.on_event(job("/d/g"), now + ms(2)).is_some(), "another path");
    guard.on_end(&first, now + ms(10));
    let due = guard.take_due(now + ms(1) + FIRST_PAUSE);
    assert_eq!(due.iter().map(|job| job.merged).collect::<Vec<_>>(), [1]);
    assert!(guard.take_all(None).is_empty() && guard.next_due().is_none());
}

#[test]
fn a_new_name_each_time_is_slowed_down_too() {
    let mut model =
        Model::new(&|job| Some(format!("/d/{}x", String::from_utf8_lossy(&job.event.path).len())));
    model.event("/d/f");
    model.pass(ms(10_000));
    assert!(model.runs.len() < 150, "{}", model.runs.len());
}

#[test]
fn the_past_of_many_paths_does_not_fill_the_memory() {
    let mut model = Model::new(&|_| None);
    for n in 0..1000 {
        model.event(&format!("/d/{n}"));
        model.pass(WINDOW + ms(1));
    }
    assert!(model.guard.lanes.len() < 5);
}
