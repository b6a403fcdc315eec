//! Words of the language that this release does not enforce yet. They are refused by name, so that
//! nobody believes in a setting that nothing carries out.

use super::Place;

/// A word that a later release enforces.
#[derive(Debug)]
pub struct Later {
    /// The word.
    pub name: &'static str,
    /// Where it may stand.
    pub stands: &'static [Place],
}

/// Every such word: none at present.
pub static LATER: &[Later] = &[];
