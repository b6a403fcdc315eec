//! Rate limits, and the keys that tell requests apart.

use super::condition::conditions_from;
use super::exchange::{duration, millis, optional_duration};
use super::gate::{on_failure_from, on_failure_to};
use super::{Result, header_name, name, optional_name, target_from, target_to};
use crate::canonical::{Wire, ascending_by_bytes, each, required, set_by_bytes, within};
use crate::limits;
use crate::messages::bundle as wire;
use crate::slice::{RateLimit, RequestKey, Respond};

impl Wire for RateLimit {
    type Message = wire::RateLimit;

    fn to_message(&self) -> wire::RateLimit {
        wire::RateLimit {
            count: self.count,
            per_ms: millis(self.per),
            burst: self.burst,
            keys: set_by_bytes(&self.keys),
            via: self.via.as_ref().map(|(target, _)| target_to(target)),
            on_failure: self
                .via
                .as_ref()
                .map_or(wire::OnFailure::Unspecified, |(_, on_failure)| {
                    on_failure_to(*on_failure)
                }) as i32,
            route: self.route.clone().unwrap_or_default(),
            conditions: set_by_bytes(&self.conditions),
            respond: self.respond.as_ref().map(Wire::to_message),
        }
    }

    fn from_message(message: wire::RateLimit) -> Result<Self> {
        ascending_by_bytes("rate_limit.keys", &message.keys, limits::REQUEST_KEYS_MAX)?;
        let via = match message.via {
            Some(via) => Some((
                target_from("rate_limit.via", via)?,
                on_failure_from("rate_limit.on_failure", message.on_failure)?,
            )),
            None => {
                within("rate_limit.on_failure", message.on_failure, 0, 0)?;
                None
            }
        };
        let number = |field, value| within(field, value, 1, limits::RATE_MAX);
        Ok(Self {
            count: number("rate_limit.count", message.count)?,
            per: duration("rate_limit.per_ms", message.per_ms)?,
            burst: number("rate_limit.burst", message.burst)?,
            keys: each(message.keys)?,
            via,
            route: optional_name("rate_limit.route", message.route)?,
            conditions: conditions_from("rate_limit.conditions", message.conditions)?,
            respond: message.respond.map(Respond::from_message).transpose()?,
        })
    }
}

impl Wire for RequestKey {
    type Message = wire::RequestKey;

    fn to_message(&self) -> wire::RequestKey {
        use wire::request_key::Kind;
        wire::RequestKey {
            kind: Some(match self {
                Self::ClientIp => Kind::ClientIp(wire::Unit {}),
                Self::Caller => Kind::Caller(wire::Unit {}),
                Self::Path => Kind::Path(wire::Unit {}),
                Self::Header(name) => Kind::Header(name.clone()),
                Self::Query(name) => Kind::Query(name.clone()),
                Self::Cookie { name, ttl } => Kind::Cookie(wire::CookieKey {
                    name: name.clone(),
                    ttl_ms: ttl.map(millis),
                }),
                Self::Claim(name) => Kind::Claim(name.clone()),
            }),
        }
    }

    fn from_message(message: wire::RequestKey) -> Result<Self> {
        use wire::request_key::Kind;
        Ok(match required("request_key.kind", message.kind)? {
            Kind::ClientIp(wire::Unit {}) => Self::ClientIp,
            Kind::Caller(wire::Unit {}) => Self::Caller,
            Kind::Path(wire::Unit {}) => Self::Path,
            Kind::Header(value) => Self::Header(header_name("request_key.header", value)?),
            Kind::Query(value) => Self::Query(name("request_key.query", value)?),
            Kind::Cookie(cookie) => Self::Cookie {
                name: name("request_key.cookie", cookie.name)?,
                ttl: optional_duration("request_key.ttl_ms", cookie.ttl_ms)?,
            },
            Kind::Claim(value) => Self::Claim(name("request_key.claim", value)?),
        })
    }
}
