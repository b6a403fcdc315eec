//! The order in which routes are asked, for people: the same that the index visits them in.

use std::cmp::Reverse;

use mesh_bundle::slice::{Route, RouteMatch};

use super::precedence::alternatives;
use crate::condition::{ConditionError, ConditionMatcher};

/// One alternative of one route, where it stands among all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked<'r> {
    /// The route.
    pub route: &'r Route,
    /// Of which requests, narrowed to one specificity.
    pub narrowed: RouteMatch,
}

impl Ranked<'_> {
    /// Its conditions as they are written; none: every request.
    pub fn conditions(&self) -> Result<Vec<String>, ConditionError> {
        let conditions = self.narrowed.conditions.iter();
        conditions
            .map(|condition| Ok(ConditionMatcher::compile(condition)?.to_string()))
            .collect()
    }
}

/// All alternatives of these routes: of those that would take a request, the first one does.
pub fn ranking(routes: &[Route]) -> Result<Vec<Ranked<'_>>, ConditionError> {
    let everything = [RouteMatch::default()];
    let mut ranked = Vec::new();
    for route in routes {
        let matches = if route.matches.is_empty() {
            &everything
        } else {
            route.matches.as_slice()
        };
        for each in matches {
            for alternative in alternatives(each)? {
                let narrowed = alternative.narrowed;
                ranked.push((alternative.specificity, Ranked { route, narrowed }));
            }
        }
    }
    // Ties, which the compiler refuses, are settled by position, as the index does.
    ranked.sort_by(|(a, _), (b, _)| Reverse(a).cmp(&Reverse(b)));
    Ok(ranked.into_iter().map(|(_, ranked)| ranked).collect())
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::{Condition, Destination, PathPattern, PathPatternKind, Target};

    use super::*;
    use crate::path;
    use crate::request::Request;
    use crate::route::RouteSet;

    fn route(name: &str, matches: &[&[Condition]]) -> Route {
        let target = Target {
            service: "reviews".to_owned(),
            ..Target::default()
        };
        Route {
            name: name.to_owned(),
            matches: matches
                .iter()
                .map(|conditions| RouteMatch {
                    conditions: conditions.to_vec(),
                })
                .collect(),
            destinations: vec![Destination::only(target)],
            ..Route::default()
        }
    }

    fn paths(patterns: &[&str]) -> Condition {
        let pattern = |text: &&str| PathPattern {
            kind: PathPatternKind::Template((*text).to_owned()),
            ignore_case: false,
        };
        Condition::Path(patterns.iter().map(pattern).collect())
    }

    fn method(method: &str) -> Condition {
        Condition::Method(vec![method.to_owned()])
    }

    /// The first in the ranking that admits a request is the one that the index finds.
    #[test]
    fn the_first_that_takes_a_request_wins_it() {
        let routes = [
            route("everyone", &[]),
            route("posts", &[&[paths(&["/a/**"]), method("POST")]]),
            route("below", &[&[paths(&["/a/**", "/b/{id}"])]]),
            route("one", &[&[paths(&["/b/x"])], &[paths(&["/a/b/c"])]]),
            route(
                "inside",
                &[&[Condition::Host(vec!["reviews".to_owned()]), paths(&["/a"])]],
            ),
        ];
        let set = RouteSet::build(&routes).unwrap();
        let ranked = ranking(&routes).unwrap();
        assert_eq!(ranked.len(), 7);
        assert_eq!(ranked.last().unwrap().route.name, "everyone");
        for host in ["reviews", "other"] {
            for method in ["GET", "POST"] {
                for text in ["/", "/a", "/a/b", "/a/b/c", "/b", "/b/x", "/b/y", "/b/x/y"] {
                    let path = path::normalise(text).unwrap();
                    let request = Request::new(method, host, &path);
                    let found = set.find(&request).map(crate::RouteTable::name);
                    let first = ranked.iter().find(|ranked| {
                        let alone = route(&ranked.route.name, &[&ranked.narrowed.conditions]);
                        RouteSet::build(&[alone]).unwrap().find(&request).is_some()
                    });
                    let first = first.map(|ranked| ranked.route.name.as_str());
                    assert_eq!(found, first, "{method} {host} {text}");
                }
            }
        }
        let shown = ranked[0].conditions().unwrap();
        assert_eq!(shown, ["host \"reviews\"", "path \"/a\""]);
    }
}
