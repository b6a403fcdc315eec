//! What the tests of several files need: short ways to write slices and requests, and random numbers
//! that are the same each time.

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use mesh_bundle::slice::{
    Balance, Callee, Condition, Destination, EndpointSource, Exchange, FieldMatch, PathPattern,
    PathPatternKind, Port, Principal, Protocol, Retry, Route, RouteMatch, StringMatch,
    StringMatchKind, Target,
};
use mesh_bundle::spiffe::SpiffeId;

/// The same instant each time.
#[expect(
    clippy::disallowed_methods,
    reason = "an `Instant` has no other beginning"
)]
pub(crate) fn now() -> Instant {
    static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);
    *NOW
}

/// SplitMix64.
pub(crate) struct TestRng(pub(crate) u64);

impl rand::TryRng for TestRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|word| (word >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(word ^ (word >> 31))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(word.get(..chunk.len()).unwrap_or_default());
        }
        Ok(())
    }
}

pub(crate) fn id(service: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://t.example/service/{service}")).unwrap()
}

pub(crate) fn path(text: &str) -> Condition {
    Condition::Path(vec![template(text, false)])
}

pub(crate) fn template(text: &str, ignore_case: bool) -> PathPattern {
    PathPattern {
        kind: PathPatternKind::Template(text.into()),
        ignore_case,
    }
}

pub(crate) fn regex(text: &str) -> Condition {
    Condition::Path(vec![PathPattern {
        kind: PathPatternKind::Regex(text.into()),
        ignore_case: false,
    }])
}

pub(crate) fn host(text: &str) -> Condition {
    Condition::Host(vec![text.into()])
}

pub(crate) fn method(text: &str) -> Condition {
    Condition::Method(vec![text.into()])
}

pub(crate) fn from(service: &str) -> Condition {
    Condition::From(vec![Principal::SpiffeId(id(service))])
}

pub(crate) fn exact(name: &str, value: &str) -> FieldMatch {
    let kind = StringMatchKind::Exact(value.into());
    FieldMatch {
        name: name.into(),
        values: vec![StringMatch {
            kind,
            ignore_case: false,
        }],
    }
}

pub(crate) fn present(name: &str) -> FieldMatch {
    FieldMatch {
        name: name.into(),
        values: Vec::new(),
    }
}

pub(crate) fn not(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

pub(crate) fn all<const N: usize>(conditions: [Condition; N]) -> RouteMatch {
    RouteMatch {
        conditions: conditions.into(),
    }
}

pub(crate) fn exchange() -> Exchange {
    Exchange {
        timeout: Some(Duration::from_secs(15)),
        connect_timeout: Duration::from_secs(1),
        retry: retry(),
        stream_idle: None,
        max_duration: None,
        ..Exchange::default()
    }
}

pub(crate) fn retry() -> Retry {
    Retry {
        attempts: 1,
        causes: Vec::new(),
        per_try: None,
        any_method: false,
        backoff_base: Duration::from_millis(25),
        backoff_max: Duration::from_millis(250),
    }
}

pub(crate) fn destination(subset: &str, weight: u32) -> Destination {
    let target = Target {
        service: "shop".into(),
        subset: Some(subset.into()),
        ..Target::default()
    };
    Destination {
        target,
        weight,
        otherwise: Vec::new(),
        ..Destination::default()
    }
}

pub(crate) fn route(name: &str, matches: Vec<RouteMatch>) -> Route {
    Route {
        name: name.into(),
        matches,
        destinations: vec![destination("v1", 1)],
        exchange: exchange(),
        ..Route::default()
    }
}

pub(crate) fn port(number: u16) -> Port {
    Port {
        number,
        protocol: Protocol::Http,
    }
}

pub(crate) fn callee(service: &str, routes: Vec<Route>) -> Callee {
    Callee {
        service: service.into(),
        hosts: vec![service.into()],
        ports: vec![port(80)],
        identities: vec![id(service)],
        subsets: Vec::new(),
        endpoints: EndpointSource::Discovered,
        routes,
        retry_budget: None,
        balance: Balance::RoundRobin,
        ..Callee::default()
    }
}
