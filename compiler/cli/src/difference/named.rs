//! The settings that have a name: what one is in each mesh, and when another value may let somebody in.

use std::collections::BTreeMap;

use mesh_bundle::slice::{EndpointAddress, Protocol};
use mesh_compiler::level::Shown;
use mesh_compiler::linked::{Endpoints, Kind, LinkedMesh, Pool, Service, Subset};
use mesh_compiler::model::Extendable;
use mesh_compiler::value::{duration_text, percent_text};
use mesh_syntax::Span;

use super::said;

/// Values of one setting, each with its place.
pub(super) type Lines = Vec<(String, Option<Span>)>;

/// When a change of a setting may let in what was refused, or take away what keeps it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Widens {
    /// It never does.
    Never,
    /// Something that was there is gone or another.
    Lost,
    /// Something is there that was not.
    Gained,
    /// A limit is higher, or gone.
    Higher,
}

impl Widens {
    /// Whether this change does.
    pub(super) fn is_so(self, before: Option<&str>, after: Option<&str>) -> bool {
        match self {
            Self::Never => false,
            Self::Lost => before.is_some(),
            Self::Gained => after.is_some(),
            Self::Higher => match (before.map(limit), after.map(limit)) {
                (Some(before), Some(after)) => after > before,
                (before, _) => before.is_some(),
            },
        }
    }
}

fn limit(text: &str) -> f64 {
    text.trim_end_matches('%').parse().unwrap_or(f64::INFINITY)
}

pub(super) type OfMesh = fn(&LinkedMesh) -> Lines;

/// What belongs to no service.
pub(super) const MESH: &[(&str, Widens, OfMesh)] = &[
    ("mesh", Widens::Never, |mesh| {
        one(&mesh.name.value, mesh.name.span)
    }),
    ("trust-domain", Widens::Lost, |mesh| {
        one(&mesh.trust_domain.value, mesh.trust_domain.span)
    }),
    ("federate", Widens::Gained, |mesh| {
        let domains = mesh.federates.iter();
        domains.map(|domain| (domain.clone(), None)).collect()
    }),
    ("authorizer", Widens::Lost, |mesh| {
        let all = mesh.authorizers.iter();
        all.map(|one| (said::authorizer(mesh, one), Some(one.span)))
            .collect()
    }),
    ("rollout", Widens::Never, |mesh| {
        let all = mesh.rollout.iter();
        all.map(|one| (said::rollout(one), Some(one.span)))
            .collect()
    }),
];

/// What keeps changes from doing harm: no proxy sees it, and a change that takes it away is none to be missed.
pub(super) const GUARDS: &[(&str, Widens, OfMesh)] = &[
    ("refuse amplification", Widens::Higher, |mesh| {
        let limit = &mesh.refuse.amplification;
        vec![(limit.value.to_string(), limit.source.span())]
    }),
    ("refuse attempts", Widens::Higher, |mesh| {
        let limit = &mesh.refuse.attempts;
        vec![(limit.value.to_string(), limit.source.span())]
    }),
    ("refuse canary-step", Widens::Higher, |mesh| {
        let limit = mesh.refuse.canary_step.iter();
        limit
            .map(|limit| (percent_text(limit.value), Some(limit.span)))
            .collect()
    }),
    ("refuse blast-radius", Widens::Higher, |mesh| {
        let limit = mesh.refuse.blast_radius.iter();
        limit
            .map(|limit| (percent_text(limit.value), Some(limit.span)))
            .collect()
    }),
    ("invariant", Widens::Lost, |mesh| {
        let all = mesh.invariants.iter();
        all.map(|one| (said::invariant(mesh, one), Some(one.span)))
            .collect()
    }),
    ("suppress", Widens::Gained, |mesh| {
        let all = mesh.suppressions.iter();
        all.map(|one| (said::suppression(one), Some(one.span)))
            .collect()
    }),
    ("inventory", Widens::Never, |mesh| {
        let all = mesh.inventory.iter();
        all.flat_map(|one| said::inventory(mesh, one)).collect()
    }),
    ("team", Widens::Lost, |mesh| {
        let teams = mesh.teams.iter().map(|team| {
            let owns = team.owns.iter().map(|own| format!("{:?}", own.value));
            let services = team.services.iter().map(|id| mesh.service(*id));
            let services = services.map(|service| service.name.value.clone());
            let all: Vec<String> = owns.chain(services).collect();
            let text = format!("{} {{ {} }}", team.name.value, all.join(" "));
            (text, Some(team.span))
        });
        teams.collect()
    }),
];

/// The same of one service.
pub(super) const SERVICE_GUARDS: &[(&str, Widens, OfService)] = &[
    ("callers-may-extend", Widens::Gained, |_, service| {
        let all = service.callers_may_extend.iter();
        all.map(|field| {
            let word = match field {
                Extendable::Timeout => "timeout",
                Extendable::Attempts => "attempts",
                Extendable::PerTry => "per-try",
                Extendable::Causes => "causes",
            };
            (word.to_owned(), Some(service.span))
        })
        .collect()
    }),
    ("facts replicas", Widens::Never, |_, service| {
        let fact = service.facts.replicas.iter();
        fact.map(|fact| (fact.value.to_string(), Some(fact.span)))
            .collect()
    }),
    ("facts capacity", Widens::Never, |_, service| {
        let fact = service.facts.capacity.iter();
        fact.map(|fact| (fact.value.to_string(), Some(fact.span)))
            .collect()
    }),
    ("facts load", Widens::Never, |_, service| {
        let fact = service.facts.load.iter();
        fact.map(|fact| (fact.value.to_string(), Some(fact.span)))
            .collect()
    }),
    ("facts handling", Widens::Never, |_, service| {
        let fact = service.facts.handling.iter();
        fact.map(|fact| (duration_text(fact.value), Some(fact.span)))
            .collect()
    }),
];

pub(super) type OfService = fn(&LinkedMesh, &Service) -> Lines;

/// What callers and peers see of a service.
pub(super) const SERVICE: &[(&str, Widens, OfService)] = &[
    ("kind", Widens::Never, |_, service| {
        one(service.kind.word(), service.name.span)
    }),
    ("host", Widens::Never, |_, service| {
        let hosts = service.hosts.iter();
        hosts
            .map(|host| (host.clone(), Some(service.span)))
            .collect()
    }),
    ("port", Widens::Never, |_, service| {
        let text = |number: u16, protocol| format!("{number} {}", protocol_text(protocol));
        let ports = service.ports.iter();
        ports
            .map(|port| {
                (
                    text(port.number.value, port.protocol),
                    Some(port.number.span),
                )
            })
            .collect()
    }),
    ("identity", Widens::Never, |_, service| {
        let all = service.identities.iter();
        all.map(|id| (id.to_string(), Some(service.span))).collect()
    }),
    ("mtls", Widens::Never, |_, service| {
        // Gateways are entered as their listeners say, and where no proxy stands the mode means nothing.
        let is_guarded = matches!(service.kind, Kind::Service) && service.reach.unmeshed.is_none();
        if !is_guarded {
            return Lines::new();
        }
        let word = |mode| match mode {
            None => "strict",
            Some(mesh_bundle::slice::MtlsMode::Permissive) => "permissive",
            Some(mesh_bundle::slice::MtlsMode::Off) => "off",
        };
        let of_ports = service.ports.iter().filter_map(|port| {
            let mode = port.mtls.as_ref()?;
            let text = format!("{} on port {}", word(mode.value), port.number.value);
            Some((text, Some(mode.span)))
        });
        let whole = (
            word(service.mtls.value).to_owned(),
            service.mtls.source.span(),
        );
        std::iter::once(whole).chain(of_ports).collect()
    }),
    ("listen", Widens::Never, |_, service| {
        let gateway = service.gateway();
        let listeners = gateway.map_or(&[][..], |gateway| &gateway.listeners);
        listeners
            .iter()
            .map(|one| (said::listener(one), Some(one.span)))
            .collect()
    }),
    ("via", Widens::Never, |mesh, service| match &service.kind {
        Kind::External(external) => external
            .via
            .iter()
            .map(|via| (mesh.service(via.value).name.value.clone(), Some(via.span)))
            .collect(),
        Kind::Service | Kind::Gateway(_) => Lines::new(),
    }),
    ("endpoints", Widens::Never, |_, service| {
        match &service.endpoints {
            Endpoints::Discovered => vec![("discovered".to_owned(), Some(service.span))],
            Endpoints::Declared(endpoints) => endpoints
                .iter()
                .map(|endpoint| {
                    let mut text = match &endpoint.value.address {
                        EndpointAddress::Static(address) => address.to_string(),
                        EndpointAddress::Dns { name, port } => format!("{name}:{port}"),
                    };
                    for label in &endpoint.value.labels {
                        text = format!("{text} {}={}", label.key, label.value);
                    }
                    (text, Some(endpoint.span))
                })
                .collect(),
        }
    }),
    ("subset", Widens::Never, |_, service| {
        let subsets = service.subsets.iter();
        subsets
            .map(|one| (subset_text(one), Some(one.span)))
            .collect()
    }),
    ("retry-budget", Widens::Never, |_, service| {
        let budget = service.retry_budget.shown();
        let budget = budget.map(|(_, value, source)| (shown_text(value), source.span()));
        budget.into_iter().collect()
    }),
    ("address", Widens::Never, |_, service| {
        let addresses = service.reach.addresses.iter();
        addresses
            .map(|one| (one.value.to_string(), Some(one.span)))
            .collect()
    }),
    ("unmeshed", Widens::Never, |_, service| {
        let unmeshed = service.reach.unmeshed.iter();
        unmeshed
            .map(|span| ("yes".to_owned(), Some(*span)))
            .collect()
    }),
    ("dial", Widens::Never, |_, service| {
        let dials = service.reach.dials.iter();
        dials.map(|one| (said::dial(one), Some(one.span))).collect()
    }),
    ("require", Widens::Lost, |mesh, service| {
        let all = service.requirements.iter();
        all.map(|one| (said::requirement(mesh, service, one), one.source.span()))
            .collect()
    }),
    ("rate-limit", Widens::Never, |mesh, service| {
        let all = service.rate_limits.iter();
        all.map(|one| (said::rate_limit(mesh, service, one), Some(one.rate.span)))
            .collect()
    }),
    ("probe", Widens::Gained, |_, service| {
        let all = service.probes.iter();
        all.map(|one| (said::probe(one), one.source.span()))
            .collect()
    }),
    ("calls", Widens::Never, |mesh, service| {
        let all = service.calls.iter();
        all.map(|one| (said::call(mesh, one), Some(one.span)))
            .collect()
    }),
    ("delegate", Widens::Gained, |_, service| {
        let delegates = service
            .gateway()
            .map_or(&[][..], |gateway| &gateway.delegates);
        delegates
            .iter()
            .map(|one| (said::delegate(one), Some(one.span)))
            .collect()
    }),
];

fn one(text: &str, span: Span) -> Lines {
    vec![(text.to_owned(), Some(span))]
}

fn protocol_text(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
        Protocol::Tls => "tls",
    }
}

fn subset_text(subset: &Subset) -> String {
    let labels = subset.labels.iter();
    let labels: Vec<String> = labels
        .map(|label| format!("{}={}", label.value.key, label.value.value))
        .collect();
    format!("{} {}", subset.name.value, labels.join(" "))
}

pub(super) fn shown(pool: &Pool) -> BTreeMap<&'static str, Lines> {
    let fields = pool
        .shown()
        .into_iter()
        .map(|(name, value, source)| (name, vec![(shown_text(value), source.span())]));
    let mut fields: BTreeMap<&'static str, Lines> = fields.collect();
    let method = &pool.balance.method;
    let span = method.source.span();
    if !method.value.keys.is_empty() {
        let keys: Vec<String> = method.value.keys.iter().map(said::key).collect();
        fields.insert("balance_keys", vec![(keys.join(", "), span)]);
    }
    if let Some(choices) = method.value.choices {
        fields.insert("balance_choices", vec![(choices.to_string(), span)]);
    }
    fields
}

fn shown_text(value: Shown) -> String {
    match value {
        Shown::None => "none".to_owned(),
        Shown::Number(number) => number.to_string(),
        Shown::Text(text) => text,
        Shown::List(list) => list.join(" "),
    }
}
