//! `limits`: how much one calling proxy sends one service at once.

use mesh_bundle::slice;

use super::Place::{Defaults, External, Policy, Service, Subset};
use super::outlier::percent;
use super::{Args, Argument, Entry, Keyword, Property, Reader};
use crate::level::{Percent, fields};
use crate::value;

pub(super) static LIMITS: Keyword = Keyword {
    args: Args::optional(&[Argument::new("none", &value::NONE)]),
    props: &[
        Property::new("connections", &value::COUNT_OR_NONE, "Connections."),
        Property::new(
            "pending",
            &value::COUNT_OR_NONE,
            "Requests that wait for a connection.",
        ),
        Property::new("requests", &value::COUNT_OR_NONE, "Requests in flight."),
        Property::new("retries", &value::COUNT_OR_NONE, "Retries in flight."),
        Property::new(
            "requests-per-connection",
            &value::COUNT_OR_NONE,
            "Requests until a connection is closed.",
        ),
        Property::new("body", &value::SIZE_OR_NONE, "Size of a request's body."),
        Property::new(
            "adaptive",
            &value::SOME_PERCENT_OR_NONE,
            "Requests in flight follow how long answers take: so much longer than at their best is still well. \
             `requests=` is the most that there may be then, 1000 if unsaid.",
        ),
    ],
    ..Keyword::new(
        "limits",
        &[Defaults, Policy, Service, External, Subset],
        "How much each calling proxy sends at once; what is above is refused.",
    )
};

fields! {
    /// `limits` at one level.
    declared Limits;
    /// How much each calling proxy sends at once; none: no limit.
    effective EffectiveLimits;
    /// Connections.
    connections: u32 => Option<u32> = None, "`limits connections=`", "limits_connections";
    /// Requests that wait for a connection.
    pending: u32 => Option<u32> = None, "`limits pending=`", "limits_pending";
    /// Requests in flight.
    requests: u32 => Option<u32> = None, "`limits requests=`", "limits_requests";
    /// Retries in flight.
    retries: u32 => Option<u32> = None, "`limits retries=`", "limits_retries";
    /// Requests until a connection is closed.
    requests_per_connection: u32 => Option<u32> = None, "`limits requests-per-connection=`", "limits_requests_per_connection";
    /// Bytes of a request's body.
    body: u64 => Option<u64> = None, "`limits body=`", "limits_body_bytes";
    /// So much longer than at their best answers may take; none: requests in flight follow no answers.
    adaptive: Percent => Option<Percent> = None, "`limits adaptive=`", "limits_adaptive";
}

impl EffectiveLimits {
    pub(crate) const fn lower(&self, message: &mut slice::Pool) {
        message.limits = slice::Limits {
            connections: self.connections.value,
            pending: self.pending.value,
            requests: self.requests.value,
            retries: self.retries.value,
            requests_per_connection: self.requests_per_connection.value,
            body_bytes: self.body.value,
            adaptive: match self.adaptive.value {
                Some(Percent(share)) => Some(share),
                None => None,
            },
        };
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Limits {
    if let Some(none) = reader.none(entry) {
        return Limits::removed(none);
    }
    Limits {
        connections: entry.prop("connections", value::count_or_none),
        pending: entry.prop("pending", value::count_or_none),
        requests: entry.prop("requests", value::count_or_none),
        retries: entry.prop("retries", value::count_or_none),
        requests_per_connection: entry.prop("requests-per-connection", value::count_or_none),
        body: entry.prop("body", value::size_or_none),
        adaptive: percent(entry, "adaptive"),
    }
}
