//! A comparison for people, the gravest first: sections of entries, from which the terminal gets columns and a pull
//! request gets Markdown.

use super::counted;
use crate::difference::{Access, Difference, Setting};

mod columns;
mod entry;
mod markdown;

pub(crate) use columns::human;
pub(crate) use markdown::markdown;

use entry::{
    access, amplification, called, moved, service, setting, skew, slice, timeout, unknown,
};

/// A part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Our own words.
    Text(&'static str),
    /// Words of policies, and numbers.
    Said(String),
}

/// What stands in one column of an entry.
type Cell = Vec<Piece>;

/// One thing that changed.
#[derive(Debug, Default)]
struct Entry {
    cells: Vec<Cell>,
    /// Lines below it.
    details: Vec<Cell>,
}

/// Entries of one kind.
#[derive(Debug)]
struct Section {
    title: &'static str,
    /// One of its entries and several, in the line that counts; empty: they are not counted there.
    words: [&'static str; 2],
    /// Nobody should merge without having read it.
    is_danger: bool,
    entries: Vec<Entry>,
}

fn said(text: impl Into<String>) -> Piece {
    Piece::Said(text.into())
}

/// Every section that has entries.
fn sections(found: &Difference) -> Vec<Section> {
    let section = |title, words, is_danger, entries: Vec<Entry>| Section {
        title,
        words,
        is_danger,
        entries,
    };
    let (gained, lost): (Vec<&Access>, Vec<&Access>) = found
        .access
        .iter()
        .partition(|each| each.change == "gained");
    let (open, closed): (Vec<&Setting>, Vec<&Setting>) =
        found.settings.iter().partition(|each| each.may_widen);
    let all = [
        section(
            "Unsafe while it rolls out",
            ["unsafe call", "unsafe calls"],
            true,
            found.unsafe_skew.iter().map(skew).collect(),
        ),
        section(
            "Access gained",
            ["caller gains access", "callers gain access"],
            true,
            gained.into_iter().map(access).collect(),
        ),
        section(
            "Access lost",
            ["caller loses access", "callers lose access"],
            true,
            lost.into_iter().map(access).collect(),
        ),
        section(
            "Guards",
            ["guard", "guards"],
            found.guards.iter().any(|each| each.may_widen),
            found.guards.iter().map(setting).collect(),
        ),
        section(
            "Settings that may let more in",
            ["setting may let more in", "settings may let more in"],
            true,
            open.into_iter().map(setting).collect(),
        ),
        section(
            "Requests that go elsewhere",
            ["change of routing", "changes of routing"],
            false,
            found.routes.iter().map(moved).collect(),
        ),
        section(
            "Calls that one request can become when a service fails",
            ["change of amplification", "changes of amplification"],
            false,
            found.amplification.iter().map(amplification).collect(),
        ),
        section(
            "Timeouts and retries",
            [
                "change of timeouts or retries",
                "changes of timeouts or retries",
            ],
            false,
            found.timeouts.iter().map(timeout).collect(),
        ),
        section(
            "Services",
            ["service comes or goes", "services come or go"],
            false,
            found.services.iter().map(service).collect(),
        ),
        section(
            "Declared calls",
            ["declared call comes or goes", "declared calls come or go"],
            false,
            found.calls.iter().map(called).collect(),
        ),
        section(
            "Settings",
            ["setting", "settings"],
            false,
            closed.into_iter().map(setting).collect(),
        ),
        section(
            "Too large to compare",
            [
                "question too large to answer",
                "questions too large to answer",
            ],
            true,
            found.unknown.iter().map(unknown).collect(),
        ),
        section(
            "Workloads that get another slice",
            [""; 2],
            false,
            found.slices.iter().map(slice).collect(),
        ),
    ];
    all.into_iter()
        .filter(|section| !section.entries.is_empty())
        .collect()
}

/// `2 of 6 slices change: 1 caller gains access, 1 change of routing`.
fn summary(found: &Difference, sections: &[Section]) -> String {
    let counts = sections.iter().filter_map(|section| {
        let [one, several] = section.words;
        let count = section.entries.len();
        let word = if count == 1 { one } else { several };
        (!word.is_empty()).then(|| format!("{count} {word}"))
    });
    let counts: Vec<String> = counts.collect();
    let all = found.head.slices.max(found.base.slices);
    let slices = format!(
        "{} of {} change",
        found.changed_slices(),
        counted(all, "slice")
    );
    if counts.is_empty() {
        format!("{slices}.")
    } else {
        format!("{slices}: {}.", counts.join(", "))
    }
}
