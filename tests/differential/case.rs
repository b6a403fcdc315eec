//! What a case is: a policy, endpoints, and what is asked of both.

use mesh_tests::Failure;

use crate::backend::Nature;
use crate::side::{Ask, Seen, Side};

pub(crate) use crate::cases::CASES;

/// A policy that both carry out.
#[derive(Debug)]
pub(crate) struct Case {
    /// The name of its service.
    pub(crate) name: &'static str,
    /// What is compared, for the documentation.
    pub(crate) compares: &'static str,
    /// What the service says beyond its port and endpoints.
    pub(crate) policy: &'static str,
    /// The gateway that is entered; empty: a caller's proxy is.
    pub(crate) gateway: &'static str,
    /// Each with its group, which is its version.
    pub(crate) endpoints: &'static [(&'static str, Nature)],
    /// Asks, and says what became of it.
    pub(crate) observe: fn(&Side<'_>) -> Result<Vec<Fact>, Failure>,
}

/// One thing that must be the same.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// Of what request, or of which of them together.
    pub(crate) about: String,
    /// What became of it.
    pub(crate) what: String,
}

impl Fact {
    pub(crate) fn new(about: impl Into<String>, what: impl std::fmt::Display) -> Self {
        Self {
            about: about.into(),
            what: what.to_string(),
        }
    }
}

/// What is seen of each request.
pub(crate) fn each(
    side: &Side<'_>,
    asks: impl IntoIterator<Item = Ask>,
    show: impl Fn(&Seen) -> String,
) -> Result<Vec<Fact>, Failure> {
    asks.into_iter()
        .map(|ask| Ok(Fact::new(ask.to_string(), show(&side.ask(&ask)?))))
        .collect()
}

/// Whether a share of many is the one that is written: within five standard deviations, which chance misses once in
/// two million times.
pub(crate) fn share(hits: usize, of: usize, written: f64) -> String {
    let as_float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let deviation = (written * (1.0 - written) / as_float(of)).sqrt();
    let share = as_float(hits) / as_float(of);
    if (share - written).abs() <= deviation * 5.0 {
        return format!("{written} as written");
    }
    format!("{share}")
}

/// Numbers that look like chance and are the same each time (`SplitMix64`).
#[derive(Debug)]
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut next = self.0;
        next = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        next = (next ^ (next >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        next ^= next >> 31;
        let length = u64::try_from(from.len()).ok()?.max(1);
        from.get(usize::try_from(next % length).ok()?)
    }
}
