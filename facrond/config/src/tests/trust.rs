//! Files, programs and directories that others could change.

use super::{errors, warnings};
use crate::load_files;
use crate::trust::{Missing, Refusal, Trust, Writers};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;

fn chmod(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A directory with an empty file `dir/conf`.
fn dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    fs::write(dir.path().join("dir/conf"), "").unwrap();
    dir
}

/// The errors about a file, with `D` for the directory.
fn told(dir: &TempDir, name: &str) -> Vec<String> {
    let errors = errors(&load_files(&[dir.path().join(name)]).diagnostics);
    errors.iter().map(|error| error.replace(dir.path().to_str().unwrap(), "D")).collect()
}

#[test]
fn a_file_that_all_can_write_is_an_error() {
    let dir = dir();
    for mode in [0o600, 0o644, 0o755] {
        chmod(dir.path().join("dir/conf"), mode);
        assert_eq!(told(&dir, "dir/conf"), [""; 0]);
    }
    chmod(dir.path().join("dir/conf"), 0o646);
    let told = told(&dir, "dir/conf");
    assert!(
        told[0].contains("`D/dir/conf` is not read, because others could change it: everybody can write")
    );
    assert!(told[0].contains("mode 0646") && told[0].ends_with("; `chmod go-w D/dir/conf`"), "{told:?}");
}

#[test]
fn so_is_one_in_a_directory_that_all_can_write_or_below_such_a_one() {
    let dir = dir();
    for (mode, is_trusted) in [(0o755, true), (0o757, false), (0o1777, false)] {
        chmod(dir.path().join("dir"), mode);
        assert_eq!(told(&dir, "dir/conf").is_empty(), is_trusted, "{mode:o}");
    }
    chmod(dir.path().join("dir"), 0o755);
    for (mode, is_trusted) in [(0o1777, true), (0o777, false)] {
        chmod(dir.path(), mode);
        assert_eq!(told(&dir, "dir/conf").is_empty(), is_trusted, "{mode:o}");
    }
    assert!(told(&dir, "dir/conf")[0].contains("everybody can write `D` (owner "));
}

#[test]
fn links_are_followed_and_checked() {
    let dir = dir();
    symlink("dir", dir.path().join("link")).unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    symlink("../link/conf", dir.path().join("other/conf")).unwrap();
    assert_eq!(told(&dir, "other/conf"), [""; 0]);
    chmod(dir.path().join("other"), 0o777);
    assert!(told(&dir, "other/conf")[0].contains("`D/other`"));
    chmod(dir.path().join("other"), 0o755);
    chmod(dir.path().join("dir"), 0o777);
    assert!(told(&dir, "other/conf")[0].contains("`D/dir`"));
}

/// As in `facrond check <(generate)`: whoever starts the check has opened it.
#[test]
fn a_pipe_is_read() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"/a OPEN -\n").unwrap();
    drop(writer);
    let loaded = load_files(&[format!("/proc/self/fd/{}", reader.as_raw_fd()).into()]);
    assert_eq!((loaded.rules.len(), errors(&loaded.diagnostics).len()), (1, 0), "{:?}", loaded.diagnostics);
}

#[test]
fn an_included_file_is_an_error_of_its_line() {
    let dir = dir();
    fs::write(dir.path().join("main"), "/a OPEN -\n@include dir/conf\n").unwrap();
    chmod(dir.path().join("dir/conf"), 0o666);
    let loaded = load_files(&[dir.path().join("main")]);
    assert_eq!(loaded.rules.len(), 1);
    assert!(errors(&loaded.diagnostics)[0].starts_with("2:10: `"), "{:?}", loaded.diagnostics);
}

#[test]
fn programs_and_working_directories_are_warned_of() {
    let dir = dir();
    let path = dir.path().to_str().unwrap();
    fs::copy("/bin/true", dir.path().join("dir/true")).unwrap();
    let rules = format!("/a OPEN {path}/dir/true\n/b OPEN [cwd={path}/dir] {path}/dir/true\n");
    fs::write(dir.path().join("main"), rules).unwrap();
    let told = || warnings(&load_files(&[dir.path().join("main")]).diagnostics);
    assert_eq!(told(), [""; 0]);
    chmod(dir.path().join("dir"), 0o777);
    let warnings = told();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].starts_with(&format!("1:9: others could change `{path}/dir/true`: everybody")));
    assert!(warnings[1].starts_with(&format!("2:10: others could change `{path}/dir`: everybody")));
    chmod(dir.path().join("dir"), 0o1777);
    assert_eq!(told().len(), 2, "the working directory may be one like /tmp");
}

#[test]
fn a_linked_output_is_warned_of() {
    let dir = dir();
    let path = dir.path().canonicalize().unwrap();
    symlink("dir", path.join("link")).unwrap();
    let path = path.to_str().unwrap();
    let rule = |output| format!("/a OPEN [output={path}/{output}/file] true\n");
    fs::write(dir.path().join("main"), rule("dir") + &rule("link")).unwrap();
    let warnings = warnings(&load_files(&[dir.path().join("main")]).diagnostics);
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(warning.starts_with("2:10: `output=` follows no symbolic links"), "{warning}");
    assert!(warning.ends_with(&format!("; write `{path}/dir/file`")), "{warning}");
}

#[test]
fn a_directory_is_made_whatever_the_umask_is() {
    let dir = dir();
    let path = dir.path().join("dir/a/b");
    let open = |missing| Trust::own().directory(&path, Writers::Trusted, missing);
    assert!(matches!(open(Missing::Fail), Err(Refusal::Io(_))));
    chmod(dir.path().join("dir"), 0o777);
    assert!(matches!(open(Missing::Make), Err(Refusal::Untrusted(_))));
    assert!(!dir.path().join("dir/a").exists());
    chmod(dir.path().join("dir"), 0o1777);
    open(Missing::Make).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755);
}
