//! What `meshd dev` shows while it runs: a table that is drawn over itself on a terminal, and a line
//! for each change elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table};

use super::traffic::{EdgeCount, EdgeName};

/// What one proxy serves, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Serving {
    pub(super) service: String,
    pub(super) is_gateway: bool,
    pub(super) subset: Option<String>,
    pub(super) instance: String,
    /// None while it does not answer.
    pub(super) sequence: Option<u64>,
}

/// One look at the mesh.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    pub(super) proxies: Vec<Serving>,
    pub(super) traffic: BTreeMap<EdgeName, EdgeCount>,
    /// What the distributor follows, or that it does not answer.
    pub(super) head: String,
    /// Findings of a refused commit.
    pub(super) refused: Option<String>,
}

/// Looks over which rates and shares are taken: one second alone says little about a tenth.
const WINDOW: usize = 5;

/// Draws looks.
#[derive(Debug)]
pub(super) struct Screen {
    lines: usize,
    /// Oldest first.
    before: VecDeque<(Instant, Look)>,
    terminal: bool,
    said: String,
}

impl Screen {
    /// Draws on stdout.
    pub(super) fn new() -> Self {
        Self {
            lines: 0,
            before: VecDeque::new(),
            terminal: std::io::stdout().is_terminal(),
            said: String::new(),
        }
    }

    /// Draws one look over the one before.
    pub(super) fn show(&mut self, look: Look) -> std::io::Result<()> {
        let now = Instant::now();
        if let Some((then, before)) = self.before.front() {
            let text = if self.terminal {
                let table = table(before, &look, now.duration_since(*then));
                let text = format!("{table}\n{}", footer(&look));
                let drawn = over(self.lines, &text);
                self.lines = text.lines().count();
                drawn
            } else {
                let line = plain(&look);
                if line == self.said {
                    String::new()
                } else {
                    self.said.clone_from(&line);
                    line
                }
            };
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
        if self.before.len() == WINDOW {
            self.before.pop_front();
        }
        self.before.push_back((now, look));
        Ok(())
    }
}

/// Moves up over the old lines, then clears to the end of each new one and below.
fn over(lines: usize, text: &str) -> String {
    let mut drawn = String::new();
    if lines > 0 {
        drawn.extend(["\u{1b}[", &lines.to_string(), "A\r"]);
    }
    for line in text.lines() {
        drawn.extend([line, "\u{1b}[K\n"]);
    }
    drawn.extend(["\u{1b}[J"]);
    drawn
}

fn table(before: &Look, now: &Look, elapsed: Duration) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(
        [
            "service",
            "version",
            "requests/s",
            "share",
            "failures",
            "generation",
        ]
        .map(|title| Cell::new(title).add_attribute(Attribute::Bold)),
    );
    for (service, subset, serving) in rows(now) {
        // Whatever version answers behind a gateway, it has come in by it.
        let entered = now
            .proxies
            .iter()
            .any(|it| it.service == service && it.is_gateway);
        let version = Some(subset.as_deref().unwrap_or_default()).filter(|_| !entered);
        let since = |version| {
            let answered = |look| answered(look, &service, entered, version);
            answered(now).saturating_sub(answered(before))
        };
        let (recent, all) = (since(version), since(None));
        let failed = failures(now, &service, entered);
        table.add_row([
            Cell::new(&service),
            Cell::new(subset.as_deref().unwrap_or("-")),
            right(rate(recent, elapsed)),
            right(share(recent, all)),
            right(failed.to_string()).fg(if failed == 0 {
                Color::Reset
            } else {
                Color::Red
            }),
            right(serving),
        ]);
    }
    table
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// Service, subset and what its proxies serve.
fn rows(look: &Look) -> Vec<(String, Option<String>, String)> {
    let mut rows: BTreeMap<(String, Option<String>), Vec<String>> = BTreeMap::new();
    for proxy in &look.proxies {
        let serving = proxy
            .sequence
            .map_or_else(|| "down".to_owned(), |sequence| sequence.to_string());
        rows.entry((proxy.service.clone(), proxy.subset.clone()))
            .or_default()
            .push(serving);
    }
    rows.into_iter()
        .map(|((service, subset), mut serving)| {
            if serving.iter().all(|one| Some(one) == serving.first()) {
                serving.truncate(1);
            }
            (service, subset, serving.join(" "))
        })
        .collect()
}

/// What a service is asked, or what comes in by a gateway.
fn about<'l>(look: &'l Look, service: &str, entered: bool) -> impl Iterator<Item = &'l EdgeCount> {
    let edges = look.traffic.iter();
    let concerned = move |(caller, callee): &EdgeName| {
        if entered {
            caller == service
        } else {
            callee == service
        }
    };
    edges
        .filter(move |(name, _)| concerned(name))
        .map(|(_, count)| count)
}

fn answered(look: &Look, service: &str, entered: bool, version: Option<&str>) -> u64 {
    about(look, service, entered)
        .flat_map(|count| &count.versions)
        .filter(|(answered, _)| version.is_none_or(|version| *answered == version))
        .map(|(_, answered)| answered)
        .sum()
}

fn failures(look: &Look, service: &str, entered: bool) -> u64 {
    about(look, service, entered)
        .map(|count| count.failed)
        .sum()
}

#[expect(clippy::cast_precision_loss, reason = "shown to a tenth")]
fn rate(requests: u64, elapsed: Duration) -> String {
    if requests == 0 {
        return "-".to_owned();
    }
    format!("{:.0}", requests as f64 / elapsed.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "shown to a percent")]
fn share(part: u64, all: u64) -> String {
    if all == 0 {
        return "-".to_owned();
    }
    format!("{:.0} %", part as f64 / all as f64 * 100.0)
}

fn footer(look: &Look) -> String {
    let mut text = look.head.clone();
    if let Some(refused) = &look.refused {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "\n{refused}");
    }
    text
}

/// One line for a log: what is served, and by whom.
fn plain(look: &Look) -> String {
    let serving = rows(look)
        .into_iter()
        .map(|(service, subset, serving)| match subset {
            Some(subset) => format!("{service}/{subset}={serving}"),
            None => format!("{service}={serving}"),
        })
        .collect::<Vec<_>>()
        .join(" ");
    format!("serving {serving}; {}\n", footer(look))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(requests: u64) -> Look {
        let edge = ("productpage".to_owned(), "reviews".to_owned());
        let count = EdgeCount {
            requests,
            failed: 1,
            versions: [
                ("v1".to_owned(), requests * 9 / 10),
                ("v2".to_owned(), requests / 10),
            ]
            .into(),
            ..EdgeCount::default()
        };
        let proxy = |subset: &str, instance: &str, sequence| Serving {
            service: "reviews".to_owned(),
            is_gateway: false,
            subset: Some(subset.to_owned()),
            instance: instance.to_owned(),
            sequence,
        };
        Look {
            proxies: vec![
                proxy("v1", "reviews-v1-1", Some(3)),
                proxy("v1", "reviews-v1-2", None),
                proxy("v2", "reviews-v2-1", Some(3)),
            ],
            traffic: [(edge, count)].into(),
            head: "generation 3".to_owned(),
            refused: None,
        }
    }

    #[test]
    fn a_row_shows_rate_share_and_generation() {
        let shown = table(&look(0), &look(100), Duration::from_secs(1)).to_string();
        let row = |version: &str| {
            let line = shown.lines().find(|line| line.contains(version));
            line.expect("a row per version")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(row("v1"), "│ reviews v1 90 90 % 1 3 down │");
        assert_eq!(row("v2"), "│ reviews v2 10 10 % 1 3 │");
    }

    #[test]
    fn what_comes_in_by_a_gateway_is_in_its_row() {
        let with_gateway = |requests: u64| {
            let mut look = look(0);
            let edge = ("public".to_owned(), "reviews".to_owned());
            let count = EdgeCount {
                requests,
                versions: [("v1".to_owned(), requests)].into(),
                ..EdgeCount::default()
            };
            look.traffic.insert(edge, count);
            look.proxies.push(Serving {
                service: "public".to_owned(),
                is_gateway: true,
                subset: None,
                instance: "public-1".to_owned(),
                sequence: Some(3),
            });
            look
        };
        let shown = table(&with_gateway(0), &with_gateway(50), Duration::from_secs(1)).to_string();
        let line = shown.lines().find(|line| line.contains("public"));
        let words: Vec<_> = line.expect("a row").split_whitespace().collect();
        assert_eq!(words.join(" "), "│ public - 50 100 % 0 3 │");
    }

    #[test]
    fn a_log_gets_one_line() {
        assert_eq!(
            plain(&look(10)),
            "serving reviews/v1=3 down reviews/v2=3; generation 3\n"
        );
    }
}
