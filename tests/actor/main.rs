//! Works on files, as the tests want it to be done.
//!
//! ```text
//! e2e-actor slow DIR SEED COUNT       writes files slowly; tells when it began to close each
//! e2e-actor slow-new DIR SEED COUNT   the same, each in a new directory
//! e2e-actor tmpfiles DIR COUNT        gives names to files that had none; closes them when told to
//! e2e-actor watch DIR COUNT           watches it by so many inotify groups, and does not read
//! e2e-actor leave MOUNT DIR COUNT     makes directories, files and links, and unmounts at once
//! e2e-actor orphan FILE               opens it when its main thread has ended
//! e2e-actor clients SOCKET KIND       uses up the socket, until nobody wants it any more
//! e2e-actor trees ...                 makes trees that no user needs, see there
//! e2e-actor storm DIR SEED NAME       does anything to DIR/tree, for as long as each line says
//! e2e-actor stop-all DIR MILLIS       makes files, and stops all processes of its user meanwhile
//! e2e-actor lease PROGRAM             keeps everybody from a program until its input ends
//! ```

mod clients;
mod orphan;
mod own;
mod storm;
mod trees;

use facron_tests::Random;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::mount::{MntFlags, umount2};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::linkat;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, str};

/// Between two steps of who writes slowly.
const SLOWLY: Duration = Duration::from_millis(3);

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["slow", dir, seed, count] => {
            write_slowly(number(seed)?, number(count)?, |index| Ok(format!("{dir}/{seed}-{index}")))
        }
        ["slow-new", dir, seed, count] => write_slowly(number(seed)?, number(count)?, |index| {
            let new = format!("{dir}/{seed}-{index}");
            fs::create_dir(&new)?;
            Ok(format!("{new}/f"))
        }),
        ["tmpfiles", dir, count] => tmpfiles(dir, number(count)?),
        ["watch", dir, count] => watch(dir, number(count)?),
        ["leave", mount, dir, count] => leave(mount, dir, number(count)?),
        ["orphan", file] => orphan::run(file),
        ["clients", socket, kind] => clients::run(socket, kind),
        ["trees", ref args @ ..] => trees::run(args),
        ["storm", dir, seed, name] => storm::run(Path::new(dir), number(seed)?, name),
        ["stop-all", dir, millis] => own::stop_all(dir, Duration::from_millis(number(millis)?)),
        ["lease", program] => own::lease(program),
        _ => Err(io::Error::other(
            "usage: e2e-actor slow|slow-new|tmpfiles|watch|leave|orphan|clients|trees|storm|stop-all|lease ...",
        )),
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(io::Error::other)
}

/// Says `TIME PATH` for each file: when it began to close it, in nanoseconds since 1970.
fn write_slowly(seed: u64, count: u64, name: impl Fn(u64) -> io::Result<String>) -> io::Result<()> {
    let mut random = Random::of(seed);
    for index in 0..count {
        let path = name(index)?;
        let mut file = File::create(&path)?;
        sleep(random.time(SLOWLY));
        file.write_all(b"x")?;
        sleep(random.time(SLOWLY));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        drop(file);
        println!("{} {path}", now.as_nanos());
    }
    Ok(())
}

/// Makes half of the files that have their names for as long as nobody says anything, and
/// then those that are closed at once. Says a line after each half.
fn tmpfiles(dir: &str, count: u64) -> io::Result<()> {
    let mut open = Vec::new();
    for index in 0..count {
        open.push(match tmpfile(dir, &format!("{dir}/later-{index}")) {
            Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {
                println!("unsupported");
                return Ok(());
            }
            file => file?,
        });
    }
    println!("linked");
    io::stdin().read_line(&mut String::new())?;
    drop(open);
    for index in 0..count {
        drop(tmpfile(dir, &format!("{dir}/at-once-{index}"))?);
    }
    println!("closed");
    Ok(())
}

fn tmpfile(dir: &str, path: &str) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).custom_flags(nix::libc::O_TMPFILE).open(dir)?;
    file.write_all(b"x")?;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(AT_FDCWD, &*own, AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?;
    Ok(file)
}

/// Says when it does, and watches until nobody wants it any more.
fn watch(dir: &str, count: u64) -> io::Result<()> {
    let mut groups = Vec::new();
    for _ in 0..count {
        let group = Inotify::init(InitFlags::IN_CLOEXEC)?;
        group.add_watch(dir, AddWatchFlags::IN_ALL_EVENTS)?;
        groups.push(group);
    }
    println!("watching");
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// Says what became of unmounting.
fn leave(mount: &str, dir: &str, count: u64) -> io::Result<()> {
    for index in 0..count {
        let new = format!("{dir}/{index}");
        fs::create_dir(&new)?;
        fs::write(format!("{new}/file"), "x")?;
        fs::hard_link(format!("{new}/file"), format!("{new}/link"))?;
        symlink("file", format!("{new}/symlink"))?;
    }
    match umount2(mount, MntFlags::empty()) {
        Ok(()) => println!("unmounted"),
        Err(errno) => println!("{errno:?}"),
    }
    Ok(())
}
