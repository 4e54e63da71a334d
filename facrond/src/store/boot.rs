//! What tells one boot from the other.

use crate::own_dir::{OwnDir, OwnError};
use std::path::Path;
use std::{fs, io};

/// A file of the runtime directory, which a boot empties.
const FILE: &str = "boot";

/// The text that belongs to the runtime directory until a boot empties it. Where there is no
/// such directory, the kernel's own; in a container that is the host's.
pub fn boot_of(runtime: &Path) -> Result<String, OwnError> {
    match in_directory(runtime) {
        Err(error @ OwnError::Untrusted { .. }) => Err(error),
        Err(error) => {
            tracing::warn!("{error}; rules that were added at runtime last until the kernel boots");
            let path = Path::new("/proc/sys/kernel/random/boot_id");
            kernel(path).map_err(|error| OwnError::io("read", path, error))
        }
        found => found,
    }
}

fn in_directory(runtime: &Path) -> Result<String, OwnError> {
    let dir = OwnDir::make(runtime)?;
    if let Some(boot) = dir.read(FILE.as_ref())?.filter(|boot| !boot.is_empty()) {
        return Ok(String::from_utf8_lossy(&boot).into_owned());
    }
    let path = Path::new("/proc/sys/kernel/random/uuid");
    let boot = kernel(path).map_err(|error| OwnError::io("read", path, error))?;
    dir.replace(FILE.as_ref(), boot.as_bytes())?;
    Ok(boot)
}

fn kernel(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned())
}
