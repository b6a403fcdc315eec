//! Which routes and rules tests touch.

use std::collections::BTreeMap;

use mesh_compiler::LinkedMesh;
use mesh_compiler::linked::Source;
use mesh_compiler::trial::{Coverable, Touched};
use mesh_syntax::Span;

/// Routes and rules of all environments, and which of them a test touches in some environment.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    all: BTreeMap<Item, Found>,
}

/// What can be covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A route.
    Route,
    /// An access rule.
    Rule,
}

/// A route or rule, by what it is called in every environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Item {
    /// Which of them.
    pub(crate) what: What,
    /// Whose.
    pub(crate) service: String,
    /// Its name; that of a rule is how people wrote it.
    pub(crate) name: String,
    /// Which of those of one name, from 0.
    pub(crate) nth: usize,
}

#[derive(Debug)]
struct Found {
    /// Where it stands.
    span: Option<Span>,
    is_covered: bool,
}

impl Item {
    /// As outputs call it.
    pub(crate) fn shown(&self) -> String {
        let nth = match self.nth {
            0 => String::new(),
            nth => format!(" #{}", nth + 1),
        };
        match self.what {
            What::Route => format!("{}/{}{nth}", self.service, self.name),
            What::Rule => format!("{}: {}{nth}", self.service, self.name),
        }
    }

    /// What something of one mesh is called in all of them.
    pub(crate) fn of(mesh: &LinkedMesh, what: Coverable) -> Self {
        let service = mesh.service(what.service());
        let (kind, name, nth) = match what {
            Coverable::Route(id) => (What::Route, mesh.route(id).name.value.clone(), 0),
            Coverable::Rule(_, index) => {
                let name = service.access.get(index).map(|rule| rule.name.clone());
                let earlier = service.access.iter().take(index);
                let nth = earlier
                    .filter(|rule| Some(&rule.name) == name.as_ref())
                    .count();
                (What::Rule, name.unwrap_or_default(), nth)
            }
        };
        Self {
            what: kind,
            service: service.name.value.clone(),
            name,
            nth,
        }
    }
}

impl Coverage {
    /// Adds what can be covered in an environment, and what was.
    pub(super) fn add(&mut self, mesh: &LinkedMesh, touched: &[Touched]) {
        let mut all = Touched::default();
        for each in touched {
            all.routes.extend(&each.routes);
            all.rules.extend(&each.rules);
        }
        for what in Coverable::all(mesh) {
            let (span, covered) = match what {
                Coverable::Route(id) => (Some(mesh.route(id).name.span), all.routes.contains(&id)),
                Coverable::Rule(service, index) => {
                    let rule = mesh.service(service).access.get(index);
                    let source = rule.map_or(Source::BuiltIn, |rule| rule.source);
                    (source.span(), all.rules.contains(&(service, index)))
                }
            };
            let found = self.all.entry(Item::of(mesh, what)).or_insert(Found {
                span,
                is_covered: false,
            });
            found.is_covered |= covered;
        }
    }

    /// How many are covered, of how many.
    pub(crate) fn counts(&self, what: What) -> (usize, usize) {
        let of = || self.all.iter().filter(|(item, _)| item.what == what);
        (
            of().filter(|(_, found)| found.is_covered).count(),
            of().count(),
        )
    }

    /// What no test touches, ascending.
    pub(crate) fn uncovered(&self, what: What) -> impl Iterator<Item = (&Item, Option<Span>)> {
        let of = self.all.iter().filter(move |(item, _)| item.what == what);
        of.filter(|(_, found)| !found.is_covered)
            .map(|(item, found)| (item, found.span))
    }

    /// Whether something is covered.
    pub(super) fn covers(&self, item: &Item) -> bool {
        self.all.get(item).is_some_and(|found| found.is_covered)
    }

    /// Whether so many of 10,000 routes are covered, and of rules as well.
    pub(super) fn reaches(&self, minimum: u32) -> bool {
        [What::Route, What::Rule].into_iter().all(|what| {
            let (covered, total) = self.counts(what);
            covered as u128 * 10_000 >= total as u128 * u128::from(minimum)
        })
    }

    /// That it does not.
    pub(super) fn too_low(&self, minimum: u32) -> String {
        let (routes, rules) = (self.counts(What::Route), self.counts(What::Rule));
        format!(
            "coverage is too low: {} of {} routes and {} of {} rules are covered, and at least {} of each should be; `--generate` writes tests for the rest",
            routes.0,
            routes.1,
            rules.0,
            rules.1,
            mesh_compiler::trial::percent(minimum)
        )
    }
}
