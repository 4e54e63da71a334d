//! Who a client is and what it may do.

use super::follow::{Connection, Follower};
use super::shares::{Limits, Place};
use crate::kernel::peer::Peer;
use facron_proto::method::{
    Explain, GetStatus, List, Method, Show, SubscriptionId, Tail, Unsubscribe, Version,
};
use facron_proto::rpc::{Code, Error};
use nix::unistd::{Gid, geteuid};
use std::sync::Arc;

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything: root and the daemon's own user.
    Full,
    /// What changes nothing: members of the group `facron`.
    Read,
    Denied,
}

impl Access {
    const READING: [&str; 7] = [
        Version::NAME,
        List::NAME,
        Show::NAME,
        Tail::NAME,
        Unsubscribe::NAME,
        GetStatus::NAME,
        Explain::NAME,
    ];

    /// What a peer may do, given the group whose members may read.
    pub fn of(peer: &Peer, readers: Option<Gid>) -> Self {
        if peer.uid == 0 || peer.uid == geteuid().as_raw() {
            Self::Full
        } else if readers.is_some_and(|group| peer.is_member(group.as_raw())) {
            Self::Read
        } else {
            Self::Denied
        }
    }

    fn permits(self, method: &str) -> bool {
        match self {
            Self::Full => true,
            Self::Read => Self::READING.contains(&method),
            Self::Denied => false,
        }
    }
}

/// The client that a request comes from.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its user when it connected.
    pub uid: u32,
    pub access: Access,
    pub(super) connection: Arc<Connection>,
}

impl Caller {
    pub(super) fn new(uid: u32, access: Access, place: Place) -> Self {
        Self { uid, access, connection: Arc::new(Connection::new(place)) }
    }

    pub fn limits(&self) -> Limits {
        self.connection.place().limits()
    }

    /// A new subscription of its connection. Records sent to the follower reach
    /// the client after the reply of the method that is being served.
    pub fn subscribe(&self) -> Result<Follower, Error> {
        Connection::subscribe(&self.connection)
    }

    /// Ends a subscription of its connection.
    pub(super) fn unsubscribe(&self, id: SubscriptionId) -> Result<(), Error> {
        if self.connection.unsubscribe(id) {
            Ok(())
        } else {
            Err(Error::new(Code::FAILED, format!("this connection has no subscription {id}")))
        }
    }

    /// An error unless it may call this method.
    pub(super) fn check(&self, method: &str) -> Result<(), Error> {
        if self.access.permits(method) {
            return Ok(());
        }
        let who = match self.access {
            Access::Read => "members of the group facron may only read",
            _ => "only root, the daemon's own user and the group facron may use this socket",
        };
        Err(Error::new(Code::NOT_PERMITTED, format!("{method} is not permitted to uid {}: {who}", self.uid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_by_user_then_by_group() {
        let readers = Some(Gid::from_raw(77));
        let peer = |uid, gid, groups: &[u32]| Peer { pid: 1, uid, gid, groups: groups.to_vec() };
        let stranger = geteuid().as_raw() + 1000;
        assert_eq!(Access::of(&peer(0, 5, &[]), None), Access::Full);
        assert_eq!(Access::of(&peer(geteuid().as_raw(), 5, &[]), None), Access::Full);
        assert_eq!(Access::of(&peer(stranger, 77, &[]), readers), Access::Read);
        assert_eq!(Access::of(&peer(stranger, 5, &[6, 77]), readers), Access::Read);
        assert_eq!(Access::of(&peer(stranger, 5, &[6]), readers), Access::Denied);
        assert_eq!(Access::of(&peer(stranger, 0, &[0]), None), Access::Denied);
    }
}
