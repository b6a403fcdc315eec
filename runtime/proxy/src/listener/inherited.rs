//! Listening sockets that a running proxy has handed over to this one. Each has the name of what it is for; one that
//! is not where this process is told to listen is not used.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

/// Sockets that nobody has taken yet, by name.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Mutex<Vec<(String, OwnedFd)>>);

impl Inherited {
    /// These.
    pub(crate) fn new(sockets: Vec<(String, OwnedFd)>) -> Self {
        Self(Mutex::new(sockets))
    }

    /// The listener of this name at this address, where port 0 is any.
    pub(crate) fn listener(&self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        let fits = |listener: &TcpListener| {
            listener.local_addr().is_ok_and(|bound| {
                bound.ip() == address.ip()
                    && (address.port() == 0 || bound.port() == address.port())
            })
        };
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = 0;
        while let Some((found, _)) = sockets.get(at) {
            if found == name {
                let (name, socket) = sockets.swap_remove(at);
                let listener = TcpListener::from(socket);
                if fits(&listener) {
                    return Some(listener);
                }
                // Of the same name there may be one for each family.
                sockets.push((name, listener.into()));
                let last = sockets.len() - 1;
                sockets.swap(at, last);
            }
            at += 1;
        }
        None
    }

    /// Closes what nobody took: where it listens, nobody accepts any more.
    pub(crate) fn close(&self) {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, _) in sockets.drain(..) {
            tracing::warn!(name, "a listener of the proxy before this one is closed");
        }
    }

    /// The socket of this name, whatever it is.
    pub(crate) fn socket(&self, name: &str) -> Option<OwnedFd> {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = sockets.iter().position(|(found, _)| found == name)?;
        Some(sockets.swap_remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_taken_once_and_only_where_it_is_wanted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bound = listener.local_addr().unwrap();
        let other = TcpListener::bind("[::1]:0").ok();
        let mut sockets = vec![("inbound/80".to_owned(), OwnedFd::from(listener))];
        let of_other = other.as_ref().map(|other| other.local_addr().unwrap());
        sockets.extend(other.map(|other| ("inbound/80".to_owned(), OwnedFd::from(other))));
        let inherited = Inherited::new(sockets);
        let any = "127.0.0.1:0".parse().unwrap();
        let elsewhere = "127.0.0.2:0".parse().unwrap();
        assert!(inherited.listener("outbound", any).is_none());
        assert!(inherited.listener("inbound/80", elsewhere).is_none());
        if let Some(of_other) = of_other {
            let taken = inherited.listener("inbound/80", of_other).unwrap();
            assert_eq!(taken.local_addr().unwrap(), of_other);
        }
        let taken = inherited.listener("inbound/80", any).unwrap();
        assert_eq!(taken.local_addr().unwrap(), bound);
        assert!(inherited.listener("inbound/80", any).is_none());
    }
}
