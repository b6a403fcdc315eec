//! What a request must bring to enter, how many may, and what is told about them.

use std::collections::BTreeSet;

use mesh_bundle::slice::{self, PortMtls};

use crate::linked::{
    Authorizer, Kind, LinkedMesh, Probe, RateLimit, Requirement, Service, Telemetry,
};
use crate::model::{RequirementKind, Spanned};

pub(super) fn requirements(mesh: &LinkedMesh, service: &Service) -> Vec<slice::Requirement> {
    let requirement = |requirement: &Requirement| {
        Some(slice::Requirement {
            kind: kind(mesh, requirement)?,
            route: route(service, requirement.route),
            conditions: conditions(&requirement.conditions),
        })
    };
    service
        .requirements
        .iter()
        .filter_map(requirement)
        .collect()
}

fn kind(mesh: &LinkedMesh, requirement: &Requirement) -> Option<slice::RequirementKind> {
    let jwt = || Some(mesh.jwts.get(requirement.provider)?.name.value.clone());
    Some(match requirement.kind {
        RequirementKind::RequireJwt => slice::RequirementKind::RequireJwt(jwt()?),
        RequirementKind::AcceptJwt => slice::RequirementKind::AcceptJwt(jwt()?),
        RequirementKind::RequireAuthorizer => {
            let authorizer = mesh.authorizers.get(requirement.provider)?;
            slice::RequirementKind::RequireAuthorizer(authorizer.name.value.clone())
        }
    })
}

pub(super) fn rate_limits(mesh: &LinkedMesh, service: &Service) -> Vec<slice::RateLimit> {
    let limit = |limit: &RateLimit| slice::RateLimit {
        count: limit.rate.value.0,
        per: limit.rate.value.1,
        burst: limit.burst,
        keys: limit.keys.clone(),
        via: limit
            .via
            .as_ref()
            .map(|(target, on_failure)| (super::target(mesh, target.value), *on_failure)),
        route: route(service, limit.route),
        conditions: conditions(&limit.conditions),
        respond: limit.respond.clone(),
    };
    service.rate_limits.iter().map(limit).collect()
}

pub(super) fn probes(service: &Service) -> Vec<slice::Probe> {
    let probe = |probe: &Probe| slice::Probe {
        paths: probe.paths.clone(),
        peer_ip: probe.peer_ip.clone(),
    };
    service.probes.iter().map(probe).collect()
}

/// Ports where mTLS is not strict. A gateway's listeners say themselves what they take, and who leaves for an
/// external is its own proxy's workload.
pub(super) fn mtls(service: &Service) -> Vec<PortMtls> {
    let is_met_by_proxy = matches!(service.kind, Kind::Service);
    let ports = service.ports.iter().filter(|_| is_met_by_proxy);
    let port = |port: &crate::model::Port| {
        Some(PortMtls {
            port: port.number.value,
            mode: service.mtls_of(port)?,
        })
    };
    ports.filter_map(port).collect()
}

/// The providers of tokens that some service needs.
pub(super) fn jwts(mesh: &LinkedMesh, services: &[&Service]) -> Vec<slice::JwtProvider> {
    let is_jwt =
        |requirement: &&Requirement| requirement.kind != RequirementKind::RequireAuthorizer;
    let needed: BTreeSet<usize> = services
        .iter()
        .flat_map(|service| service.requirements.iter().filter(is_jwt))
        .map(|requirement| requirement.provider)
        .collect();
    needed
        .into_iter()
        .filter_map(|index| mesh.jwts.get(index))
        .map(|jwt| jwt.provider.clone())
        .collect()
}

/// The authorizers that some service needs.
pub(super) fn authorizers(mesh: &LinkedMesh, services: &[&Service]) -> Vec<slice::Authorizer> {
    let is_authorizer =
        |requirement: &&Requirement| requirement.kind == RequirementKind::RequireAuthorizer;
    let needed: BTreeSet<usize> = services
        .iter()
        .flat_map(|service| service.requirements.iter().filter(is_authorizer))
        .map(|requirement| requirement.provider)
        .collect();
    needed
        .into_iter()
        .filter_map(|index| mesh.authorizers.get(index))
        .map(|authorizer| self::authorizer(mesh, authorizer))
        .collect()
}

fn authorizer(mesh: &LinkedMesh, authorizer: &Authorizer) -> slice::Authorizer {
    slice::Authorizer {
        name: authorizer.name.value.clone(),
        to: super::target(mesh, authorizer.to.value),
        protocol: authorizer.protocol,
        timeout: authorizer.timeout,
        on_failure: authorizer.on_failure.value,
        send_headers: authorizer.send_headers.clone(),
        keep_headers: authorizer.keep_headers.clone(),
        return_headers: authorizer.return_headers.clone(),
        body_bytes: authorizer.body_bytes,
    }
}

/// Nothing where neither mesh nor service says anything.
pub(super) fn telemetry(service: &Service) -> Option<slice::Telemetry> {
    let Telemetry { access_log, traces } = &service.telemetry;
    if access_log.is_none() && traces.is_none() {
        return None;
    }
    Some(slice::Telemetry {
        service: service.name.value.clone(),
        access_log: access_log.as_ref().map(|log| slice::AccessLog {
            format: log.format,
            only: log.only.clone(),
        }),
        traces: traces.as_ref().map(|traces| slice::Traces {
            share: traces.share,
            otlp: traces.otlp.value.clone(),
        }),
    })
}

fn route(service: &Service, route: Option<usize>) -> Option<String> {
    let route = service.routes.get(route?)?;
    Some(route.name.value.clone())
}

fn conditions(conditions: &[Spanned<slice::Condition>]) -> Vec<slice::Condition> {
    conditions
        .iter()
        .map(|condition| condition.value.clone())
        .collect()
}
