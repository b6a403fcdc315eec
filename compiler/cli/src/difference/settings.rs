//! What changes besides access, routes, timeouts and retries: settings by name, before and after.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bundle::slice::{ClientAddress, ClientCertificate, EndpointAddress, Protocol};
use mesh_bundle::spiffe::SpiffeId;
use mesh_compiler::diff::slices;
use mesh_compiler::level::Shown;
use mesh_compiler::linked::{Endpoints, Kind, LinkedMesh, Listener, Pool, Service, Subset};
use mesh_syntax::{SourceSet, Span};

use super::Setting;
use super::collect::Meshes;
use super::written::{lines, place, written};

/// Values of one setting, each with its place.
type Lines = Vec<(String, Option<Span>)>;

/// Everything else that changed.
pub(super) fn settings(meshes: &Meshes<'_>, touched: &BTreeSet<&SpiffeId>) -> Vec<Setting> {
    let mut found = Found {
        meshes,
        service: None,
        settings: Vec::new(),
    };
    found.of_mesh();
    for kept in meshes.change.kept() {
        let before = meshes.change.base.service(kept.base);
        let after = meshes.change.head.service(kept.head);
        found.service = Some(after.name.value.clone());
        found.of_service(before, after);
        let is_touched = after.identities.iter().any(|id| touched.contains(id));
        if is_touched && !after.is_external() {
            found.of_inbound(before, after);
        }
    }
    found.settings
}

struct Found<'m> {
    meshes: &'m Meshes<'m>,
    service: Option<String>,
    settings: Vec<Setting>,
}

impl Found<'_> {
    fn add(&mut self, setting: &str, before: &Lines, after: &Lines) {
        let texts = |lines: &Lines, others: &Lines| -> Option<String> {
            let others: BTreeSet<&String> = others.iter().map(|(text, _)| text).collect();
            let own = lines.iter().map(|(text, _)| text.as_str());
            let own: Vec<&str> = own
                .filter(|text| !others.contains(&(*text).to_owned()))
                .collect();
            (!own.is_empty()).then(|| own.join("; "))
        };
        let (was, is) = (texts(before, after), texts(after, before));
        if was.is_none() && is.is_none() {
            return;
        }
        let at = |sources: &SourceSet, lines: &Lines, others: &Lines| {
            let new = lines
                .iter()
                .find(|line| others.iter().all(|other| other.0 != line.0));
            new.and_then(|(_, span)| span.map(|span| place(sources, span)))
        };
        let source =
            at(self.meshes.new, after, before).or_else(|| at(self.meshes.old, before, after));
        self.settings.push(Setting {
            service: self.service.clone(),
            name: setting.to_owned(),
            before: was,
            after: is,
            source,
            environments: Vec::new(),
        });
    }

    fn of_mesh(&mut self) {
        let (base, head) = (self.meshes.change.base, self.meshes.change.head);
        let (old, new) = (self.meshes.old, self.meshes.new);
        for (setting, of) in MESH {
            self.add(setting, &of(base, old), &of(head, new));
        }
    }

    fn of_service(&mut self, before: &Service, after: &Service) {
        let (base, head) = (self.meshes.change.base, self.meshes.change.head);
        for (setting, of) in SERVICE {
            self.add(setting, &of(base, before), &of(head, after));
        }
        self.of_pools("", &before.pool, &after.pool);
        for subset in &after.subsets {
            let name = &subset.name.value;
            let was = before.subsets.iter().find(|was| was.name.value == *name);
            if let Some(was) = was
                && (was.has_own_pool || subset.has_own_pool)
            {
                self.of_pools(&format!("{name}: "), &was.pool, &subset.pool);
            }
        }
    }

    fn of_pools(&mut self, prefix: &str, before: &Pool, after: &Pool) {
        let (was, is) = (shown(before), shown(after));
        let names: BTreeSet<&str> = was.keys().chain(is.keys()).copied().collect();
        let nothing = Lines::new();
        for name in names {
            let of = |pool: &BTreeMap<&'static str, Lines>| pool.get(name).cloned();
            let (was, is) = (of(&was), of(&is));
            self.add(
                &format!("{prefix}{name}"),
                was.as_ref().unwrap_or(&nothing),
                is.as_ref().unwrap_or(&nothing),
            );
        }
    }

    /// What its own proxy is told, where it is told something else.
    fn of_inbound(&mut self, before: &Service, after: &Service) {
        let own = |mesh: &LinkedMesh, service: &Service| {
            let slice = slices::own(mesh, service)?;
            let name = &service.name.value;
            let telemetry = slice
                .telemetry
                .iter()
                .find(|one| one.service == *name)
                .cloned();
            let inbound = slice
                .access
                .services
                .into_iter()
                .find(|one| one.service == *name)?;
            Some((inbound, telemetry))
        };
        let (base, head) = (self.meshes.change.base, self.meshes.change.head);
        let (Some((was, logged)), Some((is, logs))) = (own(base, before), own(head, after)) else {
            return;
        };
        let (old, new) = (self.meshes.old, self.meshes.new);
        let mut compare = |setting, differs: bool, of: fn(&Service) -> Vec<Span>| {
            if differs {
                let was = lines(old, of(before).into_iter());
                let is = lines(new, of(after).into_iter());
                self.add(setting, &was, &is);
            }
        };
        compare("require", was.requirements != is.requirements, |service| {
            let all = service.requirements.iter();
            all.filter_map(|one| one.source.span()).collect()
        });
        compare("rate-limit", was.rate_limits != is.rate_limits, |service| {
            service
                .rate_limits
                .iter()
                .map(|one| one.rate.span)
                .collect()
        });
        compare("probe", was.probes != is.probes, |service| {
            let all = service.probes.iter();
            all.filter_map(|one| one.source.span()).collect()
        });
        compare("telemetry", logged != logs, |service| {
            let log = service.telemetry.access_log.iter().map(|log| log.span);
            let traces = service.telemetry.traces.iter().map(|traces| traces.span);
            log.chain(traces).collect()
        });
        compare("audited rules", was.rules != is.rules, |service| {
            let audited = service
                .access
                .iter()
                .filter(|rule| rule.enforcement != mesh_compiler::model::Enforcement::Enforce);
            audited.filter_map(|rule| rule.source.span()).collect()
        });
    }
}

type OfMesh = fn(&LinkedMesh, &SourceSet) -> Lines;

/// What belongs to no service.
const MESH: &[(&str, OfMesh)] = &[
    ("mesh", |mesh, _| one(&mesh.name.value, mesh.name.span)),
    ("trust-domain", |mesh, _| {
        one(&mesh.trust_domain.value, mesh.trust_domain.span)
    }),
    ("refuse amplification", |mesh, _| {
        let limit = &mesh.refuse.amplification;
        vec![(limit.value.to_string(), limit.source.span())]
    }),
    ("refuse attempts", |mesh, _| {
        let limit = &mesh.refuse.attempts;
        vec![(limit.value.to_string(), limit.source.span())]
    }),
    ("refuse canary-step", |mesh, _| {
        let limit = mesh.refuse.canary_step.iter();
        limit
            .map(|limit| {
                (
                    mesh_compiler::value::percent_text(limit.value),
                    Some(limit.span),
                )
            })
            .collect()
    }),
    ("refuse blast-radius", |mesh, _| {
        let limit = mesh.refuse.blast_radius.iter();
        limit
            .map(|limit| {
                (
                    mesh_compiler::value::percent_text(limit.value),
                    Some(limit.span),
                )
            })
            .collect()
    }),
    ("invariant", |mesh, sources| {
        let claims = mesh.invariants.iter().map(|invariant| {
            let claims = invariant.claims.iter();
            let claims: Vec<String> = claims.map(|claim| written(sources, claim.span)).collect();
            let text = format!("{:?} {{ {} }}", invariant.text.value, claims.join("; "));
            (text, Some(invariant.span))
        });
        claims.collect()
    }),
    ("federate", |mesh, _| {
        let domains = mesh.federates.iter();
        domains.map(|domain| (domain.clone(), None)).collect()
    }),
    ("jwt", |mesh, sources| {
        lines(sources, mesh.jwts.iter().map(|jwt| jwt.span))
    }),
    ("authorizer", |mesh, sources| {
        lines(sources, mesh.authorizers.iter().map(|one| one.span))
    }),
    ("rollout", |mesh, sources| {
        lines(sources, mesh.rollout.iter().map(|rollout| rollout.span))
    }),
    ("team", |mesh, _| {
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

type OfService = fn(&LinkedMesh, &Service) -> Lines;

/// What callers and peers see of a service.
const SERVICE: &[(&str, OfService)] = &[
    ("kind", |_, service| {
        one(service.kind.word(), service.name.span)
    }),
    ("host", |_, service| {
        let hosts = service.hosts.iter();
        hosts
            .map(|host| (host.clone(), Some(service.span)))
            .collect()
    }),
    ("port", |_, service| {
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
    ("identity", |_, service| {
        let all = service.identities.iter();
        all.map(|id| (id.to_string(), Some(service.span))).collect()
    }),
    ("mtls", |_, service| {
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
    ("listen", |_, service| {
        let gateway = service.gateway();
        let listeners = gateway.map_or(&[][..], |gateway| &gateway.listeners);
        listeners
            .iter()
            .map(|one| (listener_text(one), Some(one.span)))
            .collect()
    }),
    ("via", |mesh, service| match &service.kind {
        Kind::External(external) => external
            .via
            .iter()
            .map(|via| (mesh.service(via.value).name.value.clone(), Some(via.span)))
            .collect(),
        Kind::Service | Kind::Gateway(_) => Lines::new(),
    }),
    ("endpoints", |_, service| match &service.endpoints {
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
    }),
    ("subset", |_, service| {
        let subsets = service.subsets.iter();
        subsets
            .map(|one| (subset_text(one), Some(one.span)))
            .collect()
    }),
    ("retry-budget", |_, service| {
        let budget = service.retry_budget.shown();
        let budget = budget.map(|(_, value, source)| (shown_text(value), source.span()));
        budget.into_iter().collect()
    }),
    ("address", |_, service| {
        let addresses = service.reach.addresses.iter();
        addresses
            .map(|one| (one.value.to_string(), Some(one.span)))
            .collect()
    }),
    ("unmeshed", |_, service| {
        let unmeshed = service.reach.unmeshed.iter();
        unmeshed
            .map(|span| ("yes".to_owned(), Some(*span)))
            .collect()
    }),
    ("dial", |_, service| {
        let dials = service.reach.dials.iter().map(|dial| {
            let ports = dial.ports.iter().map(|port| port.value.to_string());
            let ports: Vec<String> = ports.collect();
            let to = dial
                .dial
                .map_or(String::new(), |to| format!(" as {}", to.value));
            let tls = if dial.tls.is_some() { " with TLS" } else { "" };
            (format!("{}{to}{tls}", ports.join(" ")), Some(dial.span))
        });
        dials.collect()
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

fn listener_text(listener: &Listener) -> String {
    let mut text = listener.port.value.to_string();
    for host in &listener.hosts {
        text = format!("{text} host={host}");
    }
    if let Some(tls) = &listener.tls {
        let certificate = tls.certificate.as_ref().map_or("", |name| &name.value);
        text = format!("{text} tls={certificate}");
        if let Some(trust) = &tls.trust {
            text = format!("{text} trust={}", trust.value);
        }
        match tls.client.as_ref().map(|client| client.value) {
            None | Some(ClientCertificate::None) => {}
            Some(ClientCertificate::Optional) => text.push_str(" client=optional"),
            Some(ClientCertificate::Required) => text.push_str(" client=required"),
        }
    }
    match listener.client_address {
        ClientAddress::Peer => text,
        ClientAddress::ProxyProtocol => format!("{text} client-ip=proxy-protocol"),
        ClientAddress::ForwardedFor { hops } => {
            format!("{text} client-ip=forwarded-for hops={hops}")
        }
    }
}

fn subset_text(subset: &Subset) -> String {
    let labels = subset.labels.iter();
    let labels: Vec<String> = labels
        .map(|label| format!("{}={}", label.value.key, label.value.value))
        .collect();
    format!("{} {}", subset.name.value, labels.join(" "))
}

fn shown(pool: &Pool) -> BTreeMap<&'static str, Lines> {
    let fields = pool
        .shown()
        .into_iter()
        .map(|(name, value, source)| (name, vec![(shown_text(value), source.span())]));
    fields.collect()
}

fn shown_text(value: Shown) -> String {
    match value {
        Shown::None => "none".to_owned(),
        Shown::Number(number) => number.to_string(),
        Shown::Text(text) => text,
        Shown::List(list) => list.join(" "),
    }
}
