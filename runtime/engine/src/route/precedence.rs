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

use mesh_bundle::slice::{Condition, PathPattern, Principal, RouteMatch};

use crate::condition::{ConditionError, check_principal};
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    let mut narrowed = vec![RouteMatch::default()];
    for condition in &each.conditions {
        let choices = choices(condition)?;
        if narrowed.len().saturating_mul(choices.len()) > limits::ALTERNATIVES_MAX {
            return Err(ConditionError::TooManyAlternatives);
        }
        narrowed = narrowed
            .iter()
            .flat_map(|sofar| choices.iter().map(move |choice| with(sofar, choice)))
            .collect();
    }
    narrowed
        .into_iter()
        .map(|narrowed| {
            let specificity = specificity(&narrowed)?;
            Ok(Alternative {
                narrowed,
                specificity,
            })
        })
        .collect()
}

fn with(sofar: &RouteMatch, choice: &Condition) -> RouteMatch {
    let mut conditions = sofar.conditions.clone();
    conditions.push(choice.clone());
    RouteMatch { conditions }
}

/// The condition cut into parts that are equally specific throughout.
fn choices(condition: &Condition) -> Result<Vec<Condition>, ConditionError> {
    Ok(match condition {
        Condition::Host(hosts) => hosts
            .iter()
            .map(|host| Condition::Host(vec![host.clone()]))
            .collect(),
        Condition::Path(paths) => paths
            .iter()
            .map(|path| Condition::Path(vec![path.clone()]))
            .collect(),
        Condition::From(principals) => {
            principals.iter().try_for_each(check_principal)?;
            let mut ranks: Vec<_> = principals.iter().map(from_rank).collect();
            ranks.sort_unstable();
            ranks.dedup();
            let of_rank = |rank| principals.iter().filter(move |who| from_rank(who) == rank);
            ranks
                .into_iter()
                .map(|rank| Condition::From(of_rank(rank).cloned().collect()))
                .collect()
        }
        other => vec![other.clone()],
    })
}

fn specificity(narrowed: &RouteMatch) -> Result<Specificity, ConditionError> {
    let mut specificity = Specificity {
        port: false,
        host: [].into(),
        path: [].into(),
        tail: Tail::default(),
    };
    for condition in &narrowed.conditions {
        match condition {
            Condition::Port(_) => specificity.port = true,
            Condition::Host(hosts) => {
                for host in hosts {
                    let pattern =
                        HostPattern::parse(host).map_err(|source| ConditionError::Host {
                            pattern: host.clone(),
                            source,
                        })?;
                    let ranks = pattern.specificity();
                    specificity.host = specificity.host.max(ranks);
                }
            }
            Condition::Path(paths) => {
                for path in paths {
                    let ranks = path_ranks(path)?;
                    specificity.path = specificity.path.max(ranks);
                }
            }
            _ => {}
        }
        specificity.tail.count(condition);
    }
    Ok(specificity)
}

impl Specificity {
    pub(crate) fn tail(&self) -> Tail {
        self.tail
    }
}

impl Tail {
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

fn path_ranks(pattern: &PathPattern) -> Result<Box<[u8]>, ConditionError> {
    let matcher =
        PathMatcher::compile(pattern).map_err(|source| ConditionError::path(pattern, source))?;
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
    Ok(segments.chain([end]).collect())
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
