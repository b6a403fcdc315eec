//! How connections are taken, and what a request must bring beyond an allow rule.

use super::condition::{conditions_from, nets_from, nets_to};
use super::exchange::{duration, millis};
use super::{
    Result, header_name, header_names, name, names, not_empty, optional_name, pattern, port,
    target_from, target_to, unspecified,
};
use crate::canonical::{
    Wire, ascending, ascending_by_bytes, counted, each, enumeration, required, set, set_by_bytes,
    within,
};
use crate::limits;
use crate::messages::bundle as wire;
use crate::slice::{
    Authorizer, AuthorizerProtocol, ClaimHeader, ClientAddress, Jwks, JwtProvider, Listener,
    MtlsMode, OnFailure, PortMtls, Probe, Requirement, RequirementKind, ServerTls, TokenLocation,
};

impl Wire for Listener {
    type Message = wire::Listener;

    fn to_message(&self) -> wire::Listener {
        use wire::client_address::Source;
        let source = match self.client_address {
            ClientAddress::Peer => Source::Peer(wire::Unit {}),
            ClientAddress::ProxyProtocol => Source::ProxyProtocol(wire::Unit {}),
            ClientAddress::ForwardedFor { hops } => Source::ForwardedForHops(hops),
        };
        wire::Listener {
            port: self.port.into(),
            hosts: set(&self.hosts),
            tls: self.tls.as_ref().map(Wire::to_message),
            client_address: Some(wire::ClientAddress {
                source: Some(source),
            }),
        }
    }

    fn from_message(message: wire::Listener) -> Result<Self> {
        use wire::client_address::Source;
        names("listener.hosts", &message.hosts, limits::IDENTITIES_MAX)?;
        let address = required("listener.client_address", message.client_address)?;
        Ok(Self {
            port: port("listener.port", message.port)?,
            hosts: message.hosts,
            tls: message.tls.map(ServerTls::from_message).transpose()?,
            client_address: match required("client_address.source", address.source)? {
                Source::Peer(wire::Unit {}) => ClientAddress::Peer,
                Source::ProxyProtocol(wire::Unit {}) => ClientAddress::ProxyProtocol,
                Source::ForwardedForHops(hops) => ClientAddress::ForwardedFor {
                    hops: within(
                        "client_address.forwarded_for_hops",
                        hops,
                        1,
                        limits::FORWARDED_HOPS_MAX,
                    )?,
                },
            },
        })
    }
}

impl Wire for PortMtls {
    type Message = wire::PortMtls;

    fn to_message(&self) -> wire::PortMtls {
        wire::PortMtls {
            port: self.port.into(),
            mode: match self.mode {
                MtlsMode::Permissive => wire::MtlsMode::Permissive,
                MtlsMode::Off => wire::MtlsMode::Off,
            } as i32,
        }
    }

    fn from_message(message: wire::PortMtls) -> Result<Self> {
        Ok(Self {
            port: port("port_mtls.port", message.port)?,
            mode: match enumeration("port_mtls.mode", message.mode)? {
                wire::MtlsMode::Unspecified => return unspecified("port_mtls.mode"),
                wire::MtlsMode::Permissive => MtlsMode::Permissive,
                wire::MtlsMode::Off => MtlsMode::Off,
            },
        })
    }
}

impl Wire for Requirement {
    type Message = wire::Requirement;

    fn to_message(&self) -> wire::Requirement {
        use wire::requirement::Kind;
        wire::Requirement {
            kind: Some(match &self.kind {
                RequirementKind::RequireJwt(name) => Kind::RequireJwt(name.clone()),
                RequirementKind::AcceptJwt(name) => Kind::AcceptJwt(name.clone()),
                RequirementKind::RequireAuthorizer(name) => Kind::RequireAuthorizer(name.clone()),
            }),
            route: self.route.clone().unwrap_or_default(),
            conditions: set_by_bytes(&self.conditions),
        }
    }

    fn from_message(message: wire::Requirement) -> Result<Self> {
        use wire::requirement::Kind;
        let named = |value| name("requirement.kind", value);
        Ok(Self {
            kind: match required("requirement.kind", message.kind)? {
                Kind::RequireJwt(name) => RequirementKind::RequireJwt(named(name)?),
                Kind::AcceptJwt(name) => RequirementKind::AcceptJwt(named(name)?),
                Kind::RequireAuthorizer(name) => RequirementKind::RequireAuthorizer(named(name)?),
            },
            route: optional_name("requirement.route", message.route)?,
            conditions: conditions_from("requirement.conditions", message.conditions)?,
        })
    }
}

impl Wire for JwtProvider {
    type Message = wire::JwtProvider;

    fn to_message(&self) -> wire::JwtProvider {
        let mut forwards: Vec<_> = self.forwards.iter().map(Wire::to_message).collect();
        forwards.sort_by(|a: &wire::ClaimHeader, b| a.header.cmp(&b.header));
        wire::JwtProvider {
            name: self.name.clone(),
            issuer: self.issuer.clone(),
            audiences: set(&self.audiences),
            locations: self.locations.iter().map(Wire::to_message).collect(),
            forwards,
            jwks: Some(match &self.jwks {
                Jwks::Inline(bytes) => wire::jwt_provider::Jwks::Inline(bytes.clone()),
                Jwks::Url(url) => wire::jwt_provider::Jwks::Url(url.clone()),
            }),
        }
    }

    fn from_message(message: wire::JwtProvider) -> Result<Self> {
        ascending(
            "jwt_provider.audiences",
            &message.audiences,
            limits::VALUES_MAX,
            |a, b| a < b,
        )?;
        counted(
            "jwt_provider.locations",
            &message.locations,
            limits::HEADERS_MAX,
        )?;
        ascending(
            "jwt_provider.forwards",
            &message.forwards,
            limits::HEADERS_MAX,
            |a, b| a.header < b.header,
        )?;
        Ok(Self {
            name: name("jwt_provider.name", message.name)?,
            issuer: pattern("jwt_provider.issuer", message.issuer)?,
            audiences: message
                .audiences
                .into_iter()
                .map(|audience| pattern("jwt_provider.audiences", audience))
                .collect::<Result<_>>()?,
            jwks: match required("jwt_provider.jwks", message.jwks)? {
                wire::jwt_provider::Jwks::Inline(bytes) => {
                    counted("jwt_provider.inline", &bytes, limits::JWKS_BYTES_MAX)?;
                    Jwks::Inline(bytes)
                }
                wire::jwt_provider::Jwks::Url(url) => Jwks::Url(pattern("jwt_provider.url", url)?),
            },
            locations: each(message.locations)?,
            forwards: each(message.forwards)?,
        })
    }
}

impl Wire for TokenLocation {
    type Message = wire::TokenLocation;

    fn to_message(&self) -> wire::TokenLocation {
        use wire::token_location::Kind;
        wire::TokenLocation {
            kind: Some(match self {
                Self::Header(name) => Kind::Header(name.clone()),
                Self::Query(name) => Kind::Query(name.clone()),
                Self::Cookie(name) => Kind::Cookie(name.clone()),
            }),
        }
    }

    fn from_message(message: wire::TokenLocation) -> Result<Self> {
        use wire::token_location::Kind;
        Ok(match required("token_location.kind", message.kind)? {
            Kind::Header(value) => Self::Header(header_name("token_location.header", value)?),
            Kind::Query(value) => Self::Query(name("token_location.query", value)?),
            Kind::Cookie(value) => Self::Cookie(name("token_location.cookie", value)?),
        })
    }
}

impl Wire for ClaimHeader {
    type Message = wire::ClaimHeader;

    fn to_message(&self) -> wire::ClaimHeader {
        wire::ClaimHeader {
            claim: self.claim.clone(),
            header: self.header.clone(),
        }
    }

    fn from_message(message: wire::ClaimHeader) -> Result<Self> {
        Ok(Self {
            claim: name("claim_header.claim", message.claim)?,
            header: header_name("claim_header.header", message.header)?,
        })
    }
}

impl Wire for Authorizer {
    type Message = wire::Authorizer;

    fn to_message(&self) -> wire::Authorizer {
        wire::Authorizer {
            name: self.name.clone(),
            to: Some(target_to(&self.to)),
            protocol: match self.protocol {
                AuthorizerProtocol::Http => wire::AuthorizerProtocol::Http,
                AuthorizerProtocol::Grpc => wire::AuthorizerProtocol::Grpc,
            } as i32,
            timeout_ms: millis(self.timeout),
            on_failure: on_failure_to(self.on_failure) as i32,
            send_headers: set(&self.send_headers),
            keep_headers: set(&self.keep_headers),
            return_headers: set(&self.return_headers),
            body_bytes: self.body_bytes,
        }
    }

    fn from_message(message: wire::Authorizer) -> Result<Self> {
        Ok(Self {
            name: name("authorizer.name", message.name)?,
            to: target_from("authorizer.to", required("authorizer.to", message.to)?)?,
            protocol: match enumeration("authorizer.protocol", message.protocol)? {
                wire::AuthorizerProtocol::Unspecified => {
                    return unspecified("authorizer.protocol");
                }
                wire::AuthorizerProtocol::Http => AuthorizerProtocol::Http,
                wire::AuthorizerProtocol::Grpc => AuthorizerProtocol::Grpc,
            },
            timeout: duration("authorizer.timeout_ms", message.timeout_ms)?,
            on_failure: on_failure_from("authorizer.on_failure", message.on_failure)?,
            send_headers: header_names("authorizer.send_headers", message.send_headers)?,
            keep_headers: header_names("authorizer.keep_headers", message.keep_headers)?,
            return_headers: header_names("authorizer.return_headers", message.return_headers)?,
            body_bytes: within(
                "authorizer.body_bytes",
                message.body_bytes,
                0,
                limits::BODY_LIMIT_MAX,
            )?,
        })
    }
}

pub(super) fn on_failure_to(on_failure: OnFailure) -> wire::OnFailure {
    match on_failure {
        OnFailure::Allow => wire::OnFailure::Allow,
        OnFailure::Deny => wire::OnFailure::Deny,
    }
}

pub(super) fn on_failure_from(field: &'static str, value: i32) -> Result<OnFailure> {
    Ok(match enumeration(field, value)? {
        wire::OnFailure::Unspecified => return unspecified(field),
        wire::OnFailure::Allow => OnFailure::Allow,
        wire::OnFailure::Deny => OnFailure::Deny,
    })
}

impl Wire for Probe {
    type Message = wire::Probe;

    fn to_message(&self) -> wire::Probe {
        wire::Probe {
            paths: set_by_bytes(&self.paths),
            peer_ip: nets_to(&self.peer_ip),
        }
    }

    fn from_message(message: wire::Probe) -> Result<Self> {
        not_empty("probe.paths", &message.paths)?;
        ascending_by_bytes("probe.paths", &message.paths, limits::VALUES_MAX)?;
        Ok(Self {
            paths: each(message.paths)?,
            peer_ip: nets_from("probe.peer_ip", &message.peer_ip)?,
        })
    }
}
