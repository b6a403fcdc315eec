//! Words of the language that this release does not enforce yet. They are refused by name, so that
//! nobody believes in a setting that nothing carries out.

use super::Place;
use super::Place::{
    Allow, Calls, Defaults, Deny, Expect, Match, Mesh, Not, Policy, Root, Service, Test,
};

/// A word that a later release enforces.
#[derive(Debug)]
pub struct Later {
    /// The word.
    pub name: &'static str,
    /// Where it may stand.
    pub stands: &'static [Place],
}

/// A property that a later release enforces.
#[derive(Debug)]
pub(super) struct LaterProperty {
    /// The word it belongs to.
    pub keyword: &'static str,
    /// The property.
    pub name: &'static str,
}

const fn later(name: &'static str, stands: &'static [Place]) -> Later {
    Later { name, stands }
}

const fn property(keyword: &'static str, name: &'static str) -> LaterProperty {
    LaterProperty { keyword, name }
}

const ACCESS: &[Place] = &[Defaults, Policy, Service];
const CONDITIONS: &[Place] = &[Match, Allow, Deny, Not];

/// Every such word.
pub static LATER: &[Later] = &[
    later("external", &[Root]),
    later("jwt", &[Root]),
    later("authorizer", &[Root]),
    later("invariant", &[Root]),
    later("telemetry", &[Mesh, Service]),
    later("federate", &[Mesh]),
    later("rollout", &[Mesh]),
    later("address", &[Service]),
    later("unmeshed", &[Service]),
    later("mtls", &[Service]),
    later("listen", &[Calls]),
    later("require", ACCESS),
    later("accept", ACCESS),
    later("rate-limit", ACCESS),
    later("probe", ACCESS),
    later("grpc", CONDITIONS),
    later("connect", &[Test]),
    later("limited", &[Expect]),
];

/// Every such property.
pub(super) static LATER_PROPERTIES: &[LaterProperty] = &[
    property("port", "dial"),
    property("timeout", "idle"),
    property("balance", "choices"),
    property("balance", "slow-start"),
];
