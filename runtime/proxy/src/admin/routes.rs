//! `GET /routes`: which route wins, in which order, and what then holds of time and tries.

use std::time::Duration;

use mesh_bundle::slice::{Answer, Exchange, RetryCause, Route, Slice};
use mesh_daemon::admin::AdminResponse;
use mesh_engine::route::ranking;
use serde::Serialize;

use super::query::Query;
use super::served::ServedSlice;
use crate::limits;

/// The answer. Field names are a contract; what is not set is null.
#[derive(Debug, Serialize)]
struct Page {
    services: Vec<OfService>,
    /// Services of which nothing is shown yet are after this one.
    next: Option<String>,
}

/// The routes of one service, or of a gateway itself.
#[derive(Debug, Serialize)]
struct OfService {
    service: String,
    /// `service`, `external` or `gateway`.
    kind: &'static str,
    /// The first that takes a request wins it.
    routes: Vec<Ranked>,
    /// How many more there are, of less precedence.
    omitted: usize,
}

/// One route, as far as it stands in one place.
#[derive(Debug, Serialize)]
struct Ranked {
    position: usize,
    route: String,
    /// All of them hold; none: every request.
    conditions: Vec<String>,
    to: Vec<Branch>,
    /// `redirect 301` or `respond 404`, where the proxy answers itself.
    answer: Option<String>,
    #[serde(flatten)]
    times: Times,
    /// Of a gateway's route: what holds once the request takes that route of a callee.
    through: Vec<Through>,
}

/// What holds of the requests of a gateway's route that take this one after it.
#[derive(Debug, Serialize)]
struct Through {
    service: String,
    route: String,
    #[serde(flatten)]
    times: Times,
}

/// Times and tries.
#[derive(Debug, Serialize)]
struct Times {
    timeout_ms: Option<u64>,
    connect_timeout_ms: u64,
    /// All tries, the first included.
    attempts: u32,
    retry_on: Vec<String>,
    per_try_ms: Option<u64>,
    hedge_after_ms: Option<u64>,
    stream_idle_ms: Option<u64>,
    max_duration_ms: Option<u64>,
    idle_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Branch {
    service: String,
    subset: Option<String>,
    port: Option<u16>,
    weight: u32,
}

/// Tells about the slice that is served.
pub(super) async fn routes(served: ServedSlice, query: String) -> AdminResponse {
    let asked = match Asked::read(&query) {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let tell = move |slice: &Slice, _| AdminResponse::json(&page(slice, &asked));
    served.answer(tell).await
}

struct Asked {
    service: Option<String>,
    after: Option<String>,
    limit: usize,
}

impl Asked {
    fn read(query: &str) -> Result<Self, AdminResponse> {
        let query = Query::read(query, &["service", "after", "limit"])?;
        let max = limits::SHOWN_ROWS_MAX as u64;
        let limit = query.number("limit", max, max)?;
        Ok(Self {
            service: query.text("service").map(str::to_owned),
            after: query.text("after").map(str::to_owned),
            limit: usize::try_from(limit.max(1)).unwrap_or(limits::SHOWN_ROWS_MAX),
        })
    }
}

fn page(slice: &Slice, asked: &Asked) -> Page {
    let of_gateways = slice
        .gateways
        .iter()
        .map(|gateway| (&gateway.name, "gateway", gateway.routes.as_slice()));
    let of_callees = slice.callees.iter().map(|callee| {
        let kind = match callee.kind {
            mesh_bundle::slice::CalleeKind::External { .. } => "external",
            _ => "service",
        };
        (&callee.service, kind, callee.routes.as_slice())
    });
    let mut all: Vec<_> = of_gateways.chain(of_callees).collect();
    all.sort_by_key(|(name, kind, _)| (*name, *kind));
    let wanted = all.into_iter().filter(|(name, ..)| {
        asked.service.as_ref().is_none_or(|wanted| wanted == *name)
            && asked.after.as_ref().is_none_or(|after| *name > after)
    });
    let mut page = Page {
        services: Vec::new(),
        next: None,
    };
    let mut left = asked.limit;
    for (name, kind, routes) in wanted {
        if left == 0 {
            page.next = page.services.last().map(|last| last.service.clone());
            break;
        }
        let service = service(name, kind, routes, left);
        left -= service.routes.len().min(left);
        page.services.push(service);
    }
    page
}

fn service(name: &str, kind: &'static str, routes: &[Route], limit: usize) -> OfService {
    // What is served was compiled, so its conditions are good.
    let ranked = ranking(routes).unwrap_or_default();
    let shown = ranked.iter().take(limit).enumerate().map(|(at, each)| {
        let conditions = each.conditions().unwrap_or_default();
        row(at + 1, each.route, conditions)
    });
    OfService {
        service: name.to_owned(),
        kind,
        routes: shown.collect(),
        omitted: ranked.len().saturating_sub(limit),
    }
}

fn row(position: usize, route: &Route, conditions: Vec<String>) -> Ranked {
    let through = route.exchanges.iter().map(|each| Through {
        service: each.service.clone(),
        route: each.route.clone(),
        times: times(&each.exchange),
    });
    let branch = |to: &mesh_bundle::slice::Destination| Branch {
        service: to.target.service.clone(),
        subset: to.target.subset.clone(),
        port: to.target.port,
        weight: to.weight,
    };
    Ranked {
        position,
        route: route.name.clone(),
        conditions,
        to: route.destinations.iter().map(branch).collect(),
        answer: route.answer.as_ref().map(|answer| match answer {
            Answer::Redirect(redirect) => format!("redirect {}", redirect.status),
            Answer::Respond(respond) => format!("respond {}", respond.status),
        }),
        times: times(&route.exchange),
        through: through.collect(),
    }
}

fn times(exchange: &Exchange) -> Times {
    let Exchange {
        timeout,
        connect_timeout,
        retry,
        stream_idle,
        max_duration,
        idle,
        hedge,
    } = exchange;
    Times {
        timeout_ms: timeout.map(millis),
        connect_timeout_ms: millis(*connect_timeout),
        attempts: hedge.map_or(retry.attempts, |hedge| hedge.attempts.max(retry.attempts)),
        retry_on: retry.causes.iter().map(RetryCause::to_string).collect(),
        per_try_ms: retry.per_try.map(millis),
        hedge_after_ms: hedge.map(|hedge| millis(hedge.delay)),
        stream_idle_ms: stream_idle.map(millis),
        max_duration_ms: max_duration.map(millis),
        idle_ms: idle.map(millis),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::{
        Callee, Condition, Destination, PathPattern, PathPatternKind, RouteMatch, Target,
    };
    use mesh_bundle::spiffe::SpiffeId;

    use super::*;

    fn route(name: &str, path: Option<&str>) -> Route {
        let pattern = |path: &str| PathPattern {
            kind: PathPatternKind::Template(path.to_owned()),
            ignore_case: false,
        };
        let target = Target {
            service: "reviews".to_owned(),
            ..Target::default()
        };
        Route {
            name: name.to_owned(),
            matches: path
                .iter()
                .map(|path| RouteMatch {
                    conditions: vec![Condition::Path(vec![pattern(path)])],
                })
                .collect(),
            destinations: vec![Destination::only(target)],
            ..Route::default()
        }
    }

    #[test]
    fn routes_are_shown_in_the_order_in_which_they_win_and_page_by_page() {
        let callee = |service: &str, routes: Vec<Route>| Callee {
            service: service.to_owned(),
            routes,
            ..Callee::default()
        };
        let id = SpiffeId::parse("spiffe://shop.example/service/web").unwrap();
        let slice = Slice {
            callees: vec![
                callee(
                    "reviews",
                    vec![
                        route("all", None),
                        route("a", Some("/a/**")),
                        route("one", Some("/a/b")),
                    ],
                ),
                callee("details", vec![route("default", None)]),
            ],
            ..Slice::new(id)
        };
        let shown = |query: &str| {
            let asked = Asked::read(query).unwrap();
            serde_json::to_value(page(&slice, &asked)).unwrap()
        };
        let all = shown("");
        assert_eq!(all["next"], serde_json::Value::Null);
        let reviews = &all["services"][1];
        let names: Vec<_> = (0..3)
            .map(|at| reviews["routes"][at]["route"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["one", "a", "all"]);
        assert_eq!(reviews["routes"][0]["conditions"][0], "path \"/a/b\"");
        assert_eq!(reviews["routes"][0]["timeout_ms"], 15_000);
        let first = shown("limit=1");
        assert_eq!(first["next"], "details");
        let second = shown("limit=1&after=details");
        assert_eq!(second["services"][0]["omitted"], 2);
        assert_eq!(shown("service=nobody")["services"], serde_json::json!([]));
        assert!(Asked::read("limit=x").is_err());
    }
}
