//! Which callee a connection means that was redirected: its destination says so. A virtual address is
//! that of a service, any other that of one endpoint, and what nobody has is outside the mesh.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_bundle::slice::Port;
use mesh_engine::CalleeTable;

use super::Tables;
use crate::upstream::pool::Endpoint;

/// What is called.
#[derive(Debug)]
pub(crate) struct Meant<'t> {
    /// The service.
    pub(crate) callee: &'t CalleeTable,
    /// Its port; none: it has no such port.
    pub(crate) port: Option<Port>,
    /// The only endpoint that will do.
    pub(crate) pinned: Option<Arc<Endpoint>>,
}

/// Endpoints by address; several services may have one there.
pub(super) type Pins = HashMap<SocketAddr, Vec<Pin>>;

/// An endpoint of a port of a service.
#[derive(Debug)]
pub(super) struct Pin {
    service: Box<str>,
    port: u16,
    endpoint: Arc<Endpoint>,
}

impl Tables {
    /// What a connection to this address means, and a request over it to this host. `None`: nothing that this
    /// workload may call.
    pub(crate) fn meant(&self, address: SocketAddr, host: Option<&str>) -> Option<Meant<'_>> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let port = address.port();
        if let Some(callee) = self.snapshot.outbound_at(address.ip(), port) {
            return Some(Meant {
                callee,
                port: callee.port(Some(port)),
                pinned: None,
            });
        }
        self.pinned(address, host).or_else(|| {
            // Nobody's: then it is outside, where only names say what is what. Its endpoints are those that
            // this proxy knows, wherever the application was led.
            let callee = self.snapshot.outbound(host?, Some(port))?;
            callee.is_external().then(|| Meant {
                callee,
                port: callee.port(Some(port)),
                pinned: None,
            })
        })
    }

    /// The endpoint at this address; of several services that have one there, that of the one that the host
    /// names.
    fn pinned(&self, address: SocketAddr, host: Option<&str>) -> Option<Meant<'_>> {
        let pins = self.pins.as_ref()?.load();
        let named = |pin: &&Pin| {
            let callee = self.snapshot.callee(&pin.service);
            callee.zip(host).is_some_and(|(callee, host)| {
                callee.hosts().iter().any(|pattern| pattern.matches(host))
            })
        };
        let pin = match pins.get(&address)?.as_slice() {
            [only] => only,
            several => {
                let mut named = several.iter().filter(named);
                // None of several wins by its place.
                named.next().filter(|_| named.next().is_none())?
            }
        };
        let callee = self.snapshot.callee(&pin.service)?;
        Some(Meant {
            callee,
            port: callee.port(Some(pin.port)),
            pinned: Some(Arc::clone(&pin.endpoint)),
        })
    }

    /// Notes where endpoints are. Those of services outside are left out: behind one address there may be
    /// many others, which policy does not speak of.
    pub(super) fn pin(&self) {
        let Some(pins) = &self.pins else { return };
        let mut found = Pins::new();
        for callee in self
            .snapshot
            .callees()
            .iter()
            .filter(|callee| !callee.is_external())
        {
            let Some(state) = self.state(callee) else {
                continue;
            };
            let groups = state.groups.load();
            for group in groups.iter() {
                for endpoint in group.whole() {
                    let address = endpoint.address();
                    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                    found.entry(address).or_default().push(Pin {
                        service: callee.service().into(),
                        port: group.port(),
                        endpoint: Arc::clone(endpoint),
                    });
                }
            }
        }
        pins.store(Arc::new(found));
    }
}
