//! Trees that no user needs: deep, wide, with long names, and moved all the time. Everything
//! is done by descriptors, because no path is long enough.

use crate::number;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// The levels of one chain.
const CHAIN: u64 = 1000;

/// The seed of a well-known hash without a key. A name that begins with it has the same hash
/// as all others of its length that do.
const SEED: [u8; 8] = 0x243f_6a88_85a3_08d3_u64.to_le_bytes();

pub fn run(args: &[&str]) -> io::Result<()> {
    match *args {
        ["below", dir, out, levels] => chains(dir, out, number(levels)?, Order::Below),
        ["above", dir, out, levels] => chains(dir, out, number(levels)?, Order::Above),
        ["long", dir, levels, files] => long(dir, number(levels)?, number(files)?),
        ["nodes", dir, count] => nodes(dir, number(count)?),
        ["moves", dir, out, count, time] => moves(dir, out, number(count)?, milliseconds(time)?),
        ["wide", dir, out, count, time] => wide(dir, out, number(count)?, milliseconds(time)?),
        ["rename", dir, levels, time] => rename(dir, number(levels)?, milliseconds(time)?),
        _ => Err(io::Error::other("usage: e2e-actor trees below|above|long|nodes|moves|wide|rename ...")),
    }
}

fn milliseconds(text: &str) -> io::Result<Duration> {
    number(text).map(Duration::from_millis)
}

/// Makes directories below each other, until there are so many, and moves them out. Each chain
/// goes below the lower end of those before, or they all go below its end.
fn chains(dir: &str, out: &str, levels: u64, order: Order) -> io::Result<()> {
    let (dir, out) = (open(dir)?, open(out)?);
    let mut end = down(&dir, "all", "d", CHAIN)?;
    for _ in 1..levels / CHAIN {
        let next = down(&dir, "next", "d", CHAIN)?;
        match order {
            Order::Below => {
                renameat(&dir, "next", &end, "d")?;
                end = next;
            }
            Order::Above => {
                renameat(&dir, "all", &next, "d")?;
                renameat(&dir, "next", &dir, "all")?;
            }
        }
    }
    File::from(file(&end, b"f")?).write_all(b"x")?;
    renameat(&dir, "all", &out, "all")?;
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Below,
    Above,
}

/// Makes directories below each other, each with files in it. All names are as long as names
/// can be.
fn long(dir: &str, levels: u64, files: u64) -> io::Result<()> {
    let mut at = open(dir)?;
    let name = "n".repeat(255);
    for level in 0..levels {
        at = down(&at, &name, &name, 1)?;
        for number in files * level / levels..files * (level + 1) / levels {
            File::from(file(&at, format!("{number:0255}").as_bytes())?).write_all(b"x")?;
        }
    }
    Ok(())
}

/// Makes files whose names have the same hash, unless the hash has a key.
fn nodes(dir: &str, count: u64) -> io::Result<()> {
    let dir = open(dir)?;
    for number in 0..count {
        let name = [&SEED[..], format!("{number:08}").as_bytes()].concat();
        mknodat(&dir, &*name, SFlag::S_IFREG, Mode::S_IRUSR, 0)?;
    }
    Ok(())
}

/// Makes a directory with so many files elsewhere, and moves it in and out for a while. Says
/// how often.
fn wide(dir: &str, out: &str, count: u64, time: Duration) -> io::Result<()> {
    fs::create_dir(format!("{out}/tree"))?;
    nodes(&format!("{out}/tree"), count)?;
    move_for(dir, out, time)
}

/// Makes a tree of so many directories, and moves it in and out for a while. Says how often.
fn moves(dir: &str, out: &str, count: u64, time: Duration) -> io::Result<()> {
    for number in 0..count {
        let at = format!("{out}/tree/{}/{}", number % 100, number / 100 % 100);
        fs::create_dir_all(format!("{at}/{number}"))?;
    }
    move_for(dir, out, time)
}

fn move_for(dir: &str, out: &str, time: Duration) -> io::Result<()> {
    let (end, mut moves) = (Instant::now() + time, 0);
    while Instant::now() < end {
        fs::rename(format!("{out}/tree"), format!("{dir}/tree"))?;
        std::thread::sleep(Duration::from_millis(moves % 20 * 10));
        fs::rename(format!("{dir}/tree"), format!("{out}/tree"))?;
        moves += 1;
    }
    println!("{moves}");
    Ok(())
}

/// Makes directories at the end of a chain, and renames its top all the time.
fn rename(dir: &str, levels: u64, time: Duration) -> io::Result<()> {
    let top = open(dir)?;
    let end = down(&top, "a", "d", levels)?;
    let (stop, mut number) = (Instant::now() + time, 0);
    while Instant::now() < stop {
        down(&end, &format!("{number}"), "d", 3)?;
        file(&end, format!("f{number}").as_bytes())?;
        let (from, to) = if number % 2 == 0 { ("a", "b") } else { ("b", "a") };
        renameat(&top, from, &top, to)?;
        number += 1;
    }
    println!("{number}");
    Ok(())
}

fn open(path: &str) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(Path::new(path), OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?)
}

/// Makes directories below each other; returns the lowest.
fn down(top: impl AsFd, first: &str, name: &str, levels: u64) -> io::Result<OwnedFd> {
    let enter = |dir: &dyn AsFd, name: &str| {
        mkdirat(dir.as_fd(), name, Mode::S_IRWXU)?;
        openat(dir.as_fd(), name, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())
    };
    let mut at = enter(&top, first)?;
    for _ in 1..levels {
        at = enter(&at, name)?;
    }
    Ok(at)
}

fn file(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRUSR)
}
