//! How a service or gateway is entered.

use std::collections::HashMap;

use mesh_bundle::slice::{
    AccessRule, Condition, Effect, Enforcement, InboundService, Listener, MtlsMode, Port, PortMtls,
    Principal, Probe, RateLimit, Requirement, RequirementKind,
};

use crate::condition::{ConditionError, ConditionMatcher, Reading};
use crate::host::{HostIndex, HostPattern, HostPatternError};
use crate::jwt::{Brought, Invalid};
use crate::path::Accepts;
use crate::rbac::{Rule, RuleError, Rules, Verdict};
use crate::request::{Peer, Request};

/// One service or gateway as its own proxy sees it.
#[derive(Clone, Debug)]
pub struct InboundTable {
    service: Box<str>,
    ports: Box<[Port]>,
    rules: Rules,
    /// How many of the rules policy has; those of probes come after.
    own_rules: usize,
    listeners: Box<[Listener]>,
    /// By port, then by host; positions in `listeners`.
    hosts: HashMap<u16, HostIndex<Option<usize>>>,
    mtls: Box<[PortMtls]>,
    requirements: Box<[RequirementTable]>,
    /// Names of the token providers that these speak of, each once.
    token_providers: Box<[Box<str>]>,
    rate_limits: Box<[RateLimitTable]>,
    probes: bool,
    accepts: Accepts,
}

/// What a request must bring beyond an allow rule, compiled.
#[derive(Clone, Debug)]
pub struct RequirementTable {
    requirement: Requirement,
    applies: Applies,
}

/// How many requests may enter, compiled.
#[derive(Clone, Debug)]
pub struct RateLimitTable {
    limit: RateLimit,
    applies: Applies,
}

/// Which requests something is about.
#[derive(Clone, Debug)]
struct Applies {
    route: Option<Box<str>>,
    conditions: Box<[ConditionMatcher]>,
}

/// Why access to a service is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    /// A rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A condition of a requirement or rate limit.
    #[error("a condition of a requirement or rate limit")]
    Condition(#[from] ConditionError),
    /// A host of a listener.
    #[error("bad host pattern {pattern:?}")]
    Host {
        /// As written.
        pattern: String,
        /// Why.
        source: HostPatternError,
    },
    /// Two listeners that nothing tells apart.
    #[error("two listeners of port {port} take host {host:?}")]
    TwoListeners {
        /// The port.
        port: u16,
        /// The pattern that both have.
        host: String,
    },
}

impl InboundTable {
    /// Compiles a service of a slice.
    pub fn build(service: &InboundService) -> Result<Self, InboundError> {
        let mut rules = service.rules.clone();
        rules.extend(service.probes.iter().map(probe));
        let requirement = |requirement: &Requirement| {
            Ok(RequirementTable {
                applies: Applies::build(requirement.route.as_deref(), &requirement.conditions)?,
                requirement: requirement.clone(),
            })
        };
        let limit = |limit: &RateLimit| {
            Ok(RateLimitTable {
                applies: Applies::build(limit.route.as_deref(), &limit.conditions)?,
                limit: limit.clone(),
            })
        };
        let requirements = service.requirements.iter().map(requirement);
        let rate_limits = service.rate_limits.iter().map(limit);
        Ok(Self {
            service: service.service.as_str().into(),
            ports: service.ports.as_slice().into(),
            rules: Rules::build(&rules)?,
            own_rules: service.rules.len(),
            listeners: service.listeners.as_slice().into(),
            hosts: hosts(&service.listeners)?,
            mtls: service.mtls.as_slice().into(),
            token_providers: token_providers(service),
            requirements: requirements.collect::<Result<_, ConditionError>>()?,
            rate_limits: rate_limits.collect::<Result<_, ConditionError>>()?,
            probes: !service.probes.is_empty(),
            accepts: Accepts::new(&service.path_accepts),
        })
    }

    /// Name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// What the paths of its requests may hold, by its own routes.
    pub fn path_accepts(&self) -> Accepts {
        self.accepts
    }

    /// Its ports.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// The port of that number.
    pub fn port(&self, number: u16) -> Option<Port> {
        self.ports
            .iter()
            .find(|port| port.number == number)
            .copied()
    }

    /// What a port takes instead of mTLS alone; `None`: strict.
    pub fn mtls(&self, port: u16) -> Option<MtlsMode> {
        let found = self.mtls.iter().find(|mtls| mtls.port == port);
        found.map(|mtls| mtls.mode)
    }

    /// The listener of a port that takes this name, the SNI of a connection or the host of a request:
    /// the one with the most specific host. Without a name only one for any host will do. A request whose
    /// host leads to another listener than its connection's SNI is misdirected (RFC 9110 §15.5.20).
    pub fn listener(&self, port: u16, name: Option<&str>) -> Option<&Listener> {
        let hosts = self.hosts.get(&port)?;
        // No name has an empty label, so this one is taken by `**` alone.
        let position = hosts.find(name.unwrap_or_default(), |position| *position)?;
        self.listeners.get(position)
    }

    /// All listeners, in the order of the slice.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Whether the request may enter. What a probe admits, it does by a rule of its own. Where only mutual TLS
    /// is taken, that is all that a peer in plaintext may do, and where only plaintext is, nobody has an
    /// identity; a gateway's clients are met by its listeners.
    pub fn authorise(&self, request: &Request<'_>) -> Verdict<'_> {
        self.rules.authorise_from(self.admitting(request), request)
    }

    /// The first rule that may admit such a peer.
    fn admitting(&self, request: &Request<'_>) -> usize {
        match (self.mtls(request.port), request.peer) {
            _ if !self.listeners.is_empty() => 0,
            (None, Peer::Unauthenticated) => self.own_rules,
            (Some(MtlsMode::Off), Peer::Identity(_)) => self.rules.iter().len(),
            _ => 0,
        }
    }

    /// Whether a connection of bytes may enter, see [`Rules::authorise_connection`].
    pub fn authorise_connection(&self, connection: &Request<'_>) -> Verdict<'_> {
        let admitting = self.admitting(connection);
        self.rules.authorise_connection_from(admitting, connection)
    }

    /// The rules that only log and that take the request.
    pub fn audit_hits<'t>(&'t self, request: &Request<'t>) -> impl Iterator<Item = &'t Rule> {
        self.rules.audit_hits(request)
    }

    /// Its rules, those of probes last.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether something is admitted in plaintext although mTLS is strict.
    pub fn has_probes(&self) -> bool {
        self.probes
    }

    /// What this request must bring; `route` is the gateway's route that takes it.
    pub fn requirements(
        &self,
        request: &Request<'_>,
        route: Option<&str>,
    ) -> impl Iterator<Item = &Requirement> {
        let about = self.requirements_by_position(request, route);
        about.map(|(_, requirement)| requirement)
    }

    /// The same, each with its place among those of the slice.
    pub fn requirements_by_position(
        &self,
        request: &Request<'_>,
        route: Option<&str>,
    ) -> impl Iterator<Item = (usize, &Requirement)> {
        let about = self
            .requirements
            .iter()
            .enumerate()
            .filter(move |(_, each)| each.applies.to(request, route));
        about.map(|(position, each)| (position, &each.requirement))
    }

    /// The rate limits that count this request, each with its place among those of the slice; `route` is
    /// the gateway's route that takes it.
    pub fn rate_limits(
        &self,
        request: &Request<'_>,
        route: Option<&str>,
    ) -> impl Iterator<Item = (usize, &RateLimit)> {
        let about = self
            .rate_limits
            .iter()
            .enumerate()
            .filter(move |(_, each)| each.applies.to(request, route));
        about.map(|(position, each)| (position, &each.limit))
    }

    /// The names of the token providers that its requirements speak of, whether or not these are about a request: a
    /// token that is there and good is known to every rule.
    pub fn token_providers(&self) -> &[Box<str>] {
        &self.token_providers
    }

    /// The first requirement whose token the request does not bring, by its place among those of the slice, and why
    /// what it brings for the provider does not do. Where a token is only accepted, only a wrong one does not.
    pub fn unmet_token(
        &self,
        request: &Request<'_>,
        route: Option<&str>,
        brought: impl Fn(&str) -> Brought,
    ) -> Option<(usize, &str, Invalid)> {
        let mut asked = self.requirements_by_position(request, route);
        asked.find_map(|(position, requirement)| {
            let (provider, why) = match &requirement.kind {
                RequirementKind::RequireJwt(provider) => {
                    (provider, brought(provider).unless_verified())
                }
                RequirementKind::AcceptJwt(provider) => {
                    (provider, brought(provider).unless_acceptable())
                }
                RequirementKind::RequireAuthorizer(_) => return None,
            };
            Some((position, provider.as_str(), why?))
        })
    }

    /// The names of the authorizers that its requirements speak of, whether or not these are about a request.
    pub fn authorizers(&self) -> impl Iterator<Item = &str> {
        self.gates()
            .filter(|(gate, _)| *gate == Gate::Authorizer)
            .map(|(_, name)| name)
    }

    /// The authorizers that are asked about this request, in order; `route` is the gateway's route that takes it.
    pub fn asked(&self, request: &Request<'_>, route: Option<&str>) -> impl Iterator<Item = &str> {
        let about = self.requirements(request, route);
        about.filter_map(|requirement| match &requirement.kind {
            RequirementKind::RequireAuthorizer(name) => Some(name.as_str()),
            RequirementKind::RequireJwt(_) | RequirementKind::AcceptJwt(_) => None,
        })
    }

    /// The names of the token providers and authorizers that its requirements speak of.
    pub(crate) fn gates(&self) -> impl Iterator<Item = (Gate, &str)> {
        self.requirements
            .iter()
            .map(|each| match &each.requirement.kind {
                RequirementKind::RequireJwt(name) | RequirementKind::AcceptJwt(name) => {
                    (Gate::Jwt, name.as_str())
                }
                RequirementKind::RequireAuthorizer(name) => (Gate::Authorizer, name.as_str()),
            })
    }
}

/// What a requirement asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Jwt,
    Authorizer,
}

impl Applies {
    fn build(route: Option<&str>, conditions: &[Condition]) -> Result<Self, ConditionError> {
        Ok(Self {
            route: route.map(Into::into),
            conditions: conditions
                .iter()
                .map(ConditionMatcher::compile)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Like `deny`, it needs one line of a header sent several times: whoever adds lines must not slip
    /// out of a requirement.
    fn to(&self, request: &Request<'_>, route: Option<&str>) -> bool {
        let of_route = self
            .route
            .as_deref()
            .is_none_or(|wanted| route == Some(wanted));
        let holds = |condition: &ConditionMatcher| condition.matches(request, Reading::Some);
        of_route && self.conditions.iter().all(holds)
    }
}

/// "`probe` admits exactly GET of that path in plaintext". `deny` beats it as it beats `allow`.
fn probe(probe: &Probe) -> AccessRule {
    let mut conditions = vec![
        Condition::Method(vec!["GET".to_owned()]),
        Condition::Path(probe.paths.clone()),
    ];
    if !probe.peer_ip.is_empty() {
        conditions.push(Condition::PeerIp(probe.peer_ip.clone()));
    }
    AccessRule {
        name: "probe".to_owned(),
        effect: Effect::Allow,
        enforcement: Enforcement::Enforce,
        who: vec![Principal::Unauthenticated],
        conditions,
    }
}

fn token_providers(service: &InboundService) -> Box<[Box<str>]> {
    let mut names: Vec<Box<str>> = Vec::new();
    for requirement in &service.requirements {
        let (RequirementKind::RequireJwt(name) | RequirementKind::AcceptJwt(name)) =
            &requirement.kind
        else {
            continue;
        };
        if !names.iter().any(|known| **known == **name) {
            names.push(name.as_str().into());
        }
    }
    names.into()
}

fn hosts(listeners: &[Listener]) -> Result<HashMap<u16, HostIndex<Option<usize>>>, InboundError> {
    let mut ports: HashMap<u16, HostIndex<Option<usize>>> = HashMap::new();
    for (position, listener) in listeners.iter().enumerate() {
        let any = ["**".to_owned()];
        let patterns = if listener.hosts.is_empty() {
            any.as_slice()
        } else {
            listener.hosts.as_slice()
        };
        let index = ports.entry(listener.port).or_default();
        for text in patterns {
            let pattern = HostPattern::parse(text).map_err(|source| InboundError::Host {
                pattern: text.clone(),
                source,
            })?;
            let place = index.entry(&pattern);
            // Two spellings of one host in one listener are one.
            if place.is_some_and(|earlier| earlier != position) {
                return Err(InboundError::TwoListeners {
                    port: listener.port,
                    host: text.clone(),
                });
            }
            *place = Some(position);
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::ClientAddress;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::path;
    use crate::testing::{exact, id, not, path as path_is};

    fn listener(port: u16, hosts: &[&str]) -> Listener {
        Listener {
            port,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            tls: None,
            client_address: ClientAddress::Peer,
        }
    }

    fn table(change: impl FnOnce(&mut InboundService)) -> Result<InboundTable, InboundError> {
        let mut service = InboundService {
            service: "public".into(),
            ..InboundService::default()
        };
        change(&mut service);
        InboundTable::build(&service)
    }

    #[test]
    fn the_most_specific_listener_of_the_port() {
        let table = table(|service| {
            service.listeners = vec![
                listener(443, &[]),
                listener(443, &["*.shop.example", "shop.example"]),
                listener(443, &["a.shop.example"]),
                listener(8443, &["shop.example"]),
            ];
        })
        .unwrap();
        let found = |port, name| {
            let found = table.listener(port, name)?;
            let mut listeners = table.listeners().iter();
            listeners.position(|listener| std::ptr::eq(listener, found))
        };
        assert_eq!(found(443, Some("a.shop.example")), Some(2));
        assert_eq!(found(443, Some("b.shop.example")), Some(1));
        assert_eq!(found(443, Some("a.b.shop.example")), Some(0));
        assert_eq!(found(443, None), Some(0));
        assert_eq!(found(8443, Some("shop.example")), Some(3));
        assert_eq!(found(8443, None), None);
        assert_eq!(found(80, Some("shop.example")), None);
    }

    #[test]
    fn listeners_that_nothing_tells_apart() {
        let error = table(|service| {
            service.listeners = vec![listener(80, &["a", "b"]), listener(80, &["B."])];
        });
        let expected = InboundError::TwoListeners {
            port: 80,
            host: "B.".into(),
        };
        assert_eq!(error.unwrap_err(), expected);
        assert!(table(|service| service.listeners = vec![listener(80, &["a", "A."])]).is_ok());
    }

    proptest! {
        /// The listener found is the one that a walk over all of them finds.
        #[test]
        fn listeners_are_those_of_a_naive_model(
            patterns in proptest::collection::btree_set(
                select(vec!["a", "a.b", "*.b", "**.b", "*", "**", "*.a.b", "**.a.b"]), 0..6),
            name in select(vec!["a", "b", "a.b", "b.b", "a.a.b", "b.a.b", "b.b.a.b"]),
        ) {
            let patterns: Vec<_> = patterns.into_iter().collect();
            let built = table(|service| {
                service.listeners = patterns.iter().map(|host| listener(1, &[host])).collect();
            });
            let table = built.unwrap();
            // Longer is more specific where both take a host, and one label more so than several.
            let rank = |pattern: &str| {
                let suffix = pattern.trim_start_matches(['*', '.']);
                let labels = suffix.split('.').filter(|label| !label.is_empty()).count();
                let wild = match pattern {
                    wild if wild.starts_with("**") => 0,
                    wild if wild.starts_with('*') => 1,
                    _ => 2,
                };
                (labels, wild)
            };
            let takes = |pattern: &str| {
                let pieces: Vec<_> = pattern.split('.').collect();
                let labels: Vec<_> = name.split('.').collect();
                match pieces.split_first() {
                    Some((&"**", rest)) => labels.len() > rest.len() && labels.ends_with(rest),
                    Some((&"*", rest)) => labels.len() == rest.len() + 1 && labels.ends_with(rest),
                    _ => pieces == labels,
                }
            };
            let expected = patterns
                .iter()
                .filter(|pattern| takes(pattern))
                .max_by_key(|pattern| rank(pattern));
            let found = table.listener(1, Some(name)).and_then(|found| found.hosts.first());
            prop_assert_eq!(found.map(String::as_str), expected.copied());
        }
    }

    fn judged(table: &InboundTable, method: &str, target: &str, peer: Option<&str>) -> bool {
        let path = path::normalise(target).unwrap();
        let caller = id("web");
        let request = Request {
            peer_ip: peer.map(|address| address.parse().unwrap()),
            peer: match peer {
                Some(_) => Peer::Unauthenticated,
                None => Peer::Identity(&caller),
            },
            ..Request::new(method, "a", &path)
        };
        table.authorise(&request).is_allowed()
    }

    /// design.md: "`probe "/healthz" { peer-ip "…" }` admits exactly GET of that path in plaintext".
    #[test]
    fn probes() {
        let kind = mesh_bundle::slice::PathPatternKind::Template("/healthz".into());
        let table = table(|service| {
            service.probes = vec![Probe {
                paths: vec![mesh_bundle::slice::PathPattern {
                    kind,
                    ignore_case: false,
                }],
                peer_ip: vec!["10.0.0.0/8".parse().unwrap()],
            }];
        })
        .unwrap();
        assert!(table.has_probes());
        assert!(judged(&table, "GET", "/healthz", Some("10.1.2.3")));
        assert!(!judged(&table, "GET", "/healthz", Some("192.168.0.1")));
        assert!(!judged(&table, "POST", "/healthz", Some("10.1.2.3")));
        assert!(!judged(&table, "GET", "/healthz/", Some("10.1.2.3")));
        assert!(!judged(&table, "GET", "/healthz", None));
    }

    /// A rule for everybody admits only those whom the mode of the port meets; a gateway's listeners meet all.
    #[test]
    fn modes() {
        let who = vec![Principal::Any, Principal::Unauthenticated];
        let with = |mode: Option<MtlsMode>, listeners: Vec<Listener>| {
            let built = table(|service| {
                let mtls = mode.map(|mode| PortMtls { port: 0, mode });
                service.mtls = mtls.into_iter().collect();
                service.listeners = listeners;
                service.rules = vec![AccessRule {
                    name: "allow any unauthenticated".into(),
                    effect: Effect::Allow,
                    enforcement: Enforcement::Enforce,
                    who: who.clone(),
                    conditions: Vec::new(),
                }];
            });
            let table = built.unwrap();
            [None, Some("10.0.0.1")].map(|peer| judged(&table, "GET", "/", peer))
        };
        assert_eq!(with(None, Vec::new()), [true, false]);
        assert_eq!(with(Some(MtlsMode::Permissive), Vec::new()), [true, true]);
        assert_eq!(with(Some(MtlsMode::Off), Vec::new()), [false, true]);
        assert_eq!(with(None, vec![listener(0, &[])]), [true, true]);
    }

    /// `require jwt shop { not { path "/login" } }`, and another for one route only.
    #[test]
    fn requirements() {
        let table = table(|service| {
            let jwt = |name: &str| RequirementKind::RequireJwt(name.into());
            service.requirements = vec![
                Requirement {
                    kind: jwt("shop"),
                    route: None,
                    conditions: vec![not(path_is("/login"))],
                },
                Requirement {
                    kind: jwt("admin"),
                    route: Some("admin".into()),
                    conditions: vec![Condition::Header(exact("x", "1"))],
                },
            ];
        })
        .unwrap();
        let asked = |target: &str, route, headers: &[(&str, &str)]| -> Vec<String> {
            let path = path::normalise(target).unwrap();
            let headers = headers.to_vec();
            let request = Request {
                headers: &headers,
                ..Request::new("GET", "a", &path)
            };
            let asked = table.requirements(&request, route);
            let names = asked.map(|requirement| match &requirement.kind {
                RequirementKind::RequireJwt(name) => name.clone(),
                other => format!("{other:?}"),
            });
            names.collect()
        };
        assert_eq!(asked("/login", None, &[]), [""; 0]);
        assert_eq!(asked("/", Some("other"), &[("x", "1")]), ["shop"]);
        assert_eq!(asked("/", Some("admin"), &[]), ["shop"]);
        // A second line does not take the first away.
        let both = [("x", "2"), ("x", "1")];
        assert_eq!(asked("/", Some("admin"), &both), ["shop", "admin"]);
    }

    #[test]
    fn only_what_is_said_is_not_strict() {
        let table = table(|service| {
            service.mtls = vec![PortMtls {
                port: 80,
                mode: MtlsMode::Permissive,
            }];
        })
        .unwrap();
        assert_eq!(table.mtls(80), Some(MtlsMode::Permissive));
        assert_eq!(table.mtls(81), None);
    }
}
