//! Files of the daemon's own, and files that it trusts, in directories of others.

use crate::harness::{
    Actor, FACROND, Neighbour, Place, STRANGER, as_stranger, code, err, give, out, report, wait_until,
};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// A file of root that nobody may change, by whatever link.
fn precious(place: &Place) -> String {
    let path = place.path("precious");
    fs::write(&path, "precious").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    path
}

#[track_caller]
fn is_untouched(precious: &str) {
    let metadata = fs::metadata(precious).unwrap();
    assert_eq!(fs::read(precious).unwrap(), b"precious");
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o644, 0));
}

/// A directory of the stranger, in which each of these names is a link to a file.
fn trap(place: &Place, dir: &str, names: &[&str], target: &str) -> String {
    let dir = place.mkdir(dir);
    give(&dir);
    for name in names {
        let link = as_stranger("ln").args(["-s", target, &format!("{dir}/{name}")]).status();
        assert!(link.unwrap().success());
    }
    dir
}

/// A daemon with another value of one option.
fn facrond_with(place: &Place, option: &str, value: &str) -> Command {
    let mut options = place.options();
    let at = options.iter().position(|word| word == option).unwrap();
    value.clone_into(&mut options[at + 1]);
    let mut command = Command::new(FACROND);
    command.args(options).stdin(Stdio::null());
    command
}

#[track_caller]
fn is_refused(output: &Output, because: &str) {
    assert_eq!((code(output), err(output).contains(because)), (78, true), "{because}: {output:?}");
}

/// The names that a daemon writes, in directories of its own choice, are links to a file of
/// root: the daemon follows none of them, and says whose the directory is.
#[test]
fn directories_of_others_are_refused() {
    let place = Place::new();
    let precious = precious(&place);
    let names =
        ["s", "s.lock", "facron.db", "facron.db-wal", "facron.db.lock", "rules.json", "boot", "boot.new"];
    let dir = trap(&place, "theirs", &names, &precious);
    for (option, value) in [
        ("--socket", format!("{dir}/s")),
        ("--socket", format!("{dir}/new/s")),
        ("--state-dir", dir.clone()),
        ("--runtime-dir", dir.clone()),
    ] {
        let output = facrond_with(&place, option, &value).output().unwrap();
        is_refused(&output, &format!("others could change it: `{dir}` belongs to nobody (mode 0755)"));
        is_untouched(&precious);
    }
    fs::set_permissions(place.play(""), Permissions::from_mode(0o777)).unwrap();
    let below = place.play("state");
    let output = facrond_with(&place, "--state-dir", &below).output().unwrap();
    is_refused(&output, &format!("everybody can write `{}` (owner root, mode 0777)", place.play("")));
}

/// A directory like /tmp is good enough for names that nobody else has.
#[test]
fn in_a_directory_for_all_only_own_files_count() {
    let place = Place::new();
    let precious = precious(&place);
    let dir = place.mkdir_for_all("all");
    fs::set_permissions(&dir, Permissions::from_mode(0o1777)).unwrap();
    let stranger = |script: &str| {
        let done = as_stranger("sh").args(["-ec", script, "sh", &dir, &precious]).status();
        assert!(done.unwrap().success());
    };
    let evil = r#"{"version":1,"rules":[{"id":7,"path":"/","events":"CREATE","command":["-"]}]}"#;
    stranger("ln -s \"$2\" \"$1/rules.json.new\"; ln -s \"$2\" \"$1/jobs.json\"");
    stranger(&format!("echo '{evil}' > \"$1/rules.json\""));
    let daemon = place.start_as(facrond_with(&place, "--state-dir", &dir));
    daemon.wait_for_log(&format!("`{dir}/rules.json` belongs to nobody"));
    place.ctl_ok(&["add", "--persist", "-o", "name=own", &place.play(""), "CREATE", "-"]);
    assert_eq!(place.call("list", &serde_json::json!({})).as_array().unwrap().len(), 1);
    assert!(daemon.stop().success());
    is_untouched(&precious);
    assert_eq!(fs::symlink_metadata(format!("{dir}/facron.db")).unwrap().uid(), 0);

    let refuses_lock = || {
        let output = facrond_with(&place, "--socket", &format!("{dir}/s")).output().unwrap();
        assert!(code(&output) != 0 && err(&output).contains("s.lock"), "{output:?}");
    };
    stranger("> \"$1/s.lock\"");
    refuses_lock();
    stranger("rm \"$1/s.lock\"; ln -s \"$2\" \"$1/s.lock\"");
    refuses_lock();
    stranger("rm \"$1/s.lock\"");
    // As the stranger could, where fs.protected_hardlinks is off.
    fs::hard_link(&precious, format!("{dir}/s.lock")).unwrap();
    refuses_lock();
    is_untouched(&precious);
    fs::remove_file(format!("{dir}/s.lock")).unwrap();
    let mut daemon = facrond_with(&place, "--socket", &format!("{dir}/s")).spawn().unwrap();
    wait_until("the socket", || fs::metadata(format!("{dir}/s")).is_ok());
    assert_eq!(fs::metadata(format!("{dir}/s")).unwrap().mode() & 0o777, 0o660);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

/// What a user can write, he must not be able to make rules of.
#[test]
fn a_configuration_that_others_can_write_is_not_read() {
    let place = Place::new();
    let theirs = place.mkdir("theirs");
    let rule = |name: &str| format!("{} CREATE [name={name}] touch {}\n", place.play(""), place.path(name));
    fs::write(format!("{theirs}/included"), rule("included")).unwrap();
    fs::write(place.path("conf.d/10-own.conf"), rule("own")).unwrap();
    fs::write(place.path("conf.d/20-theirs.conf"), rule("theirs")).unwrap();
    give(&theirs);
    give(&place.path("conf.d/20-theirs.conf"));
    place.conf(&format!("{}@include {theirs}/included\n", rule("main")));

    let check = place.facrond_check();
    let file = place.path("conf.d/20-theirs.conf");
    assert_eq!(code(&check), 1);
    for text in [
        format!("`{file}` belongs to nobody (mode 0644)"),
        format!("`{theirs}` belongs to nobody (mode 0755)"),
        format!("{}:2:10", place.path("facron.conf")),
        format!("help: `chown root {theirs}`"),
    ] {
        assert!(out(&check).contains(&text), "{text}: {}", out(&check));
    }

    let daemon = place.start();
    daemon.wait_for_log(&format!("`{file}` belongs to nobody"));
    let names = || {
        let rules = place.call("list", &serde_json::json!({}));
        rules.as_array().unwrap().iter().map(|rule| rule["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["main", "own"]);
    fs::write(place.path("conf.d/10-own.conf"), rule("other")).unwrap();
    assert_eq!(code(&place.ctl(&["reload"])), 1);
    assert_eq!(names(), ["main", "own"], "a reload with errors changes nothing");
    fs::remove_file(file).unwrap();
    place.conf(&rule("main"));
    place.ctl_ok(&["reload"]);
    assert_eq!(names(), ["main", "other"]);
}

#[test]
fn programs_and_directories_that_others_can_change_are_warned_of() {
    let place = Place::new();
    let theirs = place.mkdir("theirs");
    fs::copy("/bin/true", format!("{theirs}/tool")).unwrap();
    give(&theirs);
    place.conf(&format!(
        "{0} CREATE [cwd={theirs}] {theirs}/tool\n{0} CREATE [user=nobody cwd={theirs}] {theirs}/tool\n",
        place.play("")
    ));
    let check = place.facrond_check();
    let told = format!("`{theirs}` belongs to nobody (mode 0755)");
    assert_eq!((code(&check), out(&check).matches(&told).count()), (0, 2), "{}", out(&check));
    let _daemon = place.start();
    let added = place.ctl(&["add", &place.play(""), "DELETE", &format!("{theirs}/tool")]);
    assert!(err(&added).contains(&told), "{added:?}");
}

/// A user chooses what is at the path of an `output=`, in a directory of his own: a rule of
/// root writes to no file that is not what it seems, and a rule of the user only to his files.
#[test]
fn output_goes_to_no_file_of_the_choice_of_others() {
    let place = Place::new();
    let precious = precious(&place);
    let dir = trap(&place, "theirs", &["link"], &precious);
    let script = "ln -s .. \"$1/up\"; mkfifo \"$1/fifo\"";
    assert!(as_stranger("sh").args(["-ec", script, "sh", &dir]).status().unwrap().success());
    // As the user could, where fs.protected_hardlinks is off.
    fs::hard_link(&precious, format!("{dir}/hard")).unwrap();
    let _reader = fs::File::options().read(true).write(true).open(format!("{dir}/fifo")).unwrap();

    let refused = [
        ("link", format!("{dir}/link"), "links are not followed"),
        ("up", format!("{dir}/up/file"), "links are not followed"),
        ("hard", format!("{dir}/hard"), "a further name"),
        ("fifo", format!("{dir}/fifo"), "not a regular file"),
    ];
    let foreign = ("foreign", place.path("foreign"), "the user of the command may not write there");
    let events = place.mkdir("events");
    let line = |name: &str, options: &str, output: &str| {
        format!("{events} FAN_CLOSE_WRITE [name={name} include={name} output={output} {options}] echo text\n")
    };
    let mut conf =
        line("root", "", &format!("{dir}/root")) + &line("user", "user=nobody", &format!("{dir}/user"));
    for (name, output, _) in &refused {
        conf += &(line(name, "", output) + &line(&format!("user-{name}"), "user=nobody", output));
    }
    conf += &line(foreign.0, "user=nobody", &foreign.1);
    place.conf(&conf);
    let _daemon = place.start();
    let error_of = |name: &str| {
        place.write(&format!("events/{name}"));
        place.settle();
        place.tail_of(name)[0]["outcome"]["error"].as_str().map(str::to_owned)
    };
    for (name, uid) in [("root", 0), ("user", STRANGER)] {
        assert_eq!((error_of(name), error_of(name)), (None, None), "{name}");
        let (path, metadata) = (format!("{dir}/{name}"), fs::metadata(format!("{dir}/{name}")).unwrap());
        assert_eq!(fs::read_to_string(path).unwrap(), "text\ntext\n");
        assert_eq!((metadata.uid(), metadata.mode() & 0o777), (uid, 0o640));
    }
    for (name, _, why) in &refused {
        let error = error_of(name);
        assert!(error.as_ref().is_some_and(|error| error.contains(why)), "{name}: {error:?}");
        assert!(error_of(&format!("user-{name}")).is_some(), "user-{name}");
        is_untouched(&precious);
    }
    assert!(error_of(foreign.0).is_some_and(|error| error.contains(foreign.2)));
}

/// Whoever opens a file waits up to 45 seconds for the end of a lease on it, unless he refuses to.
#[test]
fn a_lease_on_an_output_fails_its_own_rules_at_once() {
    const FILES: usize = 80;
    let place = Place::new();
    let (dir, file) = (place.mkdir("drop"), place.path("leased"));
    fs::write(&file, "").unwrap();
    give(&file);
    let line = |name: &str, user: &str| {
        format!("{dir} FAN_CLOSE_WRITE [name={name} {user} output={file}] echo text\n")
    };
    place.conf(&(line("root", "") + &line("user", "user=nobody") + &Neighbour::line(&place)));
    let daemon = place.start();
    let neighbour = Neighbour::start(&place);
    let mut attacker = Actor::start_as_user(&place, STRANGER, &["lease", &file]);
    assert_eq!(attacker.hear(), "leased");
    for number in 0..FILES {
        place.write(&format!("drop/{number}"));
        sleep(Duration::from_millis(50));
    }
    let errors_of = |rule: &str| -> Vec<String> {
        let records = place.tail_of(rule).into_iter();
        records.filter_map(|record| record["outcome"]["error"].as_str().map(str::to_owned)).collect()
    };
    for rule in ["root", "user"] {
        wait_until("the commands to fail", || errors_of(rule).len() == FILES);
        let leased = errors_of(rule).iter().filter(|why| why.ends_with("somebody has a lease on it")).count();
        // On a busy machine one or the other does not even get so far within its second.
        assert!(leased > FILES / 2, "{rule}: {:?}", errors_of(rule));
    }
    report(&neighbour.finish(&daemon));
}
