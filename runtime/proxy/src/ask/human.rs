//! Answers of a proxy as people read them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::table::{bytes, duration, table};

/// The elements of a list; none if there is no list.
pub(super) fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// A value as it stands in a cell; `-` for none.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn timed(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), duration)
}

/// Who it is, what it serves, and where it listens.
pub(super) fn status(config: &Value) -> String {
    let mut rows: Vec<[String; 2]> = Vec::new();
    let named = [
        ("identity", "identity"),
        ("instance", "instance"),
        ("version", "version"),
        ("pid", "pid"),
        ("generation", "generation"),
        ("order", "order"),
        ("commit", "commit"),
        ("slice", "slice"),
        ("distributor", "distributor"),
        ("stale", "stale"),
        ("denied", "denied"),
        ("draining", "draining"),
    ];
    for (key, name) in named {
        rows.push([name.to_owned(), cell(&config[key])]);
    }
    let expires = config["certificate_expires"].as_u64().map(|at| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        match at.checked_sub(now) {
            Some(left) => format!("in {}", duration(left * 1_000)),
            None => "has expired".to_owned(),
        }
    });
    let expires = expires.unwrap_or_else(|| "-".to_owned());
    rows.push(["certificate expires".to_owned(), expires]);
    let ports = &config["ports"];
    for key in ["outbound", "metrics", "health"] {
        rows.push([key.to_owned(), cell(&ports[key])]);
    }
    let maps = [
        ("inbound", &ports["inbound"]),
        ("listener", &config["listeners"]),
        ("callee", &config["callee_listeners"]),
    ];
    for (name, map) in maps {
        for (port, address) in map.as_object().into_iter().flatten() {
            rows.push([format!("{name} {port}"), cell(address)]);
        }
    }
    if let Some(last) = config["last_rejection"].as_object() {
        let detail = |key: &str| last.get(key).map(cell).unwrap_or_default();
        let text = format!("{}: {}", detail("reason"), detail("detail"));
        rows.push(["last refused".to_owned(), text]);
    }
    table(["", ""], &rows).trim_start().to_owned()
}

/// Routes by service, from the one that wins to the one that takes the rest.
pub(super) fn routes(page: &Value) -> String {
    let mut parts = Vec::new();
    for service in list(page, "services") {
        let name = cell(&service["service"]);
        let kind = cell(&service["kind"]);
        let rows: Vec<_> = list(service, "routes").iter().flat_map(route).collect();
        let head = [
            "#", "ROUTE", "WHEN", "TO", "TIMEOUT", "TRIES", "PER TRY", "AGAIN ON",
        ];
        let omitted = match service["omitted"].as_u64() {
            None | Some(0) => String::new(),
            Some(omitted) => format!("… and {omitted} more; see --limit\n"),
        };
        parts.push(format!("{name} ({kind})\n{}{omitted}", table(head, &rows)));
    }
    if parts.is_empty() {
        parts.push("no routes\n".to_owned());
    }
    if let Some(next) = page["next"].as_str() {
        parts.push(format!("… and more services after {next}; see --limit\n"));
    }
    parts.join("\n")
}

/// A route, and below it what holds where it goes on.
fn route(route: &Value) -> Vec<[String; 8]> {
    let words = |key: &str, between: &str| {
        let words: Vec<_> = list(route, key).iter().map(cell).collect();
        words.join(between)
    };
    let branches = list(route, "to").iter().map(|to| {
        let subset = to["subset"].as_str().map(|subset| format!("/{subset}"));
        let weight = match list(route, "to").len() {
            1 => String::new(),
            _ => format!(" {}", cell(&to["weight"])),
        };
        let subset = subset.unwrap_or_default();
        format!("{}{subset}{weight}", cell(&to["service"]))
    });
    let to: Vec<_> = branches.collect();
    let when = match words("conditions", "; ") {
        all if all.is_empty() => "always".to_owned(),
        some => some,
    };
    let through = list(route, "through");
    let answer = route["answer"].as_str();
    // Where the proxy answers itself, nothing takes time; where a gateway's request goes on, others say.
    let own = if answer.is_some() || !through.is_empty() {
        [const { String::new() }; 4]
    } else {
        times(route)
    };
    let mut rows = vec![join(
        [
            cell(&route["position"]),
            cell(&route["route"]),
            when,
            answer.map_or_else(|| to.join(", "), str::to_owned),
        ],
        own,
    )];
    for each in through {
        let taken = format!("{}: {}", cell(&each["service"]), cell(&each["route"]));
        let empty = String::new;
        rows.push(join([empty(), empty(), empty(), taken], times(each)));
    }
    rows
}

/// Time, tries, time of each, and what is tried again.
fn times(of: &Value) -> [String; 4] {
    let causes: Vec<_> = list(of, "retry_on").iter().map(cell).collect();
    let again = match causes.join(" ") {
        none if none.is_empty() => "-".to_owned(),
        some => some,
    };
    [
        timed(&of["timeout_ms"]),
        cell(&of["attempts"]),
        timed(&of["per_try_ms"]),
        again,
    ]
}

fn join(what: [String; 4], times: [String; 4]) -> [String; 8] {
    let mut cells = what.into_iter().chain(times);
    std::array::from_fn(|_| cells.next().unwrap_or_default())
}

/// One row per endpoint.
pub(super) fn endpoints(page: &Value) -> String {
    let mut rows = Vec::new();
    for pool in list(page, "pools") {
        for end in list(pool, "endpoints") {
            let cause = end["cause"].as_str();
            let why = cause.map_or_else(String::new, |cause| {
                let left = timed(&end["ejected_for_ms"].as_u64().map(whole).into());
                let times = match end["ejections"].as_u64() {
                    Some(times) if times > 1 => format!(", {times} times lately"),
                    _ => String::new(),
                };
                format!("{cause} for {left}{times}")
            });
            rows.push([
                named(pool),
                cell(&end["port"]),
                cell(&end["address"]),
                cell(&end["state"]),
                cell(&end["active"]),
                why,
            ]);
        }
    }
    let head = ["SERVICE", "PORT", "ADDRESS", "STATE", "ACTIVE", "LEFT OUT"];
    table(head, &rows) + &more(page)
}

/// A service, with its subset if that has a pool of its own.
fn named(pool: &Value) -> String {
    match pool["subset"].as_str() {
        Some(subset) => format!("{}/{subset}", cell(&pool["service"])),
        None => cell(&pool["service"]),
    }
}

/// Milliseconds, rounded up to what people want to know of them.
fn whole(millis: u64) -> u64 {
    if millis > 1_000 {
        millis.div_ceil(1_000) * 1_000
    } else {
        millis
    }
}

fn more(page: &Value) -> String {
    match page["next"].as_str() {
        Some(next) => format!("… and more services after {next}; see --limit\n"),
        None => String::new(),
    }
}

/// One row per limit, budget and rate.
pub(super) fn pools(page: &Value) -> String {
    let mut rows: Vec<[String; 4]> = Vec::new();
    for pool in list(page, "pools") {
        let ends = list(pool, "endpoints");
        let well = ends
            .iter()
            .filter(|end| end["state"] == "available")
            .count();
        let balance = cell(&pool["balance"]);
        let of = format!("of {}, {balance}", ends.len());
        rows.push([named(pool), "endpoints".to_owned(), well.to_string(), of]);
        for limit in list(pool, "limits") {
            let adaptive = limit["adaptive"].as_bool().unwrap_or(false);
            let follows = if adaptive {
                ", by how long answers take"
            } else {
                ""
            };
            let of = format!("of {}{follows}", cell(&limit["most"]));
            rows.push([named(pool), cell(&limit["kind"]), cell(&limit["used"]), of]);
        }
        let budget = &pool["retry_budget"];
        if let Some(share) = budget["share"].as_u64() {
            let tries = cell(&budget["tries"]);
            let of = format!(
                "of {tries} {}, {}% allowed",
                cell(&budget["of"]),
                percent(share)
            );
            rows.push([
                named(pool),
                "retry budget".to_owned(),
                cell(&budget["retries"]),
                of,
            ]);
        }
    }
    for rate in list(page, "rate_limits") {
        let service = match rate["route"].as_str() {
            Some(route) => format!("{}, route {route}", cell(&rate["service"])),
            None => cell(&rate["service"]),
        };
        let per = rate["per_ms"].as_u64().map_or_else(String::new, duration);
        let of = format!(
            "{} in {per}, {} at once",
            cell(&rate["count"]),
            cell(&rate["burst"])
        );
        let (kind, now) = match rate["keys"].as_u64() {
            Some(keys) => ("rate, keys", keys.to_string()),
            None => ("rate, room", cell(&rate["room"])),
        };
        rows.push([service, kind.to_owned(), now, of]);
    }
    table(["SERVICE", "WHAT", "NOW", ""], &rows) + &more(page)
}

/// A share of 10,000.
fn percent(share: u64) -> String {
    let text = format!("{}.{:02}", share / 100, share % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One row per address.
pub(super) fn discovered(sets: &Value) -> String {
    let mut rows = Vec::new();
    for set in sets.as_array().into_iter().flatten() {
        let labels = set["labels"].as_object().into_iter().flatten();
        let labels: Vec<_> = labels
            .map(|(key, value)| format!("{key}={}", cell(value)))
            .collect();
        for address in list(set, "addresses") {
            rows.push([
                cell(&set["service"]),
                cell(&address["port"]),
                cell(&address["address"]),
                labels.join(","),
                cell(&set["spiffe_id"]),
            ]);
        }
    }
    table(["SERVICE", "PORT", "ADDRESS", "LABELS", "IDENTITY"], &rows)
}

/// One row per connection.
pub(super) fn connections(page: &Value) -> String {
    let shown = list(page, "connections");
    let counted = |value: &Value| value.as_u64().map_or_else(String::new, bytes);
    let row = |seen: &Value| {
        [
            cell(&seen["id"]),
            cell(&seen["direction"]),
            cell(&seen["protocol"]),
            cell(&seen["peer"]),
            cell(&seen["identity"]),
            cell(&seen["service"]),
            timed(&seen["age_ms"].as_u64().map(|age| age / 100 * 100).into()),
            cell(&seen["requests"]),
            cell(&seen["active"]),
            counted(&seen["bytes_in"]),
            counted(&seen["bytes_out"]),
        ]
    };
    let rows: Vec<_> = shown.iter().map(row).collect();
    let head = [
        "ID",
        "DIRECTION",
        "PROTOCOL",
        "PEER",
        "IDENTITY",
        "SERVICE",
        "AGE",
        "REQUESTS",
        "ACTIVE",
        "IN",
        "OUT",
    ];
    let text = table(head, &rows);
    let total = page["total"].as_u64().unwrap_or(0);
    let more = total.saturating_sub(u64::try_from(shown.len()).unwrap_or(u64::MAX));
    match more {
        0 => text,
        more => format!("{text}… and {more} more; see --limit\n"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn routes_read_from_top_to_bottom() {
        let page = json!({ "next": null, "services": [{
            "service": "reviews", "kind": "service", "omitted": 0,
            "routes": [
                {
                    "position": 1, "route": "testers", "conditions": ["header \"user\" \"tester\""],
                    "to": [{ "service": "reviews", "subset": "v2", "port": null, "weight": 1 }],
                    "answer": null, "timeout_ms": 6000, "attempts": 3, "per_try_ms": 2000,
                    "retry_on": ["5xx", "reset"],
                },
                {
                    "position": 2, "route": "gone", "conditions": [], "to": [],
                    "answer": "respond 410", "timeout_ms": null, "attempts": 1,
                    "per_try_ms": null, "retry_on": [],
                },
                {
                    "position": 3, "route": "shop", "conditions": [], "answer": null,
                    "to": [{ "service": "orders", "subset": null, "port": null, "weight": 1 }],
                    "timeout_ms": 15000, "attempts": 1, "per_try_ms": null, "retry_on": [],
                    "through": [{
                        "service": "orders", "route": "default", "timeout_ms": 8000,
                        "attempts": 1, "per_try_ms": null, "retry_on": [],
                    }],
                },
            ],
        }]});
        let text = routes(&page);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "reviews (service)");
        assert!(lines[1].starts_with("#  ROUTE    WHEN"), "{text}");
        assert!(lines[2].contains("reviews/v2"), "{text}");
        assert!(
            lines[2].ends_with("6s       3      2s       5xx reset"),
            "{text}"
        );
        assert!(lines[3].contains("always"), "{text}");
        assert!(lines[3].ends_with("respond 410"), "{text}");
        assert!(lines[4].ends_with("orders"), "{text}");
        assert!(lines[5].contains("orders: default  8s"), "{text}");
    }

    #[test]
    fn who_is_left_out_and_what_is_used() {
        let page = json!({
            "pools": [{
                "service": "reviews", "subset": "v1", "balance": "random", "ejected": 1,
                "limits": [{ "kind": "requests", "used": 3, "most": 40, "adaptive": true }],
                "retry_budget": { "of": "requests", "share": 2050, "tries": 100, "retries": 7 },
                "endpoints": [
                    { "port": 9080, "address": "10.0.0.1:9080", "state": "ejected", "active": 0,
                      "cause": "consecutive_5xx", "ejected_for_ms": 29_400, "ejections": 2 },
                    { "port": 9080, "address": "10.0.0.2:9080", "state": "available", "active": 3,
                      "cause": null, "ejected_for_ms": null, "ejections": null },
                ],
            }],
            "rate_limits": [
                { "service": "web", "route": null, "count": 100, "per_ms": 1_000, "burst": 20,
                  "keyed": false, "room": 4, "keys": null },
                { "service": "web", "route": null, "count": 1, "per_ms": 60_000, "burst": 1,
                  "keyed": true, "room": null, "keys": 12 },
            ],
            "next": null,
        });
        let text = endpoints(&page);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[1].starts_with("reviews/v1  9080  10.0.0.1:9080  ejected"),
            "{text}"
        );
        assert!(
            lines[1].ends_with("consecutive_5xx for 30s, 2 times lately"),
            "{text}"
        );
        assert!(lines[2].ends_with("available  3"), "{text}");
        let text = pools(&page);
        assert!(text.contains("endpoints     1    of 2, random"), "{text}");
        assert!(
            text.contains("requests      3    of 40, by how long answers take"),
            "{text}"
        );
        assert!(
            text.contains("retry budget  7    of 100 requests, 20.5% allowed"),
            "{text}"
        );
        assert!(
            text.contains("rate, room    4    100 in 1s, 20 at once"),
            "{text}"
        );
        assert!(
            text.contains("rate, keys    12   1 in 60s, 1 at once"),
            "{text}"
        );
    }

    #[test]
    fn what_is_left_out_is_said() {
        let seen = json!({
            "id": 1, "direction": "inbound", "protocol": "http/2", "peer": "10.0.0.1:4711",
            "identity": "spiffe://shop.example/service/web", "service": null, "age_ms": 90_000,
            "requests": 7, "active": 1, "bytes_in": 2048, "bytes_out": 0,
        });
        let text = connections(&json!({ "connections": [seen], "total": 3 }));
        assert!(text.contains("1m30s") || text.contains("90s"), "{text}");
        assert!(text.contains("2KiB"), "{text}");
        assert!(text.ends_with("… and 2 more; see --limit\n"), "{text}");
    }
}
