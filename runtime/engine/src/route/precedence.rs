//! Which of two routes wins a request that both would take.
//!
//! design.md, *Which route wins*: "Port first, then host specificity; then paths, segment by segment:
//! literal over `*`/`{x}` over `**`, a pattern that ends over one that goes on, regex below any
//! non-regex with the same literal prefix; then method, then `from`, then the number of header,
//! cookie, claim and address conditions, then of query conditions."
//!
//! Where the design leaves room: a dimension that a match says nothing of is below any that it names;
//! `from` ranks an identity over a longer prefix over a shorter one over `any`; `not` counts where the
//! condition inside would be counted and nowhere else; several conditions of one dimension count as
//! the most specific of them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_bundle::slice::{
    Condition, FieldMatch, PathPattern, PathPatternKind, Principal, RouteMatch, StringMatch,
    StringMatchKind,
};

use crate::condition::{ConditionError, ConditionMatcher, check_principal};
use crate::host::{HostPattern, rank};
use crate::limits;
use crate::path::{PathMatcher, Placement, Segment};

/// How one match stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precedence {
    /// It wins.
    Higher,
    /// It loses.
    Lower,
    /// Equally specific, by the same conditions.
    Same,
    /// Equally specific, by other conditions; neither wins.
    Incomparable,
}

/// How specific a match is. Greater wins; the fields are in the order in which they decide.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Specificity {
    port: bool,
    host: Box<[u8]>,
    path: Box<[u8]>,
    tail: Tail,
}

/// What decides between matches of the same port, host and path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tail {
    method: bool,
    from: usize,
    fields: usize,
    queries: usize,
}

/// One of the combinations of host, path and caller that a match stands for. Their specificity may
/// differ, so a request is won by an alternative and not by a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The match, narrowed: of several hosts, paths or callers only those of this alternative.
    pub narrowed: RouteMatch,
    /// How specific it is.
    pub specificity: Specificity,
}

impl Alternative {
    /// How this alternative stands to another, for requests that both take.
    pub fn compare(&self, other: &Self) -> Precedence {
        match self.specificity.cmp(&other.specificity) {
            Ordering::Greater => Precedence::Higher,
            Ordering::Less => Precedence::Lower,
            Ordering::Equal if same_conditions(&self.narrowed, &other.narrowed) => Precedence::Same,
            Ordering::Equal => Precedence::Incomparable,
        }
    }
}

/// How one match stands to another, for requests that both take.
///
/// A match with several hosts, paths or callers has several [`alternatives`]. If some of them win and
/// others lose, no single answer is true, and this one says `Incomparable`; whoever needs to know
/// compares the alternatives that overlap.
pub fn compare(a: &RouteMatch, b: &RouteMatch) -> Result<Precedence, ConditionError> {
    let (ours, theirs) = (alternatives(a)?, alternatives(b)?);
    let mut verdict = None;
    for our in &ours {
        for their in &theirs {
            let pair = our.compare(their);
            match verdict {
                None => verdict = Some(pair),
                Some(earlier) if earlier == pair => {}
                Some(_) if same_conditions(a, b) => return Ok(Precedence::Same),
                Some(_) => return Ok(Precedence::Incomparable),
            }
        }
    }
    Ok(verdict.unwrap_or(Precedence::Incomparable))
}

/// The alternatives that a match stands for. At least one, unless a condition has no values.
pub fn alternatives(each: &RouteMatch) -> Result<Vec<Alternative>, ConditionError> {
    let combinations = Combinations::of(each)?;
    // What does not vary is repeated in each, and the text of a policy is a stranger's.
    let repeated = combinations
        .count
        .saturating_mul(each.conditions.iter().map(text_bytes).sum());
    if repeated > limits::ALTERNATIVES_BYTES_MAX {
        return Err(ConditionError::AlternativesTooLarge);
    }
    Ok(combinations
        .iter()
        .map(|chosen| Alternative {
            narrowed: RouteMatch {
                conditions: chosen
                    .iter()
                    .map(|choice| choice.condition.clone())
                    .collect(),
            },
            specificity: joined(&chosen),
        })
        .collect())
}

/// The combinations of host, path and caller that a match stands for, without writing each out.
#[derive(Debug)]
pub(crate) struct Combinations {
    /// For each condition of the match what it can be narrowed to.
    choices: Vec<Vec<Choice>>,
    count: usize,
}

/// A part of a condition that is equally specific throughout.
#[derive(Debug)]
pub(crate) struct Choice {
    condition: Condition,
    specificity: Specificity,
    /// The part compiled, if the condition is one in which alternatives differ.
    pub(crate) varying: Option<Arc<ConditionMatcher>>,
}

impl Combinations {
    pub(crate) fn of(each: &RouteMatch) -> Result<Self, ConditionError> {
        let mut count = 1_usize;
        let mut choices = Vec::with_capacity(each.conditions.len());
        for condition in &each.conditions {
            let parts = Choice::all(condition)?;
            count = count.saturating_mul(parts.len());
            if count > limits::ALTERNATIVES_MAX {
                return Err(ConditionError::TooManyAlternatives);
            }
            choices.push(parts);
        }
        Ok(Self { choices, count })
    }

    /// Each combination, as one choice per condition of the match.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Vec<&Choice>> {
        (0..self.count).map(|number| {
            let mut number = number;
            let mut chosen: Vec<_> = self
                .choices
                .iter()
                .rev()
                .filter_map(|parts| {
                    let part = parts.get(number % parts.len().max(1));
                    number /= parts.len().max(1);
                    part
                })
                .collect();
            chosen.reverse();
            chosen
        })
    }
}

impl Choice {
    fn all(condition: &Condition) -> Result<Vec<Self>, ConditionError> {
        Ok(match condition {
            Condition::Host(hosts) => hosts
                .iter()
                .map(|host| Self::of_host(host))
                .collect::<Result<_, _>>()?,
            Condition::Path(paths) => paths.iter().map(Self::of_path).collect::<Result<_, _>>()?,
            Condition::From(principals) => {
                principals.iter().try_for_each(check_principal)?;
                let mut by_rank: BTreeMap<usize, Vec<Principal>> = BTreeMap::new();
                for who in principals {
                    by_rank.entry(from_rank(who)).or_default().push(who.clone());
                }
                by_rank.into_values().map(Self::of_callers).collect()
            }
            other => {
                let mut specificity = Specificity {
                    port: matches!(other, Condition::Port(_)),
                    ..Specificity::default()
                };
                specificity.tail.count(other);
                vec![Self {
                    condition: other.clone(),
                    specificity,
                    varying: None,
                }]
            }
        })
    }

    fn of_host(host: &str) -> Result<Self, ConditionError> {
        let pattern = HostPattern::parse(host).map_err(|source| ConditionError::Host {
            pattern: host.to_owned(),
            source,
        })?;
        Ok(Self {
            condition: Condition::Host(vec![host.to_owned()]),
            specificity: Specificity {
                host: pattern.specificity(),
                ..Specificity::default()
            },
            varying: Some(Arc::new(ConditionMatcher::Host([pattern].into()))),
        })
    }

    fn of_path(path: &PathPattern) -> Result<Self, ConditionError> {
        let matcher =
            PathMatcher::compile(path).map_err(|source| ConditionError::path(path, source))?;
        Ok(Self {
            condition: Condition::Path(vec![path.clone()]),
            specificity: Specificity {
                path: path_ranks(&matcher),
                ..Specificity::default()
            },
            varying: Some(Arc::new(ConditionMatcher::Path([matcher].into()))),
        })
    }

    /// Of callers of one rank.
    fn of_callers(principals: Vec<Principal>) -> Self {
        let matcher = ConditionMatcher::From(principals.as_slice().into());
        let condition = Condition::From(principals);
        let mut specificity = Specificity::default();
        specificity.tail.count(&condition);
        Self {
            condition,
            specificity,
            varying: Some(Arc::new(matcher)),
        }
    }

    /// How specific this part is on its own.
    pub(crate) fn specificity(&self) -> &Specificity {
        &self.specificity
    }
}

/// How specific choices are together: several conditions of one dimension count as the most specific
/// of them.
pub(crate) fn joined(chosen: &[&Choice]) -> Specificity {
    let mut specificity = Specificity::default();
    for choice in chosen {
        specificity.join(&choice.specificity);
    }
    specificity
}

/// The last part of [`joined`], for whoever has arranged the rest by its place.
pub(crate) fn joined_tail(chosen: &[&Choice]) -> Tail {
    let mut tail = Tail::default();
    for choice in chosen {
        tail.join(choice.specificity.tail);
    }
    tail
}

/// How much text a condition carries.
fn text_bytes(condition: &Condition) -> usize {
    let of_field = |field: &FieldMatch| {
        let values = field.values.iter().map(|value| match &value.kind {
            StringMatchKind::Exact(text)
            | StringMatchKind::Prefix(text)
            | StringMatchKind::Suffix(text)
            | StringMatchKind::Contains(text)
            | StringMatchKind::Regex(text) => size_of::<StringMatch>() + text.len(),
        });
        field.name.len() + values.sum::<usize>()
    };
    let of_texts = |texts: &[String]| {
        let bytes = texts.iter().map(|text| size_of::<String>() + text.len());
        bytes.sum::<usize>()
    };
    let inner = match condition {
        // One of these is in each alternative; which one hardly matters.
        Condition::Host(_) | Condition::Path(_) => 0,
        Condition::Method(methods) => of_texts(methods),
        Condition::Port(ports) => size_of_val(ports.as_slice()),
        Condition::ClientIp(nets) | Condition::PeerIp(nets) => size_of_val(nets.as_slice()),
        Condition::Header(field)
        | Condition::Query(field)
        | Condition::Cookie(field)
        | Condition::Claim(field) => of_field(field),
        Condition::From(principals) => {
            let bytes = principals.iter().map(|who| match who {
                Principal::SpiffeId(id) => id.as_str().len(),
                Principal::SpiffePrefix(prefix) => prefix.len(),
                Principal::Any | Principal::Unauthenticated => 0,
            });
            size_of_val(principals.as_slice()) + bytes.sum::<usize>()
        }
        Condition::Not(inner) => match &**inner {
            Condition::Host(hosts) => of_texts(hosts),
            Condition::Path(paths) => {
                let bytes = paths.iter().map(|path| match &path.kind {
                    PathPatternKind::Template(text) | PathPatternKind::Regex(text) => text.len(),
                });
                size_of_val(paths.as_slice()) + bytes.sum::<usize>()
            }
            other => text_bytes(other),
        },
    };
    size_of::<Condition>() + inner
}

impl Specificity {
    fn join(&mut self, other: &Self) {
        self.port |= other.port;
        if self.host < other.host {
            self.host.clone_from(&other.host);
        }
        if self.path < other.path {
            self.path.clone_from(&other.path);
        }
        self.tail.join(other.tail);
    }
}

impl Tail {
    fn join(&mut self, other: Self) {
        self.method |= other.method;
        self.from = self.from.max(other.from);
        self.fields += other.fields;
        self.queries += other.queries;
    }

    fn count(&mut self, condition: &Condition) {
        match condition {
            Condition::Method(_) => self.method = true,
            Condition::From(principals) => {
                let rank = principals.iter().map(from_rank).min().unwrap_or(0);
                self.from = self.from.max(rank);
            }
            Condition::Not(inner) => self.count_field(inner),
            other => self.count_field(other),
        }
    }

    fn count_field(&mut self, condition: &Condition) {
        match condition {
            Condition::Header(_)
            | Condition::Cookie(_)
            | Condition::Claim(_)
            | Condition::ClientIp(_)
            | Condition::PeerIp(_) => self.fields += 1,
            Condition::Query(_) => self.queries += 1,
            Condition::Not(inner) => self.count_field(inner),
            Condition::Method(_)
            | Condition::Path(_)
            | Condition::Host(_)
            | Condition::Port(_)
            | Condition::From(_) => {}
        }
    }
}

/// Not 0, which is a match without `from`.
fn from_rank(principal: &Principal) -> usize {
    match principal {
        Principal::SpiffeId(_) => usize::MAX,
        Principal::SpiffePrefix(prefix) => prefix.len().saturating_add(1),
        Principal::Any | Principal::Unauthenticated => 1,
    }
}

pub(crate) fn path_ranks(matcher: &PathMatcher) -> Box<[u8]> {
    let (segments, end) = matcher.place();
    let segments = segments.iter().map(|segment| match segment {
        Segment::Literal(_) => rank::LITERAL,
        Segment::One => rank::ONE,
    });
    let end = match end {
        Placement::End => rank::END,
        Placement::Rest => rank::MANY,
        Placement::Regex => rank::REGEX,
    };
    segments.chain([end]).collect()
}

/// Whether both have the same conditions, in whatever order.
fn same_conditions(a: &RouteMatch, b: &RouteMatch) -> bool {
    let contains = |a: &RouteMatch, b: &RouteMatch| {
        a.conditions
            .iter()
            .all(|condition| b.conditions.contains(condition))
    };
    a.conditions.len() == b.conditions.len() && contains(a, b) && contains(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{all, exact, from, host, id, method, not, path, present, regex, template};
    use Precedence::{Higher, Incomparable, Lower, Same};

    #[track_caller]
    fn check(a: &RouteMatch, b: &RouteMatch, expected: Precedence) {
        let reversed = match expected {
            Higher => Lower,
            Lower => Higher,
            other => other,
        };
        assert_eq!(compare(a, b), Ok(expected), "{a:?}\n{b:?}");
        assert_eq!(compare(b, a), Ok(reversed), "{b:?}\n{a:?}");
    }

    fn header(name: &str) -> Condition {
        Condition::Header(present(name))
    }

    fn query(name: &str) -> Condition {
        Condition::Query(present(name))
    }

    /// design.md: "Port first, then host specificity; then paths, …; then method, then `from`, then the
    /// number of header, cookie, claim and address conditions, then of query conditions." Each line
    /// beats all lines below it together.
    #[test]
    fn the_order_of_the_dimensions() {
        let net = || vec!["10.0.0.0/8".parse().unwrap()];
        let dimensions = [
            vec![Condition::Port(vec![80])],
            vec![host("**")],
            vec![regex(".*")],
            vec![method("GET")],
            vec![Condition::From(vec![Principal::Any])],
            vec![
                header("a"),
                Condition::Cookie(present("b")),
                Condition::Claim(present("c")),
                Condition::ClientIp(net()),
                Condition::PeerIp(net()),
            ],
            vec![query("a"), query("b"), query("c")],
        ];
        for (position, dimension) in dimensions.iter().enumerate() {
            let one = dimension.iter().take(1).cloned().collect();
            let below = dimensions
                .iter()
                .skip(position + 1)
                .flatten()
                .cloned()
                .collect();
            let (one, below) = (
                RouteMatch { conditions: one },
                RouteMatch { conditions: below },
            );
            check(&one, &below, Higher);
        }
        for condition in dimensions.get(5).unwrap() {
            check(
                &all([condition.clone()]),
                &all([query("a"), query("b")]),
                Higher,
            );
        }
    }

    /// design.md: "segment by segment: literal over `*`/`{x}` over `**`, a pattern that ends over one
    /// that goes on, regex below any non-regex with the same literal prefix".
    #[test]
    fn paths() {
        let falling = [
            path("/a/b/c"),
            path("/a/b/*"),
            path("/a/b/**"),
            regex("/a/b/[0-9]+"),
            path("/a/*/c"),
            path("/a/{x}/**"),
            path("/a/**"),
            regex("/a/.*"),
            path("/*/b/c"),
            path("/**"),
            regex(".*"),
        ];
        for (position, higher) in falling.iter().enumerate() {
            for lower in falling.iter().skip(position + 1) {
                check(&all([higher.clone()]), &all([lower.clone()]), Higher);
            }
            check(&all([higher.clone()]), &all([]), Higher);
        }
        check(&all([path("/a")]), &all([path("/a/**")]), Higher);
        check(&all([path("/a/")]), &all([path("/a/**")]), Higher);
        check(&all([path("/a/*")]), &all([path("/a/{x}")]), Incomparable);
        check(
            &all([regex("/a/b.*")]),
            &all([regex("/a/.*c")]),
            Incomparable,
        );
        let ignoring = Condition::Path(vec![template("/A/b", true)]);
        check(&all([ignoring]), &all([path("/a/*")]), Higher);
    }

    #[test]
    fn hosts() {
        let falling = ["a.b.c", "*.b.c", "**.b.c", "**.c", "**"];
        for (position, higher) in falling.iter().enumerate() {
            for lower in falling.iter().skip(position + 1) {
                check(
                    &all([host(higher)]),
                    &all([host(lower), path("/a")]),
                    Higher,
                );
            }
        }
    }

    #[test]
    fn callers() {
        let prefix = |text: &str| Principal::SpiffePrefix(format!("spiffe://t.example/{text}"));
        let who = |principal| all([Condition::From(vec![principal])]);
        let exactly = all([from("web")]);
        check(&exactly, &who(prefix("service/")), Higher);
        check(&who(prefix("service/")), &who(prefix("")), Higher);
        check(&who(prefix("")), &who(Principal::Any), Higher);
        check(
            &who(Principal::Any),
            &who(Principal::Unauthenticated),
            Incomparable,
        );
        check(&who(Principal::Any), &all([]), Higher);
    }

    #[test]
    fn counts() {
        check(
            &all([header("a"), header("b")]),
            &all([header("a")]),
            Higher,
        );
        check(&all([query("a"), query("b")]), &all([query("c")]), Higher);
        check(&all([not(header("a"))]), &all([]), Higher);
        check(&all([not(header("a"))]), &all([header("b")]), Incomparable);
    }

    #[test]
    fn ties() {
        let user = Condition::Header(exact("user", "tester"));
        check(
            &all([path("/a"), user.clone()]),
            &all([user.clone(), path("/a")]),
            Same,
        );
        check(
            &all([path("/a"), user]),
            &all([path("/a"), header("beta")]),
            Incomparable,
        );
        check(&all([method("GET")]), &all([method("PUT")]), Incomparable);
        check(&all([]), &all([]), Same);
        // What the design does not rank is not ranked by guess.
        check(&all([not(path("/a"))]), &all([]), Incomparable);
        check(
            &all([not(method("GET"))]),
            &all([not(host("a"))]),
            Incomparable,
        );
    }

    /// 1,024 short paths, each with half a megabyte of header values: a stranger's pull request.
    #[test]
    fn what_each_alternative_repeats_is_bounded() {
        let paths = (0..1024).map(|number| template(&format!("/{number}"), false));
        let paths = Condition::Path(paths.collect());
        let value = |number| exact("x", &format!("{number}{}", "x".repeat(1000))).values;
        let values = (0..500).flat_map(value).collect();
        let large = Condition::Header(FieldMatch {
            name: "x".into(),
            values,
        });
        assert_eq!(alternatives(&all([large.clone()])).unwrap().len(), 1);
        assert_eq!(
            alternatives(&all([paths, large])),
            Err(ConditionError::AlternativesTooLarge)
        );
    }

    /// A match of several values is as many alternatives, each as specific as it is.
    #[test]
    fn several_values() {
        let paths = |texts: &[&str]| {
            let patterns = texts.iter().map(|text| template(text, false)).collect();
            all([Condition::Path(patterns)])
        };
        check(&paths(&["/a", "/b"]), &paths(&["/a/**", "/b/**"]), Higher);
        check(
            &paths(&["/a", "/b/**"]),
            &paths(&["/a/**", "/b"]),
            Incomparable,
        );
        check(&paths(&["/a", "/b/**"]), &paths(&["/a", "/b/**"]), Same);
        let callers = vec![
            Principal::SpiffeId(id("a")),
            Principal::Any,
            Principal::SpiffeId(id("b")),
        ];
        let several = RouteMatch {
            conditions: vec![
                Condition::Host(vec!["a".into(), "b".into()]),
                Condition::From(callers),
                Condition::Method(vec!["GET".into(), "PUT".into()]),
            ],
        };
        assert_eq!(alternatives(&several).unwrap().len(), 4);
        let many: Vec<_> = (0..65).map(|number| format!("h{number}")).collect();
        let product = all([Condition::Host(many.clone()), Condition::Host(many)]);
        assert_eq!(
            alternatives(&product),
            Err(ConditionError::TooManyAlternatives)
        );
    }
}
