//! Words of the language that this release does not enforce yet. They are refused by name, so that
//! nobody believes in a setting that nothing carries out.

use super::Place;
use super::Place::{Expect, Test};

/// A word that a later release enforces.
#[derive(Debug)]
pub struct Later {
    /// The word.
    pub name: &'static str,
    /// Where it may stand.
    pub stands: &'static [Place],
}

const fn later(name: &'static str, stands: &'static [Place]) -> Later {
    Later { name, stands }
}

/// Every such word.
pub static LATER: &[Later] = &[later("connect", &[Test]), later("limited", &[Expect])];
