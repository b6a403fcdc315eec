//! Sets of requests: unions of products over host, path, method, port, caller, addresses, headers,
//! query, cookies and claims. They answer *empty?*, *covered?* and *which request?* exactly, or say
//! that a bound was passed; they never guess.
//!
//! The sets are those of the engine, with two differences that make them larger, never smaller: a
//! `cookie` condition and a condition on the header `cookie` are taken as independent, as are `host`
//! and the header of that name. So an empty set is certain, and a picked request is still to be
//! checked by running it through the engine.

mod automaton;
mod cell;
pub mod effort;
mod language;
mod point;
mod regex;
mod universe;
mod value_set;

use mesh_bundle::slice::{AccessRule, Condition, Principal, RouteMatch};

use cell::Cell;
pub use point::{FieldKind, Likely, ORDINARY_IP, Point};

/// Products in one set.
const CELLS_MAX: usize = 2_048;
/// Conditions of one match or rule: each is laid over all before it.
const CONDITIONS_MAX: usize = 512;

/// Products made on the way to one difference.
const STEPS_MAX: usize = 20_000;

/// A bound that was passed, so that there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapExceeded {
    /// A set became too many products.
    #[error("more than {CELLS_MAX} combinations of conditions")]
    Cells,
    /// The product of some patterns has too many states.
    #[error("patterns too large to compare")]
    States,
    /// A regular expression is too large, or needs more than a finite automaton.
    #[error("a regular expression too large to compare")]
    Automaton,
    /// All questions about one service together looked at more than they may.
    #[error("what is compared here is too large altogether")]
    Effort,
    /// So many findings of one kind were made that further ones would say nothing new.
    #[error("so many pairs of these routes overlap that the others were not compared")]
    Findings,
    /// Only values that are not text are left, and a finding could not show them.
    #[error("only values that are not UTF-8 are left")]
    NotText,
}

/// What a condition on something that a request may carry several times asks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// One value has to fit: `match` and `deny`.
    One,
    /// Every value has to fit: `allow`.
    Every,
}

/// What of a request is no longer known when it has been sent on.
pub(super) struct Changes<'c> {
    /// Another path may be written.
    pub(super) path: bool,
    /// Another host is.
    pub(super) host: bool,
    /// Whether a header, by its name, may be another.
    pub(super) header: &'c dyn Fn(&str) -> bool,
}

/// A set of requests.
#[derive(Clone, Debug, Default)]
pub struct Space {
    /// Or; none of them is empty.
    cells: Vec<Cell>,
}

impl Space {
    /// No request.
    pub const fn nothing() -> Self {
        Self { cells: Vec::new() }
    }

    /// Every request.
    pub fn everything() -> Self {
        Self {
            cells: vec![Cell::everything()],
        }
    }

    /// The requests that one `match` of a route takes.
    pub fn of_match(route_match: &RouteMatch) -> Result<Self, CapExceeded> {
        Self::of_conditions(&route_match.conditions, Repeated::One)
    }

    /// The requests that a route takes: any of its matches, or everything without one.
    pub fn of_matches(matches: &[RouteMatch]) -> Result<Self, CapExceeded> {
        if matches.is_empty() {
            return Ok(Self::everything());
        }
        let mut sum = Self::nothing();
        for each in matches {
            sum.add(Self::of_match(each)?)?;
        }
        Ok(sum)
    }

    /// The requests that an access rule speaks of, whatever it then does.
    pub fn of_rule(rule: &AccessRule) -> Result<Self, CapExceeded> {
        let repeated = match rule.effect {
            mesh_bundle::slice::Effect::Allow => Repeated::Every,
            mesh_bundle::slice::Effect::Deny => Repeated::One,
        };
        let conditions = Self::of_conditions(&rule.conditions, repeated)?;
        if rule.who.is_empty() {
            return Ok(conditions);
        }
        conditions.intersection(&Self::from(&rule.who)?)
    }

    /// The requests for which all conditions hold.
    pub fn of_conditions(
        conditions: &[Condition],
        repeated: Repeated,
    ) -> Result<Self, CapExceeded> {
        if conditions.len() > CONDITIONS_MAX {
            return Err(CapExceeded::Cells);
        }
        let mut space = Self::everything();
        for condition in conditions {
            let cells = Cell::of_condition(condition, repeated)?;
            space = space.intersection(&Self::of_cells(cells)?)?;
        }
        Ok(space)
    }

    /// The requests of these callers.
    pub fn from(principals: &[Principal]) -> Result<Self, CapExceeded> {
        Self::of_conditions(&[Condition::From(principals.to_vec())], Repeated::One)
    }

    /// The requests to these ports.
    pub fn to_ports(ports: impl IntoIterator<Item = u16>) -> Result<Self, CapExceeded> {
        let ports = ports.into_iter().collect();
        Self::of_conditions(&[Condition::Port(ports)], Repeated::One)
    }

    fn of_cells(cells: Vec<Cell>) -> Result<Self, CapExceeded> {
        let mut space = Self::nothing();
        for cell in cells {
            if !cell.is_empty()? {
                space.push(cell)?;
            }
        }
        Ok(space)
    }

    fn push(&mut self, cell: Cell) -> Result<(), CapExceeded> {
        if self.cells.len() >= CELLS_MAX {
            return Err(CapExceeded::Cells);
        }
        self.cells.push(cell);
        Ok(())
    }

    /// Whether there is no such request.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Adds the requests of another set: a sum of many is made in place, or each of its steps would copy all before.
    pub fn add(&mut self, other: Self) -> Result<(), CapExceeded> {
        if self.cells.len() + other.cells.len() > CELLS_MAX {
            return Err(CapExceeded::Cells);
        }
        self.cells.extend(other.cells);
        Ok(())
    }

    /// The requests of either.
    pub fn union(&self, other: &Self) -> Result<Self, CapExceeded> {
        let mut sum = self.clone();
        for cell in &other.cells {
            sum.push(cell.clone())?;
        }
        Ok(sum)
    }

    /// The requests of both.
    pub fn intersection(&self, other: &Self) -> Result<Self, CapExceeded> {
        let mut both = Self::nothing();
        for mine in &self.cells {
            for theirs in &other.cells {
                if let Some(cell) = mine.and(theirs)? {
                    both.push(cell)?;
                }
            }
        }
        Ok(both)
    }

    /// The requests of this set that are not in the other.
    pub fn difference(&self, other: &Self) -> Result<Self, CapExceeded> {
        self.remainder(&[other], CELLS_MAX)
    }

    /// The requests of this set that are in none of the others, or only the first `enough` products of
    /// them: one is enough to know that something is left.
    pub fn remainder(&self, others: &[&Self], enough: usize) -> Result<Self, CapExceeded> {
        let taken: Vec<&Cell> = others.iter().flat_map(|other| &other.cells).collect();
        let mut left = Self::nothing();
        let mut steps = 0;
        // Depth first, so that the first product that is left is found soon.
        let mut waiting: Vec<(Cell, usize)> = self
            .cells
            .iter()
            .rev()
            .map(|cell| (cell.clone(), 0))
            .collect();
        while let Some((cell, position)) = waiting.pop() {
            let Some(next) = taken.get(position) else {
                left.push(cell)?;
                if left.cells.len() >= enough {
                    break;
                }
                continue;
            };
            steps += 1;
            if steps > STEPS_MAX {
                return Err(CapExceeded::Cells);
            }
            let parts = cell.without(next)?;
            waiting.extend(parts.into_iter().rev().map(|part| (part, position + 1)));
        }
        Ok(left)
    }

    /// The same requests from anybody: what is left of the set when nobody looks at who calls.
    #[must_use]
    pub fn whoever_calls(&self) -> Self {
        Self {
            cells: self.cells.iter().map(Cell::whoever_calls).collect(),
        }
    }

    /// What is still known of these requests where they are sent on to: at least all of them as they arrive.
    pub(super) fn sent_on(&self, changes: &Changes<'_>) -> Self {
        Self {
            cells: self
                .cells
                .iter()
                .map(|cell| cell.sent_on(changes))
                .collect(),
        }
    }

    /// Whether every request of this set is in the other.
    pub fn is_covered_by(&self, other: &Self) -> Result<bool, CapExceeded> {
        Ok(self.remainder(&[other], 1)?.is_empty())
    }

    /// Whether the request is in the set.
    pub fn contains(&self, point: &Point) -> bool {
        self.cells.iter().any(|cell| cell.contains(point))
    }

    /// A request of the set, with what is likely where there is a choice.
    pub fn pick(&self, likely: &Likely) -> Result<Option<Point>, CapExceeded> {
        match self.cells.first() {
            Some(cell) => cell.pick(likely),
            None => Ok(None),
        }
    }

    /// A request of each product for which one is found without a search.
    pub fn guesses(&self, likely: &Likely) -> impl Iterator<Item = Point> {
        self.cells.iter().filter_map(|cell| cell.guess(likely))
    }

    /// One request of each product of the set, at most `count`: when the engine refuses one of them
    /// as a witness, another may do.
    pub fn samples(
        &self,
        likely: &Likely,
        count: usize,
    ) -> impl Iterator<Item = Result<Point, CapExceeded>> {
        self.cells
            .iter()
            .take(count)
            .filter_map(|cell| cell.pick(likely).transpose())
    }
}

#[cfg(test)]
mod tests;
