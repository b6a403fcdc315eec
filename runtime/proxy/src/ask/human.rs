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

/// One row per address.
pub(super) fn endpoints(sets: &Value) -> String {
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
