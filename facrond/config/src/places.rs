//! Places where permission events could stop the machine: files that every program needs
//! to start, files that facron itself needs, and the log.

use crate::paths::Paths;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub(crate) const HELP: &str = "choose the directory or the file that is meant, outside of it";

/// Trees where no permission event may be asked for, and the reasons.
const TREES: &[(&str, &str)] = &[
    ("/proc", "facron itself reads `/proc` before it answers"),
    ("/sys", "`/sys` is the kernel's"),
    ("/dev", "every program needs devices"),
    ("/run", "the sockets that programs talk through are in `/run`"),
    ("/var/run", "the sockets that programs talk through are in `/run`"),
    ("/var/log/journal", "the journal could wait for an answer that waits for the journal"),
];

/// The directories of programs and their libraries.
const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// Other directories of the system that all programs need.
const SYSTEM_DIRECTORIES: &[&str] = &[
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "libexec",
    "local",
    "local/bin",
    "local/sbin",
    "local/lib",
    "share",
];

/// The reason why a rule at `path` could stop the machine, if it could. `own` are files and
/// directories of facron that only the caller knows.
pub fn refusal(path: &Path, own: &[PathBuf]) -> Option<String> {
    if path == Path::new("/") {
        return Some("all programs need `/`, also those that could help".to_owned());
    }
    if let Some((_, why)) = TREES.iter().find(|(tree, _)| path.starts_with(tree)) {
        return Some((*why).to_owned());
    }
    let own = || own_files().iter().chain(own);
    if own().any(|own| path.starts_with(own)) {
        return Some("it is facron's own".to_owned());
    }
    let tree = SYSTEM.iter().find(|tree| path.starts_with(tree))?;
    let below = path.strip_prefix(tree).ok()?;
    if below.as_os_str().is_empty()
        || SYSTEM_DIRECTORIES.iter().any(|directory| below == Path::new(directory))
    {
        return Some("all programs need what is in it, also those that could help".to_owned());
    }
    own().any(|own| own.starts_with(path)).then(|| "facron itself needs what is in it".to_owned())
}

/// Whether a rule on a directory above `path` leaves `path` out.
pub fn is_left_out(path: &Path, own: &[PathBuf]) -> bool {
    TREES.iter().any(|(tree, _)| path.starts_with(tree))
        || own_files().iter().chain(own).any(|own| path.starts_with(own))
}

/// The places that a rule on the directory `path` leaves out.
pub fn left_out(path: &Path, own: &[PathBuf]) -> Vec<PathBuf> {
    let trees = TREES.iter().map(|(tree, _)| Path::new(tree));
    let all = trees.chain(own_files().iter().chain(own).map(PathBuf::as_path));
    let mut left_out: Vec<_> = all.filter(|place| place.starts_with(path)).map(Path::to_owned).collect();
    left_out.sort();
    left_out.dedup();
    left_out
}

/// The programs of facron, the libraries that they have loaded, and their default paths.
fn own_files() -> &'static [PathBuf] {
    static OWN: OnceLock<Vec<PathBuf>> = OnceLock::new();
    OWN.get_or_init(|| {
        let defaults = Paths::default();
        let mut own = vec![defaults.conf, defaults.conf_dir, defaults.state_dir, defaults.runtime_dir];
        own.extend(["/etc/ld.so.cache", "/etc/ld.so.preload"].map(PathBuf::from));
        own.extend(mapped_files());
        if let Ok(program) = std::env::current_exe() {
            own.push(program.with_file_name("facronctl"));
            own.push(program.with_file_name("facrond"));
            own.push(program);
        }
        let resolved: Vec<_> = own.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        own.extend(resolved);
        own.sort();
        own.dedup();
        own
    })
}

fn mapped_files() -> Vec<PathBuf> {
    let maps = fs::read("/proc/self/maps").unwrap_or_default();
    let paths = maps.split(|byte| *byte == b'\n').filter_map(|line| {
        let start = line.iter().position(|byte| *byte == b'/')?;
        Some(PathBuf::from(OsStr::from_bytes(&line[start..])))
    });
    let mut paths: Vec<_> = paths.collect();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &str) -> bool {
        refusal(Path::new(path), &[PathBuf::from("/srv/facron.conf"), PathBuf::from("/srv/state")]).is_some()
    }

    #[test]
    fn places_that_could_hold_the_machine() {
        for path in [
            "/",
            "/proc",
            "/proc/1/maps",
            "/sys/kernel",
            "/dev/null",
            "/run/x",
            "/var/run",
            "/usr",
            "/usr/bin",
            "/lib64",
            "/usr/lib",
            "/usr/local/bin",
            "/var/log/journal/x",
            "/etc/ld.so.cache",
            "/srv/facron.conf",
            "/srv/state/rules.json",
        ] {
            assert!(refused(path), "{path}");
        }
        assert!(refused(Paths::default().conf_dir.to_str().unwrap()));
        assert!(refused(std::env::current_exe().unwrap().to_str().unwrap()));
    }

    #[test]
    fn places_that_cannot() {
        for path in ["/srv", "/srv/x", "/home", "/usr/bin/nmap", "/usr/share/doc", "/runner", "/etc/passwd"] {
            assert!(!refused(path), "{path}");
        }
    }

    #[test]
    fn the_libraries_that_are_loaded_are_ours() {
        let library = mapped_files().into_iter().find(|path| path.to_string_lossy().contains("libc.so"));
        if let Some(library) = library {
            assert!(refusal(&library, &[]).is_some());
            assert!(refusal(library.parent().unwrap(), &[]).is_some());
        }
    }

    #[test]
    fn a_rule_above_leaves_them_out() {
        let own = [PathBuf::from("/srv/facron.conf")];
        assert_eq!(left_out(Path::new("/srv"), &own), own);
        assert!(is_left_out(Path::new("/srv/facron.conf"), &own));
        assert!(left_out(Path::new("/var"), &own).contains(&PathBuf::from("/var/log/journal")));
        assert!(!is_left_out(Path::new("/srv/x"), &own));
    }
}
