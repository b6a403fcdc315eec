//! By what applications reach whom they call, and what of it a change takes away: hosts and virtual addresses. No rule
//! refuses such a call; nobody is found.

use mesh_engine::host::HostPattern;
use mesh_syntax::Span;

use super::{Change, Kept};
use crate::linked::{LinkedMesh, Service};

/// A way to a service that is gone.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// The service that it led to.
    pub service: Kept,
    /// Who declares to call it, ascending.
    pub callers: Vec<Kept>,
    /// Where it is named in the head.
    pub span: Span,
    /// What is gone.
    pub what: What,
    /// The service that it leads to now.
    pub now: Option<Kept>,
}

/// What is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A name, which requests have as `Host`.
    Host(String),
    /// A virtual address.
    Address(String),
}

/// All that is gone, in the order of services; only of those whom somebody declares to call before and after.
pub fn of(change: Change<'_>) -> Vec<Dropped> {
    let mut found = Vec::new();
    for service in change.kept() {
        let (before, after) = (
            change.base.service(service.base),
            change.head.service(service.head),
        );
        if before.gateway().is_some() || after.gateway().is_some() {
            continue;
        }
        let lost: Vec<What> = hosts(before, after)
            .chain(addresses(before, after))
            .collect();
        if lost.is_empty() {
            continue;
        }
        let callers: Vec<Kept> = callers(change, service).collect();
        for what in lost.into_iter().filter(|_| !callers.is_empty()) {
            let owner = owner(change.head, &what, after);
            found.push(Dropped {
                service,
                callers: callers.clone(),
                span: after.name.span,
                now: owner.and_then(|now| change.kept_service(now.id)),
                what,
            });
        }
    }
    found
}

fn callers(change: Change<'_>, service: Kept) -> impl Iterator<Item = Kept> + '_ {
    let entering = change.head.edges.entering(service.head);
    let used = entering.filter(|edge| edge.is_used() && edge.routed.is_empty());
    used.filter_map(move |edge| {
        let caller = change.kept_service(edge.caller)?;
        let before = change.base.edge(caller.base, service.base)?;
        before.is_used().then_some(caller)
    })
}

fn hosts<'m>(before: &'m Service, after: &'m Service) -> impl Iterator<Item = What> + 'm {
    let is_gone = move |host: &&String| {
        let takes = |own: &String| {
            own == *host
                || HostPattern::parse(own).is_ok_and(|pattern| {
                    HostPattern::parse(host).is_ok_and(|host| {
                        host.literal()
                            .is_some_and(|literal| pattern.matches(literal))
                    })
                })
        };
        !after.hosts.iter().any(takes)
    };
    before.hosts.iter().filter(is_gone).cloned().map(What::Host)
}

fn addresses<'m>(before: &'m Service, after: &'m Service) -> impl Iterator<Item = What> + 'm {
    let kept = move |address: &ipnet::IpNet| {
        let mut own = after.reach.addresses.iter();
        own.any(|own| own.value.contains(address))
    };
    let all = before.reach.addresses.iter().map(|address| address.value);
    all.filter(move |address| !kept(address))
        .map(|address| What::Address(text(address)))
}

/// As policy has it: one address without its length.
fn text(address: ipnet::IpNet) -> String {
    if address.prefix_len() == address.max_prefix_len() {
        address.addr().to_string()
    } else {
        address.to_string()
    }
}

/// Who has it in the head.
fn owner<'m>(head: &'m LinkedMesh, what: &What, but: &Service) -> Option<&'m Service> {
    let has = |service: &&Service| match what {
        What::Host(host) => service.gateway().is_none() && service.hosts.contains(host),
        What::Address(address) => {
            let mut own = service.reach.addresses.iter();
            own.any(|own| text(own.value) == *address)
        }
    };
    let mut services = head.services.iter();
    services.find(|service| service.id != but.id && has(service))
}
