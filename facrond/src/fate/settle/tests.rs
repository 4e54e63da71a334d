use super::*;
use crate::fate::Identity;
use crate::fate::place::Entry;
use facron_proto::Text;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file, and a directory for it, on another file system or on the same one.
struct Scene {
    _dirs: [TempDir; 2],
    file: PathBuf,
    to: PathBuf,
}

impl Scene {
    fn new(other: Option<&str>) -> Self {
        let here = tempfile::tempdir().unwrap();
        let there = other.map_or_else(tempfile::tempdir, tempfile::tempdir_in).unwrap();
        let (file, to) = (here.path().join("file"), there.path().join("to"));
        fs::write(&file, "content").unwrap();
        Self { _dirs: [here, there], file, to }
    }

    fn order(&self) -> Order {
        let text = |path: &Path| Text::from(path.as_os_str().as_bytes());
        Order {
            path: text(&self.file),
            file: Identity::of(&Entry::of(self.file.as_os_str().as_bytes()).unwrap().stat().unwrap()),
            to: Some(text(&self.to)),
            reason: None,
            tag: "1-2-3".to_owned(),
            is_repeated: false,
        }
    }

    /// All names, those of the directory that the file is in first.
    fn names(&self) -> [Vec<String>; 2] {
        [self.file.parent().unwrap(), &self.to].map(|dir| {
            let entries = fs::read_dir(dir).into_iter().flatten();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        })
    }
}

fn give(order: &Order) -> Settled {
    settle(order, &mut || {})
}

/// On the same file system, and on another one.
fn scenes() -> [Scene; 2] {
    [Scene::new(None), Scene::new(Some("/dev/shm"))]
}

#[test]
fn an_order_that_was_carried_out_changes_nothing_more() {
    for scene in scenes() {
        let order = Order { reason: Some("why".to_owned()), ..scene.order() };
        assert_eq!(give(&order), Settled::Moved);
        assert_eq!(give(&Order { is_repeated: true, ..order }), Settled::Gone);
        assert_eq!(scene.names(), [vec![], vec!["file", "file.facron"]]);
        assert_eq!(fs::read_to_string(scene.to.join("file")).unwrap(), "content");
    }
}

#[test]
fn a_file_that_was_changed_or_replaced_stays() {
    for scene in scenes() {
        let order = scene.order();
        let writer = File::options().append(true).open(&scene.file).unwrap();
        writer.set_len(9).unwrap();
        assert_eq!(give(&order), Settled::Growing);
        drop(writer);
        assert_eq!(give(&order), Settled::Changed);
        fs::remove_file(&scene.file).unwrap();
        fs::write(&scene.file, "content").unwrap();
        assert_eq!(give(&order), Settled::Changed, "it is another one");
        assert_eq!(scene.names()[0], ["file"]);
    }
}

#[test]
fn an_attempt_that_was_cut_off_is_brought_to_its_end() {
    // The reason was written, and the file not moved.
    let scene = Scene::new(None);
    let order = Order { reason: Some("why".to_owned()), is_repeated: true, ..scene.order() };
    fs::create_dir(&scene.to).unwrap();
    fs::write(scene.to.join("file.facron"), "why").unwrap();
    assert_eq!(give(&order), Settled::Moved);
    assert_eq!(scene.names(), [vec![], vec!["file", "file.facron"]]);

    // The file was claimed, to be removed.
    let scene = Scene::new(None);
    let order = Order { to: None, is_repeated: true, ..scene.order() };
    fs::rename(&scene.file, scene.file.with_file_name(".facron-1-2-3")).unwrap();
    assert_eq!(give(&order), Settled::Moved);
    assert_eq!(scene.names()[0], [""; 0]);

    // The copy was made in part, or whole, or had its name already.
    for (name, text, is_claimed) in
        [(".facron-1-2-3", "con", false), (".facron-1-2-3", "content", true), ("file", "content", true)]
    {
        let scene = Scene::new(Some("/dev/shm"));
        let order = Order { is_repeated: true, ..scene.order() };
        fs::create_dir(&scene.to).unwrap();
        fs::write(scene.to.join(name), text).unwrap();
        if is_claimed {
            fs::rename(&scene.file, scene.file.with_file_name(".facron-1-2-3")).unwrap();
        }
        assert_eq!(give(&order), Settled::Moved, "{name} {is_claimed}");
        assert_eq!(scene.names(), [vec![], vec!["file"]], "{name} {is_claimed}");
        assert_eq!(fs::read_to_string(scene.to.join("file")).unwrap(), "content");
    }

    // A part of a copy was made, and the file has changed since.
    let scene = Scene::new(Some("/dev/shm"));
    let order = Order { is_repeated: true, ..scene.order() };
    fs::create_dir(&scene.to).unwrap();
    fs::write(scene.to.join(".facron-1-2-3"), "con").unwrap();
    fs::write(&scene.file, "changed").unwrap();
    assert_eq!(give(&order), Settled::Changed);
    assert_eq!(scene.names(), [vec!["file"], vec![]]);
}

/// Also not if it has the same name, size and time: archives are unpacked with these.
#[test]
fn a_file_that_only_looks_like_the_copy_is_another_one() {
    let scene = Scene::new(Some("/dev/shm"));
    fs::create_dir(&scene.to).unwrap();
    fs::write(scene.to.join("file"), "CONTENT").unwrap();
    let modified = fs::metadata(&scene.file).unwrap().modified().unwrap();
    File::options().write(true).open(scene.to.join("file")).unwrap().set_modified(modified).unwrap();
    assert_eq!(give(&Order { is_repeated: true, ..scene.order() }), Settled::Moved);
    assert_eq!(scene.names(), [vec![], vec!["file", "file.1"]]);
    assert_eq!(fs::read_to_string(scene.to.join("file.1")).unwrap(), "content");
}

/// A second name of the file is no claim, whoever has made it.
#[test]
fn a_name_that_somebody_else_has_made_is_no_claim() {
    let scene = Scene::new(Some("/dev/shm"));
    fs::hard_link(&scene.file, scene.file.with_file_name(".facron-1-2-3")).unwrap();
    let order = Order { is_repeated: true, ..scene.order() };
    assert!(matches!(give(&order), Settled::Stays(_)));
    assert_eq!(scene.names(), [vec![".facron-1-2-3", "file"], vec![]]);
}

#[test]
fn holes_stay_holes() {
    let scene = Scene::new(Some("/dev/shm"));
    let file = File::options().write(true).open(&scene.file).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"more", 8 << 20).unwrap();
    file.set_len(1 << 30).unwrap();
    assert_eq!(give(&scene.order()), Settled::Moved);
    let copy = fs::metadata(scene.to.join("file")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::size(&copy), 1 << 30);
    assert!(std::os::unix::fs::MetadataExt::blocks(&copy) < 1000, "{copy:?}");
    let content = File::open(scene.to.join("file")).unwrap();
    let mut read = [0; 4];
    for (at, expected) in [(0, b"cont"), (8 << 20, b"more"), (1 << 29, b"\0\0\0\0")] {
        std::os::unix::fs::FileExt::read_exact_at(&content, &mut read, at).unwrap();
        assert_eq!(&read, expected);
    }
}

#[test]
fn the_longest_names_have_reasons_of_their_own() {
    let scene = Scene::new(None);
    for last in ["m", "n", "o"] {
        let file = scene.file.with_file_name("n".repeat(254) + last);
        fs::write(&file, last).unwrap();
        let scene = Scene {
            file,
            to: scene.to.clone(),
            _dirs: [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()],
        };
        assert_eq!(give(&Order { reason: Some(last.to_owned()), ..scene.order() }), Settled::Moved);
    }
    assert_eq!(scene.names()[1].len(), 6);
}

#[test]
fn nothing_is_moved_to_the_directory_in_which_it_is() {
    let scene = Scene::new(None);
    let here = Text::from(scene.file.parent().unwrap().as_os_str().as_bytes());
    let stays = give(&Order { to: Some(here), ..scene.order() });
    assert!(matches!(stays, Settled::Stays(why) if why.contains("it is in that directory")));
    assert_eq!(scene.names()[0], ["file"]);
}
