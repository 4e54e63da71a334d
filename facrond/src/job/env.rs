//! The environment of commands: clean, the same however the daemon was started.

use super::Job;
use super::argv::{directory, name};
use crate::config::account::Login;
use crate::config::rule::SEARCH_PATH;
use crate::wire::{EventForm, timestamp};
use facron_proto::Text;
use nix::unistd::{Uid, geteuid};
use std::borrow::Cow;
use std::ffi::{CStr, CString, NulError, OsStr, OsString};
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

/// An environment, each variable as `NAME=value`.
pub type Variables<'a> = Vec<Cow<'a, CStr>>;

/// What commands have in their environment whatever the event; found out once.
#[derive(Debug)]
pub struct Base {
    lang: OsString,
    /// For commands of the daemon's own user.
    own: Vec<CString>,
}

impl Base {
    /// With the daemon's user. Of the daemon's own environment only `LANG` counts.
    pub fn of_this_user() -> Self {
        let lang = std::env::var_os("LANG").filter(|lang| !lang.is_empty());
        Self::new(geteuid(), lang.as_deref().unwrap_or(OsStr::new("C.UTF-8")))
    }

    fn new(uid: Uid, lang: &OsStr) -> Self {
        Self { lang: lang.to_owned(), own: login_variables(&Login::of(uid.as_raw()), lang) }
    }

    /// The environment of a job: this, changed by the rule's `env=`, and the event.
    ///
    /// `env=` cannot change the variables that tell of the event.
    pub fn of<'a>(&'a self, job: &Job) -> Result<Variables<'a>, NulError> {
        let rule_env = &job.spec.options.env;
        let mut variables = Vec::with_capacity(self.own.len() + rule_env.len() + EVENT_VARIABLES);
        if let Some(account) = &job.spec.options.account {
            variables.extend(login_variables(&account.user, &self.lang).into_iter().map(Cow::Owned));
        } else {
            variables.extend(self.own.iter().map(|variable| Cow::Borrowed(variable.as_c_str())));
        }
        for (name, value) in rule_env {
            variables.retain(|variable| !is_named(variable, name.as_bytes()));
            variables.push(Cow::Owned(variable(name, value.as_bytes())?));
        }
        let event = event_variables(job)?;
        if rule_env.iter().any(|(name, _)| name.as_bytes().starts_with(b"FACRON_")) {
            variables.retain(|variable| !event.iter().any(|ours| is_same(variable, ours)));
        }
        variables.extend(event.into_iter().map(Cow::Owned));
        Ok(variables)
    }
}

/// Adds `FACRON_DEADLINE`: the time by which the answer of a command counts.
pub fn set_deadline(variables: &mut Variables<'_>, deadline: SystemTime) -> Result<(), NulError> {
    let deadline = shown("FACRON_DEADLINE", timestamp(deadline))?;
    set(variables, deadline);
    Ok(())
}

/// Adds `FACRON_FD`: standard input is the file that the event is about.
pub fn set_file(variables: &mut Variables<'_>) {
    set(variables, c"FACRON_FD=0".to_owned());
}

/// Adds `FACRON_REPEATED`: an earlier daemon may have run it already.
pub fn set_repeated(variables: &mut Variables<'_>) {
    set(variables, c"FACRON_REPEATED=1".to_owned());
}

fn set(variables: &mut Variables<'_>, variable: CString) {
    variables.retain(|other| !is_same(other, &variable));
    variables.push(Cow::Owned(variable));
}

fn login_variables(login: &Login, lang: &OsStr) -> Vec<CString> {
    let Login { name, home, shell } = login;
    let variables = [
        ("PATH", SEARCH_PATH.as_bytes()),
        ("HOME", home.as_os_str().as_bytes()),
        ("USER", name.as_bytes()),
        ("LOGNAME", name.as_bytes()),
        ("SHELL", shell.as_os_str().as_bytes()),
        ("LANG", lang.as_bytes()),
    ];
    variables.into_iter().filter_map(|(name, value)| variable(name, value).ok()).collect()
}

const EVENT_VARIABLES: usize = 11;

fn event_variables(job: &Job) -> Result<[CString; EVENT_VARIABLES], NulError> {
    let event = EventForm::from(&job.event);
    let path = event.path.as_bytes();
    Ok([
        variable("FACRON_PATH", path)?,
        variable("FACRON_DIR", directory(path))?,
        variable("FACRON_NAME", name(path))?,
        variable("FACRON_OLD_PATH", event.old_path.as_ref().map_or(b"", Text::as_bytes))?,
        shown("FACRON_EVENTS", event.events)?,
        shown("FACRON_MASK", event.mask)?,
        shown("FACRON_PID", event.pid)?,
        shown("FACRON_RULE", job.rule)?,
        variable("FACRON_RULE_NAME", job.spec.options.name.as_deref().unwrap_or_default().as_bytes())?,
        shown("FACRON_SEQ", job.seq)?,
        shown("FACRON_TIME", event.time)?,
    ])
}

fn variable(name: impl AsRef<OsStr>, value: &[u8]) -> Result<CString, NulError> {
    let name = name.as_ref().as_bytes();
    let mut bytes = Vec::with_capacity(name.len() + value.len() + 2);
    bytes.extend_from_slice(name);
    bytes.push(b'=');
    bytes.extend_from_slice(value);
    CString::new(bytes)
}

fn shown(name: &str, value: impl Display) -> Result<CString, NulError> {
    CString::new(format!("{name}={value}"))
}

fn is_named(variable: &CStr, name: &[u8]) -> bool {
    variable.to_bytes().strip_prefix(name).is_some_and(|rest| rest.starts_with(b"="))
}

fn is_same(variable: &CStr, other: &CStr) -> bool {
    other.to_bytes().split(|byte| *byte == b'=').next().is_some_and(|name| is_named(variable, name))
}

/// The files that a program's name may mean, in the order in which to try them:
/// itself if it is a path, else one in each directory of the environment's `PATH`.
pub fn candidates(program: &CStr, env: &[Cow<'_, CStr>]) -> Vec<CString> {
    if program.to_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    let path = env.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
    let directories = path.unwrap_or_default().split(|byte| *byte == b':');
    directories
        // An empty one would mean the working directory: nothing to look for programs in.
        .filter(|directory| directory.starts_with(b"/"))
        .filter_map(|directory| CString::new([directory, b"/", program.to_bytes()].concat()).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rule::RuleSpec;
    use crate::job::testing::job;
    use std::rc::Rc;
    use std::time::{Duration, UNIX_EPOCH};

    fn with_env(pairs: &[(&str, &str)]) -> Job {
        let mut job = job(1, 7, "/srv/a\nb");
        let spec: &mut RuleSpec = Rc::get_mut(&mut job.spec).unwrap();
        Rc::make_mut(&mut spec.options).env =
            pairs.iter().map(|(name, value)| (name.into(), value.into())).collect();
        job
    }

    fn text(job: &Job) -> Vec<String> {
        let base = Base::new(Uid::from_raw(0), OsStr::new("C"));
        base.of(job).unwrap().iter().map(|variable| variable.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn base_and_event_and_nothing_else() {
        let root = nix::unistd::User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
        let home = format!("HOME={}", root.dir.display());
        let shell = format!("SHELL={}", root.shell.display());
        let mut job = with_env(&[]);
        job.event.time = UNIX_EPOCH + Duration::from_nanos(1);
        let expected = [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            &home,
            "USER=root",
            "LOGNAME=root",
            &shell,
            "LANG=C",
            "FACRON_PATH=/srv/a\nb",
            "FACRON_DIR=/srv",
            "FACRON_NAME=a\nb",
            "FACRON_OLD_PATH=",
            "FACRON_EVENTS=FAN_CLOSE_WRITE",
            "FACRON_MASK=8",
            "FACRON_PID=4242",
            "FACRON_RULE=7",
            "FACRON_RULE_NAME=",
            "FACRON_SEQ=1",
            "FACRON_TIME=1970-01-01T00:00:00.000000001Z",
        ];
        assert_eq!(text(&job), expected);
    }

    #[test]
    fn the_manual_and_the_readme_have_each_variable() {
        let (manual, readme) = (crate::config::manual::facron_conf(), include_str!("../../../README.md"));
        for variable in text(&with_env(&[])) {
            let name = variable.split('=').next().unwrap();
            assert!(manual.contains(name) && readme.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn a_rule_overrides_the_base_but_not_the_event() {
        let job =
            with_env(&[("HOME", "/a"), ("HOME", "/b"), ("FACRON_PATH", "/no"), ("FACRON_SOCKET", "/s")]);
        let env = text(&job);
        let values = |name: &str| env.iter().filter(|v| v.starts_with(name)).cloned().collect::<Vec<_>>();
        assert_eq!(values("HOME="), ["HOME=/b"]);
        assert_eq!(values("FACRON_PATH="), ["FACRON_PATH=/srv/a\nb"]);
        assert_eq!(values("FACRON_SOCKET="), ["FACRON_SOCKET=/s"]);
    }

    #[test]
    fn a_clock_before_1970_is_no_disaster() {
        let mut job = with_env(&[]);
        job.event.time = UNIX_EPOCH - Duration::from_secs(9);
        assert!(text(&job).contains(&"FACRON_TIME=1970-01-01T00:00:00.000000000Z".to_owned()));
    }

    #[test]
    fn names_are_looked_up_in_the_absolute_directories_of_path() {
        let env = [Cow::Borrowed(c"PATH=/a::b:/c")];
        assert_eq!(candidates(c"x", &env), [CString::from(c"/a/x"), CString::from(c"/c/x")]);
        assert_eq!(candidates(c"/bin/x", &env), [CString::from(c"/bin/x")]);
        assert!(candidates(c"x", &[]).is_empty());
    }
}
