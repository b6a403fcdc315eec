//! Where a redirected connection was going before `meshp redirect` sent it here, and which of these
//! places nobody is taken to. The kernel knows; the client cannot say.

use std::io;
use std::net::SocketAddr;

use mesh_daemon::telemetry::Reason;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::data_plane::Plane;
use crate::http::metrics::Reporter;
use crate::upstream::outside::may_be_dialled;

/// The connection goes nowhere; that has been recorded.
#[derive(Debug)]
pub(super) struct Refused;

/// Where a connection of the application goes; none: it was made to the proxy, and says so itself.
pub(super) fn of_application(
    tcp: &TcpStream,
    peer: SocketAddr,
    plane: &Plane,
) -> Result<Option<SocketAddr>, Refused> {
    let ends = Ends::of(tcp, peer).map_err(|error| {
        tracing::debug!(%peer, %error, "it is gone");
        Refused
    })?;
    ends.outbound().map_err(|reason| {
        plane.refused_connection(Reporter::Source, reason, peer.ip(), ends.original);
        Refused
    })
}

/// The ends of an accepted connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    peer: SocketAddr,
    local: SocketAddr,
    /// None: it came here on its own.
    original: Option<SocketAddr>,
}

impl Ends {
    /// Asks the kernel.
    pub(super) fn of(tcp: &TcpStream, peer: SocketAddr) -> io::Result<Self> {
        let socket = SockRef::from(tcp);
        let local = tcp.local_addr()?;
        let original = match local {
            SocketAddr::V4(_) => socket.original_dst_v4(),
            SocketAddr::V6(_) => socket.original_dst_v6(),
        };
        // An error says that nothing was translated, as when nothing follows connections at all.
        let original = original.ok().and_then(|address| address.as_socket());
        Ok(Self {
            peer,
            local,
            original: original.filter(|original| !is_same(*original, local)),
        })
    }

    /// Where a connection of the application goes; none: it was made to the proxy, and says so itself.
    pub(super) fn outbound(self) -> Result<Option<SocketAddr>, Reason> {
        let Some(original) = self.original else {
            // The identity of this workload is for this host alone.
            let at_home = self.peer.ip().to_canonical().is_loopback() || self.is_own(self.local);
            return if at_home {
                Ok(None)
            } else {
                Err(Reason::AuthzDenied)
            };
        };
        if original.ip().to_canonical().is_loopback() || self.is_own(original) {
            // Our rules leave these alone: somebody else's would lead the proxy to itself.
            return Err(Reason::Loop);
        }
        if !may_be_dialled(original.ip()) {
            return Err(Reason::AuthzDenied);
        }
        Ok(Some(original))
    }

    /// Where a connection from outside goes. `own` are the ports of the proxy itself.
    pub(super) fn inbound(self, own: &[u16]) -> Result<SocketAddr, Reason> {
        let Some(original) = self.original else {
            return Err(Reason::Loop);
        };
        if own.contains(&original.port()) {
            return Err(Reason::Loop);
        }
        // Nobody can call these from outside, and nothing else may look like it.
        if !may_be_dialled(original.ip()) {
            return Err(Reason::AuthzDenied);
        }
        Ok(original)
    }

    /// Where it was going, whatever is thought of that.
    pub(super) fn original(self) -> Option<SocketAddr> {
        self.original
    }

    /// Whether the proxy's host called itself.
    pub(super) fn is_of_itself(self) -> bool {
        self.original.is_some_and(|original| self.is_own(original))
    }

    /// Whether an address is the one that the peer has too.
    fn is_own(self, address: SocketAddr) -> bool {
        address.ip().to_canonical() == self.peer.ip().to_canonical()
    }
}

/// Whether two addresses are one; scopes and flow labels aside, which only one of them may have.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(peer: &str, local: &str, original: Option<&str>) -> Ends {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        Ends {
            peer: address(peer),
            local: address(local),
            original: original.map(address),
        }
    }

    #[track_caller]
    fn outbound(peer: &str, local: &str, original: &str, expected: Result<Option<&str>, Reason>) {
        let original = (!original.is_empty()).then_some(original);
        let found = ends(peer, local, original).outbound();
        let expected = expected.map(|to| to.map(|to| to.parse().unwrap()));
        assert_eq!(found, expected, "{peer} {local} {original:?}");
    }

    #[test]
    fn the_application_goes_where_it_was_going() {
        let (here, app) = ("127.0.0.1:15001", "10.0.0.1:4000");
        outbound(app, here, "10.0.0.2:80", Ok(Some("10.0.0.2:80")));
        outbound(
            "[fd00::1]:4000",
            "[::1]:15001",
            "[fd00::2]:80",
            Ok(Some("[fd00::2]:80")),
        );
        outbound("127.0.0.1:4000", here, "", Ok(None));
        outbound("[::1]:4000", "[::1]:15001", "", Ok(None));
        outbound("10.0.0.1:4000", "10.0.0.1:15001", "", Ok(None));
    }

    /// bad-inputs row 73.
    #[test]
    fn nobody_is_taken_home_or_to_the_metadata() {
        let here = "127.0.0.1:15001";
        let app = "10.0.0.1:4000";
        outbound(
            "10.0.0.9:4000",
            "10.0.0.1:15001",
            "",
            Err(Reason::AuthzDenied),
        );
        outbound(app, here, "127.0.0.1:15001", Err(Reason::Loop));
        outbound(app, here, "10.0.0.1:15006", Err(Reason::Loop));
        outbound(app, here, "[::ffff:127.0.0.1]:80", Err(Reason::Loop));
        for place in [
            "169.254.169.254:80",
            "169.254.1.1:80",
            "0.0.0.0:80",
            "[fe80::1%7]:80",
            "[fe80::1]:80",
            "[fd00:ec2::254]:80",
            "[::ffff:169.254.169.254]:80",
            "224.0.0.1:80",
        ] {
            outbound(app, here, place, Err(Reason::AuthzDenied));
        }
    }

    #[test]
    fn from_outside_only_ports_of_others() {
        let own = [15001, 15006];
        let inbound =
            |original: Option<&str>| ends("10.0.0.9:4", "10.0.0.1:15006", original).inbound(&own);
        assert_eq!(
            inbound(Some("10.0.0.1:80")),
            Ok("10.0.0.1:80".parse().unwrap())
        );
        assert_eq!(inbound(None), Err(Reason::Loop));
        assert_eq!(inbound(Some("10.0.0.1:15001")), Err(Reason::Loop));
        assert_eq!(inbound(Some("127.0.0.1:80")), Err(Reason::AuthzDenied));
        assert_eq!(inbound(Some("[fe80::1%3]:80")), Err(Reason::AuthzDenied));
        assert!(ends("10.0.0.1:4", "10.0.0.1:15006", Some("10.0.0.1:80")).is_of_itself());
    }
}
