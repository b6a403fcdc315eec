//! How a service is entered: what its rules, its probes, the tokens that it asks for, its mode of mutual TLS
//! and, at a gateway, listeners and routes let in together. As sets of requests, and request by request as
//! the engine decides.

use mesh_bundle::slice::{
    Condition, Effect, Enforcement, FieldMatch, InboundService, JwtProvider, MtlsMode, Principal,
    RequirementKind, RouteMatch, StringMatch, StringMatchKind,
};
use mesh_engine::HeaderView;
use mesh_engine::jwt::Brought;
use mesh_syntax::Span;

use super::access;
use super::connections;
use super::probe;
use super::request_space::{CapExceeded, Repeated, Space};
use super::routes;
use crate::emit;
use crate::linked::{Kind, LinkedMesh, Requirement, Service, ServiceId};
use crate::model;

mod door;

pub use door::{Door, Refused};

/// What lets a request in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// A rule, as an index of [`Service::access`].
    Rule(usize),
    /// A probe, as an index of [`Service::probes`].
    Probe(usize),
    /// No proxy stands beside the service, so that nothing of what policy says of it is enforced.
    Unguarded,
}

/// How a service is entered, as sets of requests.
#[derive(Debug)]
pub struct Entrance<'m> {
    mesh: &'m LinkedMesh,
    service: &'m Service,
    /// The requests that come to it, and at a gateway to a route that leads on.
    heard: Space,
}

impl Way {
    /// Where it is written, in the policy of the service that it leads into; none: built in.
    pub fn span(self, service: &Service) -> Option<Span> {
        match self {
            Self::Rule(rule) => service.access.get(rule)?.source.span(),
            Self::Probe(probe) => service.probes.get(probe)?.source.span(),
            Self::Unguarded => service.reach.unmeshed,
        }
    }
}

impl<'m> Entrance<'m> {
    /// How this service is entered by all that is let in, also what a gateway answers itself or has no route for.
    pub fn admitting(mesh: &'m LinkedMesh, id: ServiceId) -> Result<Self, CapExceeded> {
        let service = mesh.service(id);
        Ok(Self {
            mesh,
            service,
            heard: routes::universe(service)?,
        })
    }

    /// How this service is entered.
    pub fn of(mesh: &'m LinkedMesh, id: ServiceId) -> Result<Self, CapExceeded> {
        let service = mesh.service(id);
        let universe = routes::universe(service)?;
        let heard = if service.gateway().is_some() {
            let leads = |route: usize| leads(service, route);
            routes::won(service, &universe, leads)?
        } else {
            universe
        };
        Ok(Self {
            mesh,
            service,
            heard,
        })
    }

    /// Everything that lets requests in, each with those that it does, whatever refuses them again.
    pub fn ways(&self) -> Result<Vec<(Way, Space)>, CapExceeded> {
        if is_unguarded(self.service) {
            return Ok(vec![(Way::Unguarded, self.heard.clone())]);
        }
        let met = self.heard.intersection(&met(self.service)?)?;
        let mut ways = Vec::new();
        for (index, rule) in self.service.access.iter().enumerate() {
            if rule.effect == Effect::Allow && rule.enforcement == Enforcement::Enforce {
                let takes = connections::spoken_of(self.service, &probe::access_rule(rule))?;
                ways.push((Way::Rule(index), takes.intersection(&met)?));
            }
        }
        for (index, probe) in self.service.probes.iter().enumerate() {
            let mut conditions = vec![
                Condition::From(vec![Principal::Unauthenticated]),
                Condition::Method(vec!["GET".to_owned()]),
                Condition::Path(probe.paths.clone()),
            ];
            if !probe.peer_ip.is_empty() {
                conditions.push(Condition::PeerIp(probe.peer_ip.clone()));
            }
            let takes = Space::of_conditions(&conditions, Repeated::Every)?;
            let takes = connections::only_requests(self.service, takes)?;
            ways.push((Way::Probe(index), takes.intersection(&self.heard)?));
        }
        Ok(ways)
    }

    /// Requests that are refused, whatever lets them in: by a `deny`, or for want of a token.
    pub fn refused(&self) -> Result<Vec<Space>, CapExceeded> {
        if is_unguarded(self.service) {
            return Ok(Vec::new());
        }
        let mut refused = Vec::new();
        for rule in &self.service.access {
            if rule.effect == Effect::Deny && rule.enforcement == Enforcement::Enforce {
                refused.push(connections::spoken_of(
                    self.service,
                    &probe::access_rule(rule),
                )?);
            }
        }
        for requirement in &self.service.requirements {
            // Whoever lets requests leave the mesh reads no tokens.
            if !self.service.is_external()
                && requirement.kind == model::RequirementKind::RequireJwt
                && let Some(jwt) = self.mesh.jwts.get(requirement.provider)
            {
                let asked = self.asked(requirement)?;
                refused.push(asked.difference(&with_token(&jwt.provider)?)?);
            }
        }
        Ok(refused)
    }

    /// The requests of which a requirement asks something.
    pub fn asked(&self, requirement: &Requirement) -> Result<Space, CapExceeded> {
        let conditions: Vec<Condition> = requirement
            .conditions
            .iter()
            .map(|condition| condition.value.clone())
            .collect();
        let asked = Space::of_conditions(&conditions, Repeated::One)?;
        let asked = connections::only_requests(self.service, asked)?;
        match requirement.route {
            Some(route) => {
                let universe = routes::universe(self.service)?;
                asked.intersection(&routes::won(self.service, &universe, |each| each == route)?)
            }
            None => Ok(asked),
        }
    }

    /// The requests about which an authorizer is asked: it may refuse what gets in otherwise.
    pub fn authorized(&self) -> Result<Space, CapExceeded> {
        let mut authorized = Space::nothing();
        if is_unguarded(self.service) {
            return Ok(authorized);
        }
        for requirement in &self.service.requirements {
            if requirement.kind == model::RequirementKind::RequireAuthorizer {
                authorized.add(self.asked(requirement)?)?;
            }
        }
        Ok(authorized)
    }

    /// The requests that the gateway answers itself, as far as they are let in.
    pub fn answered(&self) -> Result<Space, CapExceeded> {
        if self.service.gateway().is_none() {
            return Ok(Space::nothing());
        }
        let universe = routes::universe(self.service)?;
        routes::won(self.service, &universe, |route| !leads(self.service, route))
    }

    /// The requests that get in.
    pub fn entered(&self) -> Result<Space, CapExceeded> {
        let refused = self.refused()?;
        let refused: Vec<&Space> = refused.iter().collect();
        let mut entered = Space::nothing();
        for (_, way) in self.ways()? {
            entered.add(way.remainder(&refused, usize::MAX)?)?;
        }
        Ok(entered)
    }
}

/// Whether no proxy of the mesh stands beside a service.
pub const fn is_unguarded(service: &Service) -> bool {
    matches!(service.kind, Kind::Service) && service.reach.unmeshed.is_some()
}

/// What comes so far as to be judged, by who may come to each port. Who leaves for an external is known to the
/// proxy that lets it leave, and clients of a gateway are met by its listeners.
pub(in crate::analysis) fn met(service: &Service) -> Result<Space, CapExceeded> {
    let who = |mode| match mode {
        None => Some(Principal::Any),
        Some(MtlsMode::Off) => Some(Principal::Unauthenticated),
        Some(MtlsMode::Permissive) => None,
    };
    match &service.kind {
        Kind::External(_) => Space::from(&[Principal::Any]),
        Kind::Gateway(_) => Ok(Space::everything()),
        Kind::Service => {
            // Ports are few, and one product for each mode that there is keeps the sets small.
            let mut modes: Vec<(Option<MtlsMode>, Vec<u16>)> = Vec::new();
            for port in &service.ports {
                let mode = service.mtls_of(port);
                match modes.iter_mut().find(|(known, _)| *known == mode) {
                    Some((_, ports)) => ports.push(port.number.value),
                    None => modes.push((mode, vec![port.number.value])),
                }
            }
            let several = modes.len() > 1;
            let mut met = Space::nothing();
            for (mode, ports) in modes {
                let mut conditions = Vec::new();
                conditions.extend(who(mode).map(|who| Condition::From(vec![who])));
                if several {
                    conditions.push(Condition::Port(ports));
                }
                met.add(Space::of_conditions(&conditions, Repeated::One)?)?;
            }
            Ok(met)
        }
    }
}

/// Whether a route of a gateway sends requests on, and does not answer them itself.
fn leads(service: &Service, route: usize) -> bool {
    let route = service.routes.get(route);
    route.is_some_and(|route| route.actions.answer.is_none())
}

/// The requests with a token of this provider.
fn with_token(provider: &JwtProvider) -> Result<Space, CapExceeded> {
    let claim = |name: &str, values: &[String]| {
        let exact = |value: &String| StringMatch {
            kind: StringMatchKind::Exact(value.clone()),
            ignore_case: false,
        };
        Condition::Claim(FieldMatch {
            name: name.to_owned(),
            values: values.iter().map(exact).collect(),
        })
    };
    let mut conditions = vec![claim("iss", std::slice::from_ref(&provider.issuer))];
    if !provider.audiences.is_empty() {
        conditions.push(claim("aud", &provider.audiences));
    }
    Space::of_conditions(&conditions, Repeated::One)
}

/// Whether verified claims can be those of a token of this provider; what a test leaves out may be anything.
fn fits(claims: Option<&dyn HeaderView>, provider: &JwtProvider) -> bool {
    let Some(claims) = claims else { return false };
    let of = |name: &str| {
        let mut values: Vec<Vec<u8>> = Vec::new();
        claims.visit(name, &mut |value| values.push(value.to_vec()));
        values
    };
    let audiences = of("aud");
    let is_meant = |wanted: &String| audiences.iter().any(|given| given == wanted.as_bytes());
    let aud = provider.audiences.is_empty()
        || audiences.is_empty()
        || provider.audiences.iter().any(is_meant);
    // A request may bring several tokens.
    let issuers = of("iss");
    let is_issuer = |value: &Vec<u8>| value == provider.issuer.as_bytes();
    (issuers.is_empty() || issuers.iter().any(is_issuer)) && aud
}

/// What a request brings for a provider, by its verified claims.
pub(crate) fn brought(claims: Option<&dyn HeaderView>, provider: Option<&JwtProvider>) -> Brought {
    if provider.is_some_and(|provider| fits(claims, provider)) {
        Brought::Verified
    } else {
        Brought::Nothing
    }
}

/// All that decides how a service is entered: equal where nothing about it changes.
#[derive(Debug, PartialEq)]
pub struct Front {
    inbound: InboundService,
    is_unguarded: bool,
    kind: &'static str,
    tokens: Vec<JwtProvider>,
    /// What each route of a gateway takes, and whether it leads on.
    routes: Vec<(String, Vec<RouteMatch>, bool)>,
}

impl Front {
    /// That of a service, without what is for people and what only counts.
    pub fn of(mesh: &LinkedMesh, service: &Service) -> Self {
        let mut inbound = emit::inbound(mesh, service);
        inbound
            .rules
            .retain(|rule| rule.enforcement == Enforcement::Enforce);
        for rule in &mut inbound.rules {
            rule.name.clear();
        }
        inbound.rate_limits.clear();
        let names = |kind: &RequirementKind| match kind {
            RequirementKind::RequireJwt(name) | RequirementKind::AcceptJwt(name) => {
                Some(name.clone())
            }
            RequirementKind::RequireAuthorizer(_) => None,
        };
        let needed: Vec<String> = inbound
            .requirements
            .iter()
            .filter_map(|requirement| names(&requirement.kind))
            .collect();
        let is_needed = |jwt: &&crate::linked::Jwt| needed.contains(&jwt.name.value);
        let routes = service.routes.iter().enumerate();
        let routes = routes.filter(|_| service.gateway().is_some());
        Self {
            inbound,
            is_unguarded: is_unguarded(service),
            kind: service.kind.word(),
            tokens: mesh
                .jwts
                .iter()
                .filter(is_needed)
                .map(|jwt| jwt.provider.clone())
                .collect(),
            routes: routes
                .map(|(index, route)| {
                    let matches = probe::matches(route);
                    (route.name.value.clone(), matches, leads(service, index))
                })
                .collect(),
        }
    }
}

/// As whom a service calls another: its identities, or nobody where either end has no proxy.
pub fn peers(caller: &Service, callee: &Service) -> Vec<Option<String>> {
    if is_unguarded(caller) || is_unguarded(callee) {
        return vec![None];
    }
    let identities = caller.identities.iter();
    identities
        .map(|identity| Some(identity.to_string()))
        .collect()
}

/// The requests that one service can send another.
pub fn sent(caller: &Service, callee: &Service) -> Result<Space, CapExceeded> {
    if is_unguarded(caller) || is_unguarded(callee) {
        return Space::from(&[Principal::Unauthenticated]);
    }
    let who: Vec<Principal> = caller
        .identities
        .iter()
        .cloned()
        .map(Principal::SpiffeId)
        .collect();
    Space::from(&who)
}

/// What only the rules of a service let in: neither probes nor tokens are looked at.
pub(in crate::analysis) fn by_rules(service: &Service) -> Result<Space, CapExceeded> {
    access::by_rules_alone(service)?.intersection(&met(service)?)
}
