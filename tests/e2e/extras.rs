//! Rules that ask who did it, and rules about mounts and file systems.

use crate::harness::{FACROND, Place, STRANGER, as_stranger, code, err, give, out, wait_until};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

/// A mount; unmounted when dropped.
struct Mounted(String);

impl Mounted {
    fn tmpfs(path: &str) -> Self {
        fs::create_dir_all(path).unwrap();
        mount(Some("none"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        Self(path.to_owned())
    }

    fn overlay(path: &str, lower: &str, upper: &str, work: &str) -> Self {
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        mount(Some("none"), path, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
        Self(path.to_owned())
    }

    /// By mount(8) or one of its kind, which gets the mount point as its last argument.
    fn by(command: &[&str], path: &str) -> Self {
        let status = Command::new(command[0]).args(&command[1..]).arg(path).status().unwrap();
        assert!(status.success(), "{command:?}");
        Self(path.to_owned())
    }

    fn umount(self) {
        umount2(self.0.as_str(), MntFlags::empty()).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(self.0.as_str(), MntFlags::MNT_DETACH);
    }
}

/// Busy processes, to make everybody else late; ended when dropped.
struct Load(Vec<Child>);

impl Load {
    fn new() -> Self {
        let busy = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Self((0..2).map(|_| busy()).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn run(mut command: Command, script: &str) {
    assert!(command.args(["-c", script]).stdin(Stdio::null()).status().unwrap().success(), "{script}");
}

/// A directory where everybody may write.
fn open_dir(place: &Place) -> String {
    let dir = place.mkdir("dir");
    give(&dir);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

#[test]
fn events_of_one_user_however_short_lived_its_processes_are() {
    let place = Place::new();
    let dir = open_dir(&place);
    place.conf(&format!(
        "{dir} CLOSE_WRITE [name=root uid=root] -\n\
         {dir} CLOSE_WRITE [name=stranger uid={STRANGER}] -\n\
         {dir} CLOSE_WRITE [name=others uid=!0] -\n\
         {dir} CLOSE_WRITE [name=nobody uid=12345] -\n"
    ));
    let _daemon = place.start();
    let _load = Load::new();
    for number in 0..50 {
        run(Command::new("sh"), &format!("echo > {dir}/root.{number}"));
        run(as_stranger("sh"), &format!("echo > {dir}/stranger.{number}"));
    }
    place.settle();
    let fired = ["root", "stranger", "others", "nobody"].map(|rule| place.fired(rule));
    assert_eq!(fired, [50, 50, 50, 0]);
    let users = place.tail_of("stranger").into_iter().map(|record| record["uid"].clone());
    assert!(users.into_iter().all(|uid| uid == STRANGER));
}

#[test]
fn events_of_one_program_however_short_lived_its_processes_are() {
    let place = Place::new();
    let dir = place.mkdir("dir");
    let shell = fs::canonicalize("/bin/sh").unwrap();
    let shell_name = shell.file_name().unwrap().to_str().unwrap();
    place.conf(&format!(
        "{dir} CLOSE_WRITE [name=touch exe=touch] -\n\
         {dir} CLOSE_WRITE [name=path exe={}] -\n\
         {dir} CLOSE_WRITE [name=not exe=!{shell_name}] -\n\
         {dir} CLOSE_WRITE [name=both exe=/usr/bin/* uid=0] -\n\
         {dir} CLOSE_WRITE [name=none exe=/no/such/*] -\n",
        shell.display(),
    ));
    let _daemon = place.start();
    let _load = Load::new();
    thread::scope(|scope| {
        scope.spawn(|| (0..50).for_each(|n| run(Command::new("sh"), &format!("echo > {dir}/sh.{n}"))));
        scope.spawn(|| {
            for number in 0..50 {
                let touched = Command::new("touch").arg(format!("{dir}/touch.{number}")).status();
                assert!(touched.unwrap().success());
            }
        });
    });
    place.settle();
    let fired = ["touch", "path", "not", "both", "none"].map(|rule| place.fired(rule));
    assert_eq!(fired, [50, 50, 50, 100, 0]);
}

#[test]
fn a_rule_that_asks_can_come_and_go() {
    let place = Place::new();
    let dir = place.mkdir("dir");
    place.conf("");
    let _daemon = place.start();
    for round in 1..=3 {
        place.ctl_ok(&["add", "-o", "name=asks uid=0 exe=!touch", &dir, "CREATE", "-"]);
        run(Command::new("sh"), &format!("echo > {dir}/sh.{round}; touch {dir}/touch.{round}"));
        place.settle();
        assert_eq!(place.fired("asks"), 1);
        place.ctl_ok(&["remove", "asks"]);
    }
}

#[test]
fn who_is_not_there_cannot_be_asked_for() {
    let place = Place::new();
    let dir = place.mkdir("dir");
    place.conf("");
    let _daemon = place.start();
    let refused = place.ctl(&["add", "-o", "uid=no-such-user", &dir, "CREATE", "-"]);
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains("there is no user `no-such-user`"), "{}", err(&refused));
}

#[test]
fn mounts_at_and_below_a_path() {
    let place = Place::new();
    let dir = place.mkdir("dir");
    let records = place.records("records");
    place.conf(&format!("{dir} MNT_ATTACH|MNT_DETACH [name=mounts] {}\n", records.command("$% $$")));
    let _daemon = place.start();
    let outer = Mounted::tmpfs(&dir);
    records.wait(1);
    let inner = Mounted::tmpfs(&format!("{dir}/a/b"));
    records.wait(2);
    inner.umount();
    records.wait(3);
    outer.umount();
    let (attached, detached) = ("FAN_MNT_ATTACH".to_owned(), "FAN_MNT_DETACH".to_owned());
    let expected = [
        [attached.clone(), dir.clone()],
        [attached, format!("{dir}/a/b")],
        [detached.clone(), format!("{dir}/a/b")],
        [detached, dir.clone()],
    ];
    let args = records.wait(4).into_iter().map(|record| record.args);
    let texts: Vec<Vec<_>> =
        args.map(|args| args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()).collect();
    assert_eq!(texts, expected);
}

#[test]
fn a_file_system_with_an_error() {
    let place = Place::new();
    let (image, dir) = (place.path("image"), place.mkdir("dir"));
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    assert!(Command::new("mkfs.ext4").args(["-q", &image]).status().unwrap().success());
    let records = place.records("records");
    place.conf(&format!("{dir}/below FS_ERROR [name=error] {}\n", records.command("$% $$")));
    let _daemon = place.start();
    for round in 1..=2 {
        let mounted = Mounted::by(&["mount", "-o", "loop,errors=continue", &image], &dir);
        fs::create_dir_all(format!("{dir}/below")).unwrap();
        wait_until("the rule to be active", || place.rule("error")["state"] == "active");
        // What was found where the path was before is settled by then.
        place.settle();
        let device = Command::new("findmnt").args(["-no", "SOURCE", &dir]).output().unwrap();
        let device = out(&device).trim().replace("/dev/", "");
        let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        fs::write(trigger, "a test").unwrap();
        records.wait(round);
        mounted.umount();
        wait_until("the rule to wait", || place.rule("error")["state"] == "waiting");
    }
    assert_eq!(records.texts(), vec![["FAN_FS_ERROR".to_owned(), format!("{dir}/below")]; 2]);
}

#[test]
fn what_the_kernel_does_not_tell_is_refused_with_the_reason() {
    let place = Place::new();
    place.conf("/proc FS_ERROR [name=proc] -\n");
    let _daemon = place.start();
    let rule = place.rule("proc");
    let reason = "/proc: FAN_FS_ERROR cannot be had: its file system does not tell of them";
    assert_eq!((&rule["state"], &rule["reason"]), (&"failed".into(), &reason.into()));
    let refused = place.ctl(&["add", "/proc", "FS_ERROR", "-"]);
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains(reason), "{}", err(&refused));
}

#[test]
fn a_user_is_refused_what_only_root_is_told() {
    let place = Place::new();
    let dir = open_dir(&place);
    let facrond = place.for_all(FACROND);
    for (events, options, reason) in [
        ("MNT_ATTACH", "name=x", "an ordinary user is not told of mounts"),
        ("FS_ERROR", "name=x", "an ordinary user is not told of them"),
        ("CREATE", "uid=0", "an ordinary user is not told who causes events"),
    ] {
        let mut watch = as_stranger(&facrond);
        let watched = watch.args(["watch", &dir, events, "-o", options, "--", "-"]).output().unwrap();
        assert_eq!(code(&watched), 1);
        assert!(err(&watched).contains(reason), "{}", err(&watched));
    }
}

#[test]
fn where_changes_can_go_by_check_and_add_warn() {
    let place = Place::new();
    let dirs = ["lower", "upper", "work", "overlay", "behind", "fuse"].map(|name| place.mkdir(name));
    let [lower, upper, work, overlay, behind, fuse] = &dirs;
    let mounts = [Mounted::overlay(overlay, lower, upper, work), Mounted::by(&["bindfs", behind], fuse)];
    place
        .conf(&format!("{overlay} CREATE -\n{fuse}/not/yet CREATE -\n{upper} CREATE -\n{behind} CREATE -\n"));
    let told = [
        format!("`{overlay}` is on an overlay: changes made in its upper directory `{upper}` are not seen"),
        format!("`{fuse}/not/yet` is on a FUSE file system (fuse"),
    ];
    let checked = place.facrond_check();
    let text = out(&checked);
    assert_eq!(code(&checked), 0);
    assert!(text.contains("2 warnings") && told.iter().all(|told| text.contains(told)), "{text}");
    let daemon = place.start();
    for told in &told {
        daemon.wait_for_log(told);
    }
    let added = place.ctl(&["add", overlay, "CREATE", "-"]);
    assert_eq!(code(&added), 0);
    assert!(err(&added).contains(&told[0]), "{}", err(&added));
    drop(daemon);
    drop(mounts);
}
