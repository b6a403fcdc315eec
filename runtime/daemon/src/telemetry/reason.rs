//! Why a request, a handshake or a connection ended badly: one vocabulary for metrics, logs, local
//! replies and status.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// Why a request did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No route takes the request.
    NoRoute,
    /// The destination has no endpoint to send to.
    NoHealthyUpstream,
    /// No connection to the endpoint.
    ConnectFailure,
    /// The connection took too long.
    ConnectTimeout,
    /// The endpoint broke the connection or the stream.
    UpstreamReset,
    /// The endpoint did not speak HTTP.
    UpstreamProtocolError,
    /// The whole exchange took too long.
    RequestTimeout,
    /// The last try took too long.
    PerTryTimeout,
    /// Every attempt was used up.
    RetryLimit,
    /// A retry was not allowed by the budget.
    BudgetExhausted,
    /// The circuit of the destination is open.
    CircuitOpen,
    /// A queue or a pool is full.
    Overflow,
    /// Over the rate that policy allows.
    RateLimited,
    /// Not allowed by policy.
    AuthzDenied,
    /// Not allowed by the external authorizer.
    ExtAuthzDenied,
    /// No token, or one that is not valid; the cause says how.
    JwtInvalid(&'static str),
    /// No trusted connection.
    TlsFailure,
    /// The client went away.
    ClientDisconnect,
    /// The request is malformed; the rule says how.
    BadRequest(&'static str),
    /// The proxy protects itself.
    OverloadShed,
    /// Policy injected a fault.
    FaultInjected,
    /// The proxy is ending.
    Draining,
    /// The request would go round in circles.
    Loop,
    /// The proxy has no configuration yet, or none for this workload.
    NoConfig,
}

impl Reason {
    /// All of them, that of a bad request without its rule and that of a token without its cause. New ones go to the end.
    pub const ALL: [Self; 24] = [
        Self::NoRoute,
        Self::NoHealthyUpstream,
        Self::ConnectFailure,
        Self::ConnectTimeout,
        Self::UpstreamReset,
        Self::UpstreamProtocolError,
        Self::RequestTimeout,
        Self::PerTryTimeout,
        Self::RetryLimit,
        Self::BudgetExhausted,
        Self::CircuitOpen,
        Self::Overflow,
        Self::RateLimited,
        Self::AuthzDenied,
        Self::ExtAuthzDenied,
        Self::JwtInvalid(""),
        Self::TlsFailure,
        Self::ClientDisconnect,
        Self::BadRequest(""),
        Self::OverloadShed,
        Self::FaultInjected,
        Self::Draining,
        Self::Loop,
        Self::NoConfig,
    ];

    /// What it means, for the reference.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::NoRoute => "no route takes the request",
            Self::NoHealthyUpstream => "the destination has no endpoint to send to",
            Self::ConnectFailure => "no connection to the endpoint",
            Self::ConnectTimeout => "the connection took too long",
            Self::UpstreamReset => "the endpoint broke the connection or the stream",
            Self::UpstreamProtocolError => "the endpoint did not speak HTTP",
            Self::RequestTimeout => "the whole exchange took too long",
            Self::PerTryTimeout => "the last try took too long",
            Self::RetryLimit => "every attempt was used up",
            Self::BudgetExhausted => "the retry budget did not allow another try",
            Self::CircuitOpen => "the circuit of the destination is open",
            Self::Overflow => "a queue or a pool is full",
            Self::RateLimited => "over the rate that policy allows",
            Self::AuthzDenied => "not allowed by policy",
            Self::ExtAuthzDenied => "not allowed by the external authorizer",
            Self::JwtInvalid(_) => {
                "no token, or one that is not valid; logs and answers add the cause"
            }
            Self::TlsFailure => "no trusted connection",
            Self::ClientDisconnect => "the client went away",
            Self::BadRequest(_) => {
                "the request is malformed; logs and answers add the rule that it broke"
            }
            Self::OverloadShed => "the proxy protects itself",
            Self::FaultInjected => "policy injected a fault",
            Self::Draining => "the proxy is ending",
            Self::Loop => "the request would go round in circles",
            Self::NoConfig => "the proxy has no configuration yet, or none for this workload",
        }
    }

    /// The name without the rule of a bad request and the cause of a bad token, for metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::NoHealthyUpstream => "no_healthy_upstream",
            Self::ConnectFailure => "connect_failure",
            Self::ConnectTimeout => "connect_timeout",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamProtocolError => "upstream_protocol_error",
            Self::RequestTimeout => "request_timeout",
            Self::PerTryTimeout => "per_try_timeout",
            Self::RetryLimit => "retry_limit",
            Self::BudgetExhausted => "budget_exhausted",
            Self::CircuitOpen => "circuit_open",
            Self::Overflow => "overflow",
            Self::RateLimited => "rate_limited",
            Self::AuthzDenied => "authz_denied",
            Self::ExtAuthzDenied => "ext_authz_denied",
            Self::JwtInvalid(_) => "jwt_invalid",
            Self::TlsFailure => "tls_failure",
            Self::ClientDisconnect => "client_disconnect",
            Self::BadRequest(_) => "bad_request",
            Self::OverloadShed => "overload_shed",
            Self::FaultInjected => "fault_injected",
            Self::Draining => "draining",
            Self::Loop => "loop",
            Self::NoConfig => "no_config",
        }
    }

    /// Envoy's response flag, for people who know those; empty where Envoy has none.
    pub fn envoy_flag(self) -> &'static str {
        match self {
            Self::NoRoute => "NR",
            Self::NoHealthyUpstream => "UH",
            Self::ConnectFailure | Self::ConnectTimeout | Self::TlsFailure => "UF",
            Self::UpstreamReset => "UC",
            Self::UpstreamProtocolError => "UPE",
            Self::RequestTimeout | Self::PerTryTimeout => "UT",
            Self::RetryLimit => "URX",
            Self::BudgetExhausted | Self::CircuitOpen | Self::Overflow => "UO",
            Self::RateLimited => "RL",
            Self::AuthzDenied | Self::ExtAuthzDenied | Self::JwtInvalid(_) => "UAEX",
            Self::ClientDisconnect => "DC",
            Self::BadRequest(_) => "DPE",
            Self::OverloadShed => "OM",
            Self::FaultInjected => "FI",
            Self::Draining | Self::Loop | Self::NoConfig => "LR",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRequest(rule) => write!(f, "bad_request:{rule}"),
            Self::JwtInvalid(cause) => write!(f, "jwt_invalid:{cause}"),
            other => f.write_str(other.name()),
        }
    }
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.name(), encoder)
    }
}

/// Why a TLS handshake between mesh peers failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsReason {
    /// The peer showed none.
    NoCertificate,
    /// Not yet, or no longer, valid.
    Expired,
    /// Of a trust domain that is not trusted here, or not signed by the one it claims.
    WrongTrustDomain,
    /// No SPIFFE ID, several, a malformed one, or not the one that was expected.
    BadSpiffeId,
    /// On a list of revocations.
    Revoked,
    /// Anything else: wrong protocol, version, ALPN, a broken connection.
    TlsFailure,
}

impl TlsReason {
    /// As written in logs, metrics and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::Expired => "expired",
            Self::WrongTrustDomain => "wrong_trust_domain",
            Self::BadSpiffeId => "bad_spiffe_id",
            Self::Revoked => "revoked",
            Self::TlsFailure => "tls_failure",
        }
    }
}

impl fmt::Display for TlsReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl EncodeLabelValue for TlsReason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_request_names_its_rule_in_text_and_not_in_labels() {
        let reason = Reason::BadRequest("two_hosts");
        assert_eq!(reason.to_string(), "bad_request:two_hosts");
        assert_eq!(reason.name(), "bad_request");
        assert_eq!(Reason::NoHealthyUpstream.envoy_flag(), "UH");
    }

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        let mut names = Reason::ALL.map(Reason::name);
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
