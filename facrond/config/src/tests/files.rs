//! Which files are read, and what `@include` does.

use super::{errors, warnings};
use crate::paths::Paths;
use crate::{Loaded, check, has_errors, load, load_files};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tempfile::TempDir;

/// A directory with these files.
fn dir(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = dir.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    dir
}

fn paths(loaded: &Loaded) -> Vec<&str> {
    loaded.rules.iter().map(|rule| rule.spec.path.to_str().unwrap()).collect()
}

/// What is read of the file `main` of such a directory.
fn main_of(files: &[(&str, &str)]) -> (Loaded, TempDir) {
    let dir = dir(files);
    (load_files(&[dir.path().join("main")]), dir)
}

#[test]
fn the_file_then_the_directory_in_byte_order() {
    let dir = dir(&[
        ("facron.conf", "/0 OPEN -\n"),
        ("facron.d/b.conf", "/3 OPEN -\n"),
        ("facron.d/B.conf", "/2 OPEN -\n"),
        ("facron.d/10.conf", "/1 OPEN -\n"),
        ("facron.d/x.conf.bak", "/x OPEN -\n"),
        ("facron.d/.y.conf", "/y OPEN -\n"),
    ]);
    let loaded = load(&dir.path().join("facron.conf"), &dir.path().join("facron.d"));
    assert_eq!(paths(&loaded), ["/0", "/1", "/2", "/3"]);
    assert!(loaded.diagnostics.is_empty());
    assert_eq!(loaded.files.len(), 4);
    assert_eq!((&*loaded.rules[1].file, loaded.rules[1].line), (&*dir.path().join("facron.d/10.conf"), 1));
}

#[test]
fn defaults_need_not_be_there_and_named_files_must() {
    let dir = dir(&[]);
    let (conf, conf_dir) = (dir.path().join("facron.conf"), dir.path().join("facron.d"));
    assert!(load(&Paths::default().conf, &conf_dir).diagnostics.is_empty());
    for loaded in [load(&conf, &conf_dir), load_files(std::slice::from_ref(&conf))] {
        assert!(has_errors(&loaded.diagnostics));
        assert_eq!((loaded.diagnostics[0].line, loaded.diagnostics[0].column), (0, 0));
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    let dir = dir(&[("file", "")]);
    assert!(has_errors(&load(dir.path(), Path::new("/nonexistent")).diagnostics));
    assert!(has_errors(&load(&Paths::default().conf, &dir.path().join("file")).diagnostics));
}

#[test]
fn includes_are_relative_to_their_file_and_read_in_place() {
    let (loaded, dir) = main_of(&[
        ("main", "/1 OPEN -\n@include sub/a\n  @include \"sub/b c\"\n/5 OPEN -\n"),
        ("sub/a", "/2 OPEN -\n@include deep/a\n"),
        ("sub/deep/a", "/3 OPEN -\n"),
        ("sub/b c", "/4 OPEN -\n"),
    ]);
    assert_eq!(errors(&loaded.diagnostics), [""; 0]);
    assert_eq!(paths(&loaded), ["/1", "/2", "/3", "/4", "/5"]);
    assert_eq!(*loaded.rules[2].file, *dir.path().join("sub/deep/a"));
}

#[test]
fn equal_options_of_rules_that_stand_together_are_one() {
    let (loaded, _dir) = main_of(&[(
        "main",
        "/1 OPEN -\n/2 OPEN -\n/3 OPEN [once] -\n/4 OPEN [ once ] -\n/5 OPEN [once nice=1] -\n",
    )]);
    let options = |index: usize| &loaded.rules[index].spec.options;
    let are_one: Vec<_> = (1..5).map(|index| Rc::ptr_eq(options(index - 1), options(index))).collect();
    assert_eq!(are_one, [true, false, true, false]);
}

#[test]
fn globs() {
    let files = [
        ("main", "@include d/*.conf\n@include none/*\n@include */[x-z]?.d/*\n@include /nonexistent/*\n"),
        ("d/b.conf", "/b OPEN -\n"),
        ("d/a.conf", "/a OPEN -\n"),
        ("d/.c.conf", "/c OPEN -\n"),
        ("d/z1.d/q", "/q OPEN -\n"),
        ("d/a1.d/r", "/r OPEN -\n"),
    ];
    let (loaded, _dir) = main_of(&files);
    assert_eq!(errors(&loaded.diagnostics), [""; 0]);
    assert_eq!(paths(&loaded), ["/a", "/b", "/q"]);
}

#[test]
fn bad_includes() {
    let cases: &[(&str, &str)] = &[
        ("@include nope", "1:10: `D/nope` does not exist; make it"),
        ("@include d", "1:10: `D/d` is a directory; write `DIRECTORY/*.conf`"),
        ("@include [", "1:10: `[` is no glob"),
        ("@include ''", "1:10: the name of the file is empty"),
        ("@include main", "1:10: `D/main` includes itself: D/main includes D/main"),
        ("@include /dev/null", "1:10: `/dev/null` is not a regular file"),
    ];
    for (text, expected) in cases {
        let (loaded, dir) = main_of(&[("main", text), ("d/x", "")]);
        let found: Vec<_> = errors(&loaded.diagnostics)
            .into_iter()
            .map(|error| error.replace(dir.path().to_str().unwrap(), "D"))
            .collect();
        assert!(matches!(found.as_slice(), [one] if one.starts_with(expected)), "{text}: {found:?}");
    }
}

#[test]
fn a_circle_is_an_error_that_names_all_of_it() {
    let (loaded, dir) = main_of(&[
        ("main", "@include a\n/m OPEN -\n"),
        ("a", "@include b\n"),
        ("b", "@include a\n/b OPEN -\n"),
    ]);
    let errors = errors(&loaded.diagnostics);
    let dir = dir.path().to_str().unwrap();
    let chain = format!("includes itself: {dir}/a includes {dir}/b includes {dir}/a");
    assert!(matches!(errors.as_slice(), [one] if one.contains(&chain)), "{errors:?}");
    assert_eq!(paths(&loaded), ["/b", "/m"]);
}

#[test]
fn a_file_is_read_once() {
    let dir = dir(&[("main", "@include a\n@include a\n@include link\n"), ("a", "/a OPEN -\n")]);
    symlink("a", dir.path().join("link")).unwrap();
    let loaded = load_files(&[dir.path().join("main")]);
    assert_eq!(paths(&loaded), ["/a"]);
    assert_eq!(warnings(&loaded.diagnostics).len(), 2);
    assert!(!has_errors(&loaded.diagnostics));
}

#[test]
fn includes_are_bounded() {
    let files: Vec<_> = (0..40).map(|i| (i.to_string(), format!("@include {}\n", i + 1))).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let dir = dir(&files);
    let loaded = load_files(&[dir.path().join("0")]);
    assert!(
        matches!(errors(&loaded.diagnostics).as_slice(), [one] if one.contains("more than 16 files deep"))
    );
}

#[test]
fn sizes_are_bounded() {
    let long = format!("/a OPEN true {}\n/b OPEN -\n", "x".repeat(1 << 20));
    let (loaded, _dir) = main_of(&[("main", &long)]);
    assert_eq!(errors(&loaded.diagnostics), ["1:1: the line is longer than 1 MiB"]);
    assert_eq!(paths(&loaded), ["/b"]);

    let (loaded, _dir) = main_of(&[("main", &"#\n".repeat((8 << 20) + 1))]);
    assert!(errors(&loaded.diagnostics)[0].contains("is too large"));
}

#[test]
fn rubbish_does_not_fill_the_memory_and_is_counted() {
    let (loaded, _dir) = main_of(&[("main", &"x\n".repeat(20_000))]);
    assert_eq!(loaded.diagnostics.len(), 10_001);
    // Two problems a line.
    assert_eq!(loaded.diagnostics[10_000].message, "30000 more problems are not shown");
    assert!(loaded.diagnostics.iter().all(|diagnostic| !diagnostic.render(false).is_empty()));
}

#[test]
fn the_summary_counts() {
    let dir = dir(&[
        ("facron.conf", "/a OPEN -\n"),
        ("facron.d/a.conf", "/b OPEN -\n/c OPEM -\n/d OPEN /nonexistent/x\n/e OPEN /nonexistent/y\n"),
    ]);
    let summary = |conf: &str, files: &[PathBuf]| {
        let (text, good) = check(&dir.path().join(conf), &dir.path().join("facron.d"), files, false);
        (text.lines().last().unwrap().to_owned(), good)
    };
    assert_eq!(summary("facron.conf", &[]), ("2 files, 4 rules: 1 error, 2 warnings".into(), false));
    let file = dir.path().join("facron.conf");
    assert_eq!(summary("nope", &[file]), ("1 file, 1 rule: no problems".into(), true));
}
