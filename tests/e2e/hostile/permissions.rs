//! Permission rules, and openers who want to be let through.

use crate::harness::{
    ACTOR, Actor, Neighbour, Place, STRANGER, Watchdog, as_stranger, gate_of, give, kill, out, report,
    wait_until,
};
use nix::sys::signal::Signal;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Whether root gets a file open.
fn opens(path: &str) -> bool {
    File::open(path).is_ok()
}

/// What a stranger reads, by a script that finds the directory to play in in `$1`.
fn stranger_reads(place: &Place, script: &str) -> String {
    out(&as_stranger("sh").args(["-c", script, "sh", &place.play("")]).output().unwrap())
}

/// The same with mounts of his own.
fn stranger_mounts(place: &Place, script: &str) -> String {
    let mut unshare = as_stranger("unshare");
    out(&unshare.args(["-Urm", "sh", "-c", script, "sh", &place.play("")]).output().unwrap())
}

/// A command that lets nobody open what has "evil" in it. It reads what it was given, or
/// else goes by the name.
fn scanner(place: &Place, first: &str) -> String {
    let path = place.path("scan");
    let text = format!(
        "#!/bin/sh\n{first}\nfile=/dev/stdin\n[ -n \"$FACRON_FD\" ] || file=$1\n! grep -q evil \"$file\"\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

/// Files that say what they are.
fn write(place: &Place, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = place.play(name);
        fs::create_dir_all(path.rsplit_once('/').unwrap().0).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// A file that is opened under the name of another one: the command reads the file itself.
#[test]
fn a_mount_of_the_opener_does_not_deceive_a_command() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    write(&place, &[("in/clean", "clean"), ("in/evil", "evil")]);
    let scan = scanner(&place, "");
    place.conf(&format!("{} OPEN_PERM [recursive cache=1m name=scan] {scan} $$\n", place.play("in")));
    let _daemon = place.start();
    for _ in 0..3 {
        let mount = "mount --bind \"$1/in/evil\" \"$1/in/clean\" && cat \"$1/in/clean\"";
        assert_eq!(stranger_mounts(&place, mount), "");
        let mount = "mount --bind \"$1/in/clean\" \"$1/in/evil\" && cat \"$1/in/evil\"";
        assert_eq!(stranger_mounts(&place, mount), "clean");
        assert_eq!(stranger_reads(&place, "cat \"$1/in/evil\""), "");
        assert!(!opens(&place.play("in/evil")) && opens(&place.play("in/clean")));
    }
    let records = place.tail_of("scan");
    for record in &records[..2] {
        let told = record["outcome"]["error"].as_str().unwrap_or_default();
        assert!(told.contains("leads to another file"), "{record}");
    }
}

/// A file whose name leads to another one while the command runs.
#[test]
fn an_exchange_of_directories_does_not_deceive_a_command() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let dir = place.mkdir_for_all("in");
    write(&place, &[("in/a/file", "evil"), ("in/b/file", "clean")]);
    let (begun, go) = (place.path("begun"), place.path("go"));
    let scan = scanner(&place, &format!(": > {begun}; while ! [ -e {go} ]; do sleep 0.01; done"));
    place.conf(&format!("{dir} OPEN_PERM [recursive cache=1m name=scan] {scan} $$\n"));
    let _daemon = place.start();
    let mut cat = as_stranger("cat");
    let cat = cat.arg(format!("{dir}/a/file")).stdout(Stdio::piped()).spawn().unwrap();
    wait_until("the command to run", || fs::exists(&begun).unwrap());
    stranger_reads(&place, "cd \"$1/in\" && mv a c && mv b a");
    fs::write(&go, "").unwrap();
    assert_eq!(out(&cat.wait_with_output().unwrap()), "");
    assert!(!opens(&format!("{dir}/c/file")) && opens(&format!("{dir}/a/file")));
}

/// A name that the rule leaves out, or that nobody knows here, is no way around.
#[test]
fn a_mount_of_the_opener_is_no_way_around_a_filter() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let files = ["in/secret/file", "in/pub/file", "in/file", "in/x.pub"];
    write(&place, &files.map(|file| (file, "read")));
    let rule = "OPEN_PERM [recursive verdict=deny exclude=pub exclude=*.pub]";
    place.conf(&format!("{} {rule} -\n", place.play("in")));
    let _daemon = place.start();
    for (script, read) in [
        ("cat \"$1/in/pub/file\" \"$1/in/x.pub\"", "readread"),
        ("cat \"$1/in/secret/file\"", ""),
        ("mount --bind \"$1/in/secret\" \"$1/in/pub\" && cat \"$1/in/pub/file\"", ""),
        ("mount --bind \"$1/in/file\" \"$1/in/x.pub\" && cat \"$1/in/x.pub\"", ""),
        ("mount --bind \"$1/in/file\" \"$1/in/pub/file\" && cat \"$1/in/pub/file\"", ""),
        // Names that are only in his mounts are fine.
        ("mount --bind \"$1/in\" /mnt && cat /mnt/pub/file /mnt/secret/file", "read"),
    ] {
        assert_eq!(stranger_mounts(&place, script), read, "{script}");
    }
}

/// `exe=`: a program counts as what it is here, and no name makes it another one.
#[test]
fn a_mount_of_the_opener_is_no_other_program() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let (one, other) = (place.write("one"), place.write("other"));
    place.conf(&format!(
        "{one} OPEN_PERM [verdict=deny exe=!/usr/bin/wc] -\n{other} OPEN_PERM [verdict=deny exe=/usr/bin/cat] -\n"
    ));
    let _daemon = place.start();
    for (script, read) in [
        ("wc -c \"$1/one\"", true),
        ("cat \"$1/one\"", false),
        ("mount --bind /usr/bin/cat /usr/bin/wc && /usr/bin/wc \"$1/one\"", false),
        ("cat \"$1/other\"", false),
        ("mount --bind /usr/bin/cat /usr/bin/wc && /usr/bin/wc \"$1/other\"", false),
        ("head \"$1/other\"", true),
    ] {
        let told = stranger_mounts(&place, script);
        assert_eq!(!told.is_empty(), read, "{script}: {told}");
    }
}

/// A process whose main thread has ended: which program it runs cannot be known.
#[test]
fn an_unknown_program_is_not_let_through() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let actor = place.for_all(ACTOR);
    let (one, other) = (place.write("one"), place.write("other"));
    place.conf(&format!(
        "{one} OPEN_PERM [verdict=deny exe={actor}] -\n{other} OPEN_PERM [verdict=deny exe=!{actor}] -\n"
    ));
    let _daemon = place.start();
    for file in [one, other] {
        let output = as_stranger(&actor).args(["orphan", &file]).output().unwrap();
        assert_eq!(out(&output), "denied\n", "{file}");
    }
}

/// Processes that wait for one rule's commands take nothing that another rule's need.
#[test]
fn many_who_wait_hold_up_nobody_else() {
    const OPENERS: usize = 200;
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let (slow, quick) = (place.write("slow"), place.write("quick"));
    place.conf(&format!(
        "{slow} OPEN_PERM [deadline=1m on-failure=deny name=slow] /bin/sleep 100\n\
         {quick} OPEN_PERM [deadline=2s on-failure=deny name=quick] /bin/true\n{}",
        Neighbour::line(&place)
    ));
    let daemon = place.start();
    let neighbour = Neighbour::start(&place);
    let script = format!("i=0; while [ $i -lt {OPENERS} ]; do cat \"$1/slow\" & i=$((i+1)); done; wait");
    let mut openers = as_stranger("sh");
    let mut openers = openers.args(["-c", &script, "sh", &place.play("")]).process_group(0).spawn().unwrap();
    wait_until("all to wait", || place.status()["gate"]["open"] == OPENERS);
    let attacked = Instant::now();
    while attacked.elapsed() < Duration::from_secs(4) {
        let start = Instant::now();
        assert!(opens(&quick));
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        sleep(Duration::from_millis(50));
    }
    assert_eq!(place.status()["gate"]["failures"], 0);
    report(&neighbour.finish(&daemon));
    kill(-openers.id().cast_signed(), Signal::SIGKILL);
    openers.wait().unwrap();
    assert!(daemon.stop().success());
}

/// What a user's commands do and leave behind is asked about like anybody.
#[test]
fn a_command_of_a_user_is_not_let_through() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let (secret, dir) = (place.write("secret"), place.mkdir_for_all("dir"));
    let script =
        format!("cat {secret} > {dir}/now; (setsid sh -c 'cat {secret}; echo over' > {dir}/later 2>&1 &)");
    place.conf(&format!(
        "{secret} OPEN_PERM [verdict=deny name=secret] -\n\
         {dir} CLOSE_WRITE [user={STRANGER} include=go shell] {script}\n"
    ));
    let daemon = place.start();
    fs::write(format!("{dir}/go"), "").unwrap();
    let later = || fs::read_to_string(format!("{dir}/later")).unwrap_or_default();
    wait_until("what it left to be over", || later().ends_with("over\n"));
    assert!(later().contains("not permitted"), "{}", later());
    assert_eq!(fs::read_to_string(format!("{dir}/now")).unwrap(), "");
    wait_until("both to be told", || place.fired("secret") == 2);
    assert!(daemon.stop().success());
}

/// To open a FIFO waits for its other end, and to open a leased file for its owner. The gate
/// opens whatever it is asked about.
#[test]
fn what_waits_to_be_opened_does_not_hold_up_the_gate() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let dir = place.mkdir_for_all("in");
    let (file, leased, fifo) = (place.write("in/file"), place.write("in/leased"), format!("{dir}/fifo"));
    give(&leased);
    assert!(as_stranger("mkfifo").arg(&fifo).status().unwrap().success());
    let mut owner = Actor::start_as_user(&place, STRANGER, &["lease", &leased]);
    assert_eq!(owner.hear(), "leased");
    place.conf(&format!("{dir} OPEN_PERM [verdict=deny] -\n"));
    let daemon = place.start();
    let gate = gate_of(daemon.pid());
    let openers = [&fifo, &leased].map(|path| as_stranger("cat").arg(path).spawn().unwrap());
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        let asked = Instant::now();
        assert!(!opens(&file));
        assert!(asked.elapsed() < Duration::from_millis(250), "held for {:?}", asked.elapsed());
    }
    assert_eq!(gate_of(daemon.pid()), gate);
    drop(owner);
    for mut opener in openers {
        opener.kill().unwrap();
        opener.wait().unwrap();
    }
}
