//! `balance`: how a caller picks an endpoint.

use std::time::Duration;

use mesh_bundle::slice::{self, Balance as Algorithm, RequestKey};
use mesh_syntax::{Diagnostic, Value};

use super::Place::{Defaults, External, Policy, Service, Subset};
use super::{Args, Argument, Entry, Keyword, Merge, Place, Property, Reader, per};
use crate::code;
use crate::level::{Show, Shown, fields};
use crate::model::{Setting, Spanned};
use crate::value::{self, Kind, Wrong};

pub(super) static BALANCE: Keyword = Keyword {
    merge: Some(Merge::Whole),
    args: Args::required(&[Argument::new("ALGORITHM", &ALGORITHM)]),
    props: &[
        Property::new(
            "choices",
            &CHOICES,
            "Endpoints that `least-request` compares; 2 if unsaid.",
        ),
        Property::new(
            "slow-start",
            &value::TIME_OR_NONE,
            "A new endpoint reaches its full share after so long.",
        ),
    ],
    block: Some(Place::Balance),
    ..Keyword::new(
        "balance",
        &[Defaults, Policy, Service, External, Subset],
        "How a caller picks an endpoint.",
    )
};

const ALGORITHMS: [(&str, Algorithm); 6] = [
    ("round-robin", Algorithm::RoundRobin),
    ("least-request", Algorithm::LeastRequest),
    ("peak-ewma", Algorithm::PeakEwma),
    ("random", Algorithm::Random),
    ("ring-hash", Algorithm::RingHash),
    ("maglev", Algorithm::Maglev),
];

static ALGORITHM: Kind = Kind {
    expected: "a way to balance",
    words: &[
        "round-robin",
        "least-request",
        "peak-ewma",
        "random",
        "ring-hash",
        "maglev",
    ],
    check: |value| value::none(value).or_else(|_| algorithm(value).map(drop)),
};

fn algorithm(value: &Value) -> Result<Algorithm, Wrong> {
    value::one_of(value, &ALGORITHMS)
}

/// More would cost as much as asking all.
const CHOICES_MAX: u32 = 100;

static CHOICES: Kind = Kind {
    expected: "a whole number from 2",
    words: &[],
    check: |value| choices(value).map(drop),
};

fn choices(value: &Value) -> Result<u32, Wrong> {
    value::integer(value, 2, CHOICES_MAX)
}

/// The word for an algorithm.
pub fn algorithm_word(algorithm: Algorithm) -> &'static str {
    ALGORITHMS
        .iter()
        .find(|(_, known)| *known == algorithm)
        .map_or("", |(word, _)| word)
}

/// Whether an algorithm hashes keys of the request.
const fn hashes(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::RingHash | Algorithm::Maglev)
}

/// An algorithm and what belongs to it and to no other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// What it hashes; empty exactly where it hashes nothing. In the order written.
    pub keys: Vec<RequestKey>,
    /// Endpoints that it compares; none: 2.
    pub choices: Option<u32>,
}

impl Show for Method {
    fn show(&self) -> Shown {
        Shown::Text(algorithm_word(self.algorithm).to_owned())
    }
}

fields! {
    /// `balance` at one level.
    declared Balance;
    /// How a caller picks an endpoint.
    effective EffectiveBalance;
    /// The algorithm, with its keys and choices: another level's would mean nothing to it.
    method: Method => Method = Method::default(), "`balance`", "balance";
    /// A new endpoint reaches its full share after so long; none: at once.
    slow_start: Duration => Option<Duration> = None, "`balance slow-start=`", "balance_slow_start";
}

impl EffectiveBalance {
    /// The algorithm has a field of its own, beside the pool.
    pub(crate) fn lower(&self, message: &mut slice::Pool) {
        message.hash_keys.clone_from(&self.method.value.keys);
        message.choices = self.method.value.choices;
        message.slow_start = self.slow_start.value;
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Balance {
    if let Some(none) = reader.none(entry) {
        return Balance::removed(none);
    }
    let keys = keys(reader, entry);
    let slow_start = entry.prop("slow-start", value::time_or_none);
    let Some(algorithm) = entry.arg(0, algorithm) else {
        return Balance {
            method: None,
            slow_start,
        };
    };
    let choices = entry.prop("choices", choices);
    if let (Some(choices), true) = (choices, algorithm.value != Algorithm::LeastRequest) {
        reader.report(
            Diagnostic::error(
                code::EXCLUSIVE,
                choices.span,
                "only `least-request` compares endpoints",
            )
            .label(algorithm.span, "this does not")
            .help("remove `choices=`, or write `balance least-request`"),
        );
    }
    match (hashes(algorithm.value), keys.first()) {
        (true, None) if entry.node.children.is_empty() => {
            let word = algorithm_word(algorithm.value);
            reader.report(
                Diagnostic::error(
                    code::HASH_WITHOUT_KEY,
                    algorithm.span,
                    format!("`{word}` has nothing to hash"),
                )
                .at("by what?")
                .help(format!(
                    "say what keeps to one endpoint: `balance {word} {{ per header user }}`"
                )),
            );
        }
        (false, Some(key)) => {
            let word = algorithm_word(algorithm.value);
            reader.report(
                Diagnostic::error(
                    code::EXCLUSIVE,
                    key.span,
                    format!("`{word}` hashes nothing, so `per` says nothing"),
                )
                .label(algorithm.span, "the algorithm")
                .help("remove it, or write `balance ring-hash` or `balance maglev`"),
            );
        }
        _ => {}
    }
    let method = Method {
        algorithm: algorithm.value,
        keys: keys.into_iter().map(|key| key.value).collect(),
        choices: choices.map(|choices| choices.value),
    };
    Balance {
        method: Some(Spanned::new(Setting::Value(method), algorithm.span)),
        slow_start,
    }
}

/// Ascending: a compound key is a set, so the order in which it is written decides nothing.
pub(super) fn keys(reader: &mut Reader<'_>, entry: Entry<'_>) -> Vec<Spanned<RequestKey>> {
    let mut keys: Vec<Spanned<RequestKey>> = Vec::new();
    for child in reader.block(entry) {
        if let Some(key) = per::decode(reader, child) {
            keys.push(Spanned::new(key, child.span()));
        }
    }
    keys.sort_by(|a, b| (&a.value, a.span).cmp(&(&b.value, b.span)));
    for pair in keys.windows(2) {
        if pair[0].value == pair[1].value {
            reader.report(
                Diagnostic::error(
                    mesh_syntax::code::DUPLICATE_SETTING,
                    pair[1].span,
                    "the same key twice",
                )
                .label(pair[0].span, "the first time"),
            );
        }
    }
    keys.dedup_by(|later, first| later.value == first.value);
    keys
}
