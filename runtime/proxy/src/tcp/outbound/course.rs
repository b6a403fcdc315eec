//! Where a connection of bytes goes, and on which terms. Every decision is the engine's.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_bundle::slice::{Destination, Exchange, Protocol, Target};
use mesh_daemon::telemetry::Reason;
use mesh_engine::gateway::OnwardError;
use mesh_engine::retry::{BudgetState, RetryPolicy};
use mesh_engine::{CalleeTable, Peer, RouteTable};
use tokio::io::AsyncRead;

use super::super::hello::{self, NoHello};
use super::super::inbound;
use super::super::record::Record;
use super::super::{Known, carries_bytes};
use crate::data_plane::Plane;
use crate::http::metrics::Tls;
use crate::tables::Tables;
use crate::upstream::pool::Endpoint;

/// Whither a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Toward {
    /// The callee for which policy has a listener here.
    Listener(SocketAddr),
    /// Where it was going before it was redirected.
    Address(SocketAddr),
    /// Whom TLS names.
    Name,
    /// What the routes of a gateway say that is entered by this port.
    Gateway {
        /// The port that policy speaks of.
        port: u16,
        /// Whose connection it is.
        client_ip: IpAddr,
    },
}

/// Who must be asked whether the connection may go on when policy changes.
#[derive(Clone, Debug)]
pub(super) enum Gate {
    /// The callee asks itself.
    Callee,
    /// The rules about who may leave for an external.
    External { service: String, port: u16 },
    /// The rules of a gateway.
    Gateway {
        port: u16,
        client_ip: IpAddr,
        /// The service outside the mesh that it goes on to, and its port.
        leaves: Option<(String, u16)>,
    },
}

/// Where a connection goes.
#[derive(Debug)]
pub(super) struct Course<'t> {
    /// The branch of the route.
    pub(super) destination: Cow<'t, Destination>,
    /// The port of the callee.
    pub(super) port: u16,
    /// The only endpoint that will do, and whose it is.
    pub(super) pinned: Option<(Arc<Endpoint>, &'t CalleeTable)>,
    /// Timeouts.
    pub(super) exchange: &'t Exchange,
    /// What is tried again.
    pub(super) retry: &'t RetryPolicy,
    /// How often at most.
    pub(super) budget: Option<&'t Arc<BudgetState>>,
    /// Who is asked again.
    pub(super) gate: Gate,
}

impl NoHello {
    /// Counts it, and says how the connection ended.
    pub(super) fn reason(self, plane: &Plane) -> Reason {
        if self == Self::Gone {
            return Reason::ClientDisconnect;
        }
        plane.metrics.rejected_bytes(self.rule());
        Reason::BadRequest(self.rule())
    }
}

/// The name that a client asks for, where what is meant speaks TLS; on any other port nothing is read, and the
/// server may speak first. `Err(None)`: nothing is meant.
pub(super) async fn name<IO: AsyncRead + Unpin>(
    io: &mut IO,
    prefix: &mut Vec<u8>,
    toward: &Toward,
    tables: &Tables,
    limit: Duration,
) -> Result<String, Option<NoHello>> {
    let is_tls = match toward {
        Toward::Name => true,
        // Where it is not known what the address means, TLS was seen, and names it.
        Toward::Address(address) => tables
            .meant(*address, None)
            .is_none_or(|meant| meant.port.is_some_and(speaks_tls)),
        Toward::Listener(address) => {
            let (callee, port) = tables.listens_at(*address).ok_or(None)?;
            callee.port(Some(port)).is_some_and(speaks_tls)
        }
        Toward::Gateway { port, .. } => {
            let table = tables.snapshot().inbound(*port).ok_or(None)?;
            let passes_on = tables
                .entries()
                .port(*port)
                .is_some_and(|listeners| !listeners.is_tls());
            passes_on && table.port(*port).is_some_and(speaks_tls)
        }
    };
    if !is_tls {
        return Ok(String::new());
    }
    hello::server_name(io, prefix, limit).await.map_err(Some)
}

fn speaks_tls(port: mesh_bundle::slice::Port) -> bool {
    port.protocol == Protocol::Tls
}

/// Where the connection goes.
pub(super) fn choose<'t>(
    tables: &'t Tables,
    toward: &Toward,
    name: &str,
    peer_ip: IpAddr,
    record: &mut Record,
) -> Result<Course<'t>, Reason> {
    match toward {
        Toward::Listener(address) => {
            let (callee, port) = tables.listens_at(*address).ok_or(Reason::NoRoute)?;
            of_application(tables, (callee, port), name, peer_ip, record)
        }
        Toward::Address(address) => {
            let named = (!name.is_empty()).then_some(name);
            // As for a host that names nobody.
            let meant = tables.meant(*address, named).ok_or(Reason::AuthzDenied)?;
            let port = meant.port.ok_or(Reason::NoRoute)?.number;
            let meant_by = (meant.callee, port);
            let course = of_application(tables, meant_by, name, peer_ip, record)?;
            Ok(Course {
                pinned: meant.pinned.map(|endpoint| (endpoint, meant.callee)),
                ..course
            })
        }
        Toward::Name => {
            // As for a host that names nobody.
            let callee = tables.snapshot().outbound(name, None);
            let callee = callee.ok_or(Reason::AuthzDenied)?;
            let mut ports = callee.ports().iter().filter(|port| speaks_tls(**port));
            let (Some(port), None) = (ports.next(), ports.next()) else {
                return Err(Reason::NoRoute);
            };
            of_application(tables, (callee, port.number), name, peer_ip, record)
        }
        Toward::Gateway { port, client_ip } => {
            let from = (peer_ip, *client_ip);
            of_gateway(tables, *port, name, from, record)
        }
    }
}

fn of_application<'t>(
    tables: &'t Tables,
    (callee, port): (&'t CalleeTable, u16),
    name: &str,
    peer_ip: IpAddr,
    record: &mut Record,
) -> Result<Course<'t>, Reason> {
    let declared = callee.port(Some(port)).ok_or(Reason::NoRoute)?;
    let state = tables.state(callee).ok_or(Reason::NoRoute)?;
    let identity = match callee.identities() {
        [only] => Some(only),
        _ => None,
    };
    record.found(
        callee.service(),
        declared.protocol,
        if state.dialling.leaves() {
            Tls::None
        } else {
            Tls::Mutual
        },
        identity,
    );
    if !carries_bytes(Some(declared)) {
        return Err(Reason::NoRoute);
    }
    let snapshot = tables.snapshot();
    let known = Known {
        port,
        name,
        peer: Peer::Identity(snapshot.identity()),
        peer_ip,
        client_ip: peer_ip,
    };
    let leaving = known.ask(|connection| {
        let verdict = snapshot.leave_with_bytes(callee, connection)?;
        tables.authz(callee.service()).decided(verdict);
        Some(verdict.is_allowed())
    });
    let gate = match leaving.flatten() {
        None => Gate::Callee,
        Some(allowed) => {
            if !allowed {
                return Err(Reason::AuthzDenied);
            }
            Gate::External {
                service: callee.service().to_owned(),
                port,
            }
        }
    };
    let route = known.ask(|connection| callee.route(connection)).flatten();
    let route = route.ok_or(Reason::NoRoute)?;
    route.name().clone_into(&mut record.route);
    let destination = destination(route, record)?;
    let may_go = known.ask(|connection| snapshot.may_go(callee, route, destination, connection));
    if may_go != Some(true) {
        tables.authz(&destination.target.service).denied();
        return Err(Reason::AuthzDenied);
    }
    let target = &destination.target;
    let other = snapshot.callee(&target.service);
    let gate = match other.filter(|other| other.is_external()) {
        Some(other) => Gate::External {
            service: other.service().to_owned(),
            port: target.port.unwrap_or(port),
        },
        None => gate,
    };
    Ok(Course {
        destination: Cow::Borrowed(destination),
        port,
        pinned: None,
        exchange: route.exchange(),
        retry: route.retry(),
        budget: state.budget.as_ref(),
        gate,
    })
}

fn of_gateway<'t>(
    tables: &'t Tables,
    port: u16,
    name: &str,
    (peer_ip, client_ip): (IpAddr, IpAddr),
    record: &mut Record,
) -> Result<Course<'t>, Reason> {
    let snapshot = tables.snapshot();
    let table = snapshot.inbound(port).ok_or(Reason::AuthzDenied)?;
    let declared = table.port(port).ok_or(Reason::NoRoute)?;
    record.found(
        table.service(),
        declared.protocol,
        Tls::Mutual,
        Some(snapshot.identity()),
    );
    // A swap may have taken the listener away while its connections come.
    let listeners = tables.entries().port(port).ok_or(Reason::NoRoute)?;
    if !listeners.is_tls() && speaks_tls(declared) {
        listeners.entry(name).ok_or(Reason::NoRoute)?;
    }
    let known = Known {
        port,
        name,
        peer: Peer::Unauthenticated,
        peer_ip,
        client_ip,
    };
    let counters = tables.authz(table.service());
    if !inbound::authorise(Some(counters), table, known) {
        return Err(Reason::AuthzDenied);
    }
    let gateway = snapshot.gateway(table.service()).ok_or(Reason::NoRoute)?;
    let route = known.ask(|connection| gateway.route(connection)).flatten();
    let route = route.ok_or(Reason::NoRoute)?;
    route.name().clone_into(&mut record.gateway_route);
    let to = route
        .pick_destination(&mut rand::rng())
        .ok_or(Reason::NoRoute)?;
    let onward = known.ask(|connection| snapshot.onward(route, to, connection));
    let onward = match onward.ok_or(Reason::NoRoute)? {
        Ok(onward) => onward,
        Err(OnwardError::Denied) => {
            tables.authz(&to.target.service).denied();
            return Err(Reason::AuthzDenied);
        }
        Err(_) => return Err(Reason::NoRoute),
    };
    let state = tables.state(onward.callee).ok_or(Reason::NoRoute)?;
    if !carries_bytes(Some(onward.port)) {
        return Err(Reason::NoRoute);
    }
    onward.route.name().clone_into(&mut record.route);
    // `to db subset=v2` has chosen already.
    let destination = match onward.subset {
        Some(subset) => {
            record.subset = Some(subset.to_owned());
            Cow::Owned(Destination::only(Target {
                service: onward.callee.service().to_owned(),
                subset: Some(subset.to_owned()),
                port: Some(onward.port.number),
            }))
        }
        None => Cow::Borrowed(destination(onward.route, record)?),
    };
    Ok(Course {
        destination,
        port: onward.port.number,
        pinned: None,
        exchange: onward.exchange,
        retry: onward.retry,
        budget: state.budget.as_ref(),
        gate: Gate::Gateway {
            port,
            client_ip,
            leaves: onward
                .callee
                .is_external()
                .then(|| (onward.callee.service().to_owned(), onward.port.number)),
        },
    })
}

fn destination<'t>(route: &'t RouteTable, record: &mut Record) -> Result<&'t Destination, Reason> {
    let to = route.pick_destination(&mut rand::rng());
    let to = to.ok_or(Reason::NoRoute)?;
    record.subset.clone_from(&to.target.subset);
    Ok(to)
}
