//! A service as the engine guards it, to run witnesses of access through.

use mesh_bundle::slice::{Effect, JwtProvider, Listener, MtlsMode, RequirementKind};
use mesh_engine::rbac::Verdict;
use mesh_engine::{GatewayTable, InboundTable, Request, RouteTable};

use super::{Way, brought, is_unguarded};
use crate::analysis::connections;
use crate::analysis::probe::{self, ask};
use crate::analysis::request_space::{FieldKind, Likely, Point};
use crate::emit;
use crate::linked::{Kind, LinkedMesh, ServiceId};

/// What guards a service.
#[derive(Debug)]
pub struct Door {
    is_unguarded: bool,
    is_gateway: bool,
    inbound: InboundTable,
    /// Rules that policy has; the others are of probes.
    rules: usize,
    /// The routes of a gateway, and the names of those that send requests on.
    gateway: Option<(GatewayTable, Vec<String>)>,
    tokens: Vec<JwtProvider>,
    likely: Likely,
}

/// Why a request does not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nothing listens on the port, or for the host.
    Unheard,
    /// Only mutual TLS is taken, and the peer has no identity.
    Plaintext,
    /// Only plaintext is taken, in which nobody has an identity.
    Identity,
    /// A `deny`, as an index of the service's rules.
    Denied(usize),
    /// No rule lets it in.
    NoRule,
    /// It brings no token that this requirement asks for, an index of the service's requirements.
    NoToken(usize),
    /// No route of the gateway takes it.
    NoRoute,
    /// The route of the gateway that takes it answers it, and leads nowhere.
    Answered,
}

impl Door {
    /// Compiles what guards a service. None if the engine refuses it; linking has then said why.
    pub fn of(mesh: &LinkedMesh, id: ServiceId) -> Option<Self> {
        let service = mesh.service(id);
        let mut inbound = emit::inbound(mesh, service);
        if service.is_external() {
            // The proxy of the caller knows nothing but its rules.
            inbound.requirements.clear();
        }
        let gateway = match service.kind {
            Kind::Gateway(_) => {
                let leads = |(index, route): (usize, &crate::linked::Route)| {
                    super::leads(service, index).then(|| route.name.value.clone())
                };
                let leading = service.routes.iter().enumerate().filter_map(leads);
                let table = GatewayTable::build(&emit::gateway(mesh, service)).ok()?;
                Some((table, leading.collect()))
            }
            Kind::Service | Kind::External(_) => None,
        };
        let mut likely = probe::likely(mesh, id);
        if is_unguarded(service) {
            likely.callers.insert(0, String::new());
        }
        Some(Self {
            is_unguarded: is_unguarded(service),
            is_gateway: gateway.is_some(),
            rules: inbound.rules.len(),
            inbound: InboundTable::build(&inbound).ok()?,
            gateway,
            tokens: mesh.jwts.iter().map(|jwt| jwt.provider.clone()).collect(),
            likely,
        })
    }

    /// What a request to the service is likely to have.
    pub fn likely(&self) -> &Likely {
        &self.likely
    }

    /// What lets the request in, or why it does not get in; none if no such request can be made.
    pub fn judge(&self, point: &Point) -> Option<Result<Way, Refused>> {
        ask(point, |request| self.judged(point, request))
    }

    /// Whether the request gets in.
    pub fn lets_in(&self, point: &Point) -> bool {
        matches!(self.judge(point), Some(Ok(_)))
    }

    /// The name of the route of a gateway that takes the request.
    pub fn route(&self, point: &Point) -> Option<&str> {
        let (table, _) = self.gateway.as_ref()?;
        ask(point, |request| table.route(request).map(RouteTable::name))?
    }

    /// The listener of a gateway that takes the request, as its port and hosts.
    pub fn listener(&self, point: &Point) -> Option<&Listener> {
        self.inbound.listener(point.port, Some(&point.host))
    }

    /// What lets the request in, though a gateway may answer it itself, or have no route for it.
    pub fn admits(&self, point: &Point) -> Option<Way> {
        ask(point, |request| match self.judged(point, request) {
            Ok(way) => Some(way),
            Err(Refused::NoRoute | Refused::Answered) => {
                let route = self.gateway.as_ref();
                let route = route.and_then(|(table, _)| table.route(request));
                let bare = self.without_token(point, request, route.map(RouteTable::name));
                if bare.is_some() {
                    return None;
                }
                match self.inbound.authorise(request) {
                    Verdict::Allowed { rule } => Some(Way::Rule(rule.position())),
                    Verdict::Denied { .. } => None,
                }
            }
            Err(_) => None,
        })?
    }

    fn judged(&self, point: &Point, request: &Request<'_>) -> Result<Way, Refused> {
        if self.inbound.port(request.port).is_none() {
            return Err(Refused::Unheard);
        }
        if self.is_unguarded {
            return Ok(Way::Unguarded);
        }
        let host = Some(request.host);
        if self.is_gateway && self.inbound.listener(request.port, host).is_none() {
            return Err(Refused::Unheard);
        }
        let way = match connections::authorise(&self.inbound, request) {
            Verdict::Allowed { rule } => match rule.position().checked_sub(self.rules) {
                Some(probe) => Way::Probe(probe),
                None => Way::Rule(rule.position()),
            },
            Verdict::Denied { rule: Some(rule) } => return Err(Refused::Denied(rule.position())),
            Verdict::Denied { rule: None } => return Err(self.unmet(request)),
        };
        if connections::carries_bytes(&self.inbound, request.port) {
            // Bytes bring no token, and nobody is asked about them.
            return Ok(way);
        }
        let route = match &self.gateway {
            Some((table, leading)) => {
                let route = table.route(request).map(RouteTable::name);
                let route = route.ok_or(Refused::NoRoute)?;
                if !leading.iter().any(|leading| leading == route) {
                    return Err(Refused::Answered);
                }
                Some(route)
            }
            None => None,
        };
        match self.without_token(point, request, route) {
            Some(requirement) => Err(Refused::NoToken(requirement)),
            None => Ok(way),
        }
    }

    /// Why a request is refused that no rule lets in.
    fn unmet(&self, request: &Request<'_>) -> Refused {
        let admits = |rule: &mesh_engine::rbac::Rule| {
            rule.effect() == Effect::Allow && connections::takes(&self.inbound, rule, request)
        };
        let admitted = self.inbound.rules().iter().take(self.rules).any(admits);
        match self.inbound.mtls(request.port) {
            None if admitted => Refused::Plaintext,
            Some(MtlsMode::Off) if admitted => Refused::Identity,
            _ => Refused::NoRule,
        }
    }

    fn without_token(
        &self,
        point: &Point,
        request: &Request<'_>,
        route: Option<&str>,
    ) -> Option<usize> {
        // Every token says who issued it.
        let issued = point
            .fields_of(FieldKind::Claim)
            .any(|(name, _)| name == "iss");
        let brought = |name: &str| {
            let provider = self.tokens.iter().find(|provider| provider.name == name);
            brought(request.claims, provider.filter(|_| issued))
        };
        let unmet = self.inbound.unmet_token(request, route, brought);
        unmet.map(|(position, ..)| position)
    }

    /// By which requirement, as a position among those of the service, an authorizer is asked about the request: it may
    /// refuse what rules let in.
    pub fn authorizer(&self, point: &Point) -> Option<usize> {
        let asks = |request: &Request<'_>| {
            if connections::carries_bytes(&self.inbound, request.port) {
                return None;
            }
            let route = self.gateway.as_ref().and_then(|(table, _)| {
                let route = table.route(request)?;
                Some(route.name())
            });
            let mut asked = self.inbound.requirements_by_position(request, route);
            let by =
                asked.find(|(_, each)| matches!(each.kind, RequirementKind::RequireAuthorizer(_)));
            by.map(|(position, _)| position)
        };
        ask(point, asks)?
    }

    /// Whether an authorizer is asked about the request.
    pub fn asks(&self, authorizer: &str, point: &Point) -> bool {
        let asks = |request: &Request<'_>| {
            if connections::carries_bytes(&self.inbound, request.port) {
                return false;
            }
            let route = self.gateway.as_ref().and_then(|(table, _)| {
                let route = table.route(request)?;
                Some(route.name())
            });
            self.inbound
                .requirements(request, route)
                .any(|each| each.kind == RequirementKind::RequireAuthorizer(authorizer.to_owned()))
        };
        ask(point, asks).unwrap_or(false)
    }
}
