//! `balance`

use mesh_bundle::slice::Balance;
use mesh_syntax::Value;

use super::Place::{Defaults, Policy, Service};
use super::{Args, Argument, Entry, Keyword, Merge};
use crate::model::Spanned;
use crate::value::{self, Kind, Wrong};

pub(super) static BALANCE: Keyword = Keyword {
    merge: Some(Merge::Whole),
    args: Args::required(&[Argument::new("ALGORITHM", &ALGORITHM)]),
    ..Keyword::new(
        "balance",
        &[Defaults, Policy, Service],
        "How a caller picks an endpoint.",
    )
};

const ALGORITHMS: [(&str, Balance); 3] = [
    ("round-robin", Balance::RoundRobin),
    ("least-request", Balance::LeastRequest),
    ("random", Balance::Random),
];

/// Of the language, but not of this release.
const LATER: [&str; 3] = ["peak-ewma", "ring-hash", "maglev"];

static ALGORITHM: Kind = Kind {
    expected: "a way to balance",
    words: &["round-robin", "least-request", "random"],
    check: |value| algorithm(value).map(drop),
};

fn algorithm(value: &Value) -> Result<Balance, Wrong> {
    match value {
        Value::Word(word) if LATER.contains(&word.as_str()) => Err(Wrong::later(format!(
            "`balance {word}` is not supported by this release"
        ))),
        other => value::one_of(other, &ALGORITHMS),
    }
}

pub(super) fn decode(entry: Entry<'_>) -> Option<Spanned<Balance>> {
    entry.arg(0, algorithm)
}
