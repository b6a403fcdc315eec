//! Words of the language that this release does not enforce yet. They are refused by name, so that
//! nobody believes in a setting that nothing carries out.

use super::Place;
use super::Place::{Calls, Expect, Root, Service, Test};

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

/// Every such word.
pub static LATER: &[Later] = &[
    later("external", &[Root]),
    later("address", &[Service]),
    later("unmeshed", &[Service]),
    later("listen", &[Calls]),
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
