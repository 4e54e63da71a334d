//! The default paths: the system's for root, and those of the XDG Base Directory
//! Specification for other users.

use nix::unistd::geteuid;
use std::ffi::OsString;
use std::path::PathBuf;

/// The environment variable with another default for the socket.
const SOCKET: &str = "FACRON_SOCKET";

/// The default of each path option of `facrond`. `facronctl` uses them too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    pub conf: PathBuf,
    pub conf_dir: PathBuf,
    pub socket: PathBuf,
    pub state_dir: PathBuf,
    pub runtime_dir: PathBuf,
}

impl Default for Paths {
    /// The defaults for the effective user of this process.
    fn default() -> Self {
        let user = geteuid();
        let variable = |name: &str| std::env::var_os(name);
        let paths = if user.is_root() { Self::system() } else { Self::user(user.as_raw(), variable) };
        paths.with_socket(variable(SOCKET))
    }
}

impl Paths {
    fn system() -> Self {
        Self {
            conf: "/etc/facron.conf".into(),
            conf_dir: "/etc/facron.d".into(),
            socket: "/run/facron/control.sock".into(),
            state_dir: "/var/lib/facron".into(),
            runtime_dir: "/run/facron".into(),
        }
    }

    /// Another socket, unless the variable is empty.
    fn with_socket(self, named: Option<OsString>) -> Self {
        let named = named.filter(|path| !path.is_empty()).map(PathBuf::from);
        Self { socket: named.unwrap_or(self.socket), ..self }
    }

    fn user(uid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        // the specification says to ignore relative ones
        let directory = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = directory("HOME").unwrap_or_else(|| "/".into());
        let under = |name, default| directory(name).unwrap_or_else(|| home.join(default)).join("facron");
        let config = under("XDG_CONFIG_HOME", ".config");
        let runtime_dir = directory("XDG_RUNTIME_DIR")
            .unwrap_or_else(|| PathBuf::from(format!("/run/user/{uid}")))
            .join("facron");
        Self {
            conf: config.join("facron.conf"),
            conf_dir: config.join("conf.d"),
            socket: runtime_dir.join("control.sock"),
            state_dir: under("XDG_STATE_HOME", ".local/state"),
            runtime_dir,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_socket_variable_counts_as_unset() {
        let socket = |named: Option<&str>| Paths::system().with_socket(named.map(OsString::from)).socket;
        assert_eq!(socket(Some("/x/s")), PathBuf::from("/x/s"));
        assert_eq!([socket(Some("")), socket(None)], [(); 2].map(|()| Paths::system().socket));
    }

    #[test]
    fn a_user_has_them_below_home_unless_the_environment_says_else() {
        let bare = Paths::user(7, |name| (name == "HOME").then(|| "/home/u".into()));
        assert_eq!(bare.conf, PathBuf::from("/home/u/.config/facron/facron.conf"));
        assert_eq!(bare.conf_dir, PathBuf::from("/home/u/.config/facron/conf.d"));
        assert_eq!(bare.state_dir, PathBuf::from("/home/u/.local/state/facron"));
        assert_eq!(bare.socket, PathBuf::from("/run/user/7/facron/control.sock"));
        let set = Paths::user(7, |name| match name {
            "XDG_RUNTIME_DIR" => Some("/run/x".into()),
            "XDG_CONFIG_HOME" => Some("relative".into()),
            _ => None,
        });
        assert_eq!(set.socket, PathBuf::from("/run/x/facron/control.sock"));
        assert_eq!(set.conf, PathBuf::from("/.config/facron/facron.conf"));
    }
}
