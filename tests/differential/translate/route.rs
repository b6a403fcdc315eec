//! Routes: what is asked of a request, what is done to it, and with what patience.

use mesh_bundle::slice::{
    Answer, Callee, Condition, Cors, Exchange, Fault, HeaderEdits, PathPatternKind, Redirect,
    RequestKey, RetryCause, Route, RouteFilters, RouteMatch, Target,
};
use mesh_tests::Failure;
use serde_json::{Map, Value, json};

use super::{Places, TYPES, cluster, matching, seconds, share, template, untranslated};

/// What one alternative of a route becomes.
pub(super) fn routes(
    places: Places<'_>,
    route: &Route,
    narrowed: &RouteMatch,
) -> Result<Vec<Value>, Failure> {
    let groups = groups(narrowed);
    let mut text = json!({ "name": route.name });
    match &route.answer {
        Some(Answer::Redirect(redirect)) => text["redirect"] = redirected(redirect, &groups)?,
        Some(Answer::Respond(respond)) => {
            text["direct_response"] =
                json!({ "status": respond.status, "body": { "inline_string": respond.body } });
            let headers = respond.headers.iter();
            text["response_headers_to_add"] = headers
                .map(|line| header(&line.name, &line.value, "APPEND_IF_EXISTS_OR_ADD"))
                .collect();
        }
        None => text["route"] = action(places, route, &groups)?,
    }
    edit(&mut text, &route.filters.request_headers, "request");
    if route.answer.is_none() {
        edit(&mut text, &route.filters.response_headers, "response");
    }
    let filters = per_filter(&route.filters)?;
    if !filters.is_empty() {
        text["typed_per_filter_config"] = filters.into();
    }
    let matches = matching::matches(&narrowed.conditions)?;
    Ok(matches
        .into_iter()
        .map(|one| {
            let mut text = text.clone();
            text["match"] = one;
            text
        })
        .collect())
}

/// The pattern of its path as a regular expression, and what its groups are called.
type Groups = (String, Vec<String>);

fn groups(narrowed: &RouteMatch) -> Groups {
    let mut patterns = narrowed
        .conditions
        .iter()
        .filter_map(|condition| match condition {
            Condition::Path(patterns) => patterns.first(),
            _ => None,
        });
    match patterns.next().map(|pattern| &pattern.kind) {
        Some(PathPatternKind::Template(text)) => template::regex(text),
        _ => template::regex("/**"),
    }
}

fn rewriting(path: &str, (regex, groups): &Groups) -> Result<Value, Failure> {
    Ok(json!({
        "pattern": { "regex": format!("^{regex}$") },
        "substitution": template::substitution(path, groups)?,
    }))
}

fn redirected(redirect: &Redirect, groups: &Groups) -> Result<Value, Failure> {
    let code = match redirect.status {
        301 => "MOVED_PERMANENTLY",
        302 => "FOUND",
        303 => "SEE_OTHER",
        307 => "TEMPORARY_REDIRECT",
        308 => "PERMANENT_REDIRECT",
        other => return Err(untranslated(format_args!("a redirect with {other}"))),
    };
    let mut text = json!({ "response_code": code });
    if let Some(scheme) = &redirect.scheme {
        text["scheme_redirect"] = scheme.clone().into();
    }
    if let Some(host) = &redirect.host {
        text["host_redirect"] = host.clone().into();
    }
    if let Some(port) = redirect.port {
        text["port_redirect"] = port.into();
    }
    if let Some(path) = &redirect.path {
        text["regex_rewrite"] = rewriting(path, groups)?;
    }
    Ok(text)
}

fn action(places: Places<'_>, route: &Route, groups: &Groups) -> Result<Value, Failure> {
    let place =
        |target: &Target| cluster::name(places.prefix, &target.service, target.subset.as_deref());
    let mut text = exchange(&route.exchange)?;
    match route.destinations.as_slice() {
        [only] if only.request_headers.is_empty() && only.response_headers.is_empty() => {
            text["cluster"] = place(&only.target).into();
        }
        several => {
            let mut clusters = Vec::new();
            for destination in several {
                let mut one =
                    json!({ "name": place(&destination.target), "weight": destination.weight });
                edit(&mut one, &destination.request_headers, "request");
                edit(&mut one, &destination.response_headers, "response");
                clusters.push(one);
            }
            text["weighted_clusters"] = json!({ "clusters": clusters });
        }
    }
    if route
        .destinations
        .iter()
        .any(|one| !one.otherwise.is_empty())
    {
        return Err(untranslated("who takes over"));
    }
    if let Some(first) = route.destinations.first() {
        text["hash_policy"] = hashes(places.callee(&first.target.service)?)?;
    }
    if let Some(rewrite) = &route.filters.rewrite {
        if let Some(path) = &rewrite.path {
            text["regex_rewrite"] = rewriting(path, groups)?;
        }
        if let Some(host) = &rewrite.host {
            text["host_rewrite_literal"] = host.clone().into();
        }
    }
    let mirrors = route.filters.mirrors.iter();
    text["request_mirror_policies"] = mirrors
        .map(|mirror| {
            json!({
                "cluster": place(&mirror.target),
                "runtime_fraction": { "default_value": share(mirror.share) },
            })
        })
        .collect();
    Ok(text)
}

fn hashes(callee: &Callee) -> Result<Value, Failure> {
    let mut all = Vec::new();
    for key in &callee.pool.hash_keys {
        all.push(match key {
            RequestKey::Header(name) => json!({ "header": { "header_name": name } }),
            RequestKey::Query(name) => json!({ "query_parameter": { "name": name } }),
            RequestKey::Cookie { name, ttl: None } => json!({ "cookie": { "name": name } }),
            RequestKey::Cookie {
                name,
                ttl: Some(ttl),
            } => json!({ "cookie": { "name": name, "ttl": seconds(*ttl), "path": "/" } }),
            other => return Err(untranslated(format_args!("{other:?}"))),
        });
    }
    Ok(all.into())
}

/// Times and tries.
fn exchange(exchange: &Exchange) -> Result<Value, Failure> {
    if exchange.hedge.is_some() {
        return Err(untranslated("a hedge"));
    }
    let mut text = json!({ "timeout": exchange.timeout.map_or("0s".to_owned(), seconds) });
    let retry = &exchange.retry;
    if retry.attempts < 2 {
        return Ok(text);
    }
    let mut causes = Vec::new();
    let mut statuses = Vec::new();
    for cause in &retry.causes {
        match cause {
            RetryCause::ConnectFailure => causes.push("connect-failure".to_owned()),
            RetryCause::Refused => causes.push("refused-stream".to_owned()),
            // It knows a try that took too long only as one that ended without an answer.
            RetryCause::Reset | RetryCause::PerTryTimeout => causes.push("reset".to_owned()),
            RetryCause::ResetBeforeRequest => causes.push("reset-before-request".to_owned()),
            // Its own `5xx` and `gateway-error` are failures without a status, too.
            RetryCause::ServerError => statuses.extend(500..600),
            RetryCause::Gateway => statuses.extend(502..505),
            RetryCause::Status(status) => statuses.push(*status),
            other @ RetryCause::GrpcStatus(_) => return Err(untranslated(other)),
        }
    }
    if !statuses.is_empty() {
        causes.push("retriable-status-codes".to_owned());
    }
    text["retry_policy"] = json!({
        "retry_on": causes.join(","),
        "retriable_status_codes": statuses,
        "num_retries": retry.attempts - 1,
        "retry_back_off": {
            "base_interval": seconds(retry.backoff_base),
            "max_interval": seconds(retry.backoff_max),
        },
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": format!("{TYPES}.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
            },
        }],
        "host_selection_retry_max_attempts": 10,
    });
    if let Some(per_try) = retry.per_try {
        text["retry_policy"]["per_try_timeout"] = seconds(per_try).into();
    }
    Ok(text)
}

fn header(name: &str, value: &str, how: &str) -> Value {
    // A percent sign begins a variable.
    let value = value.replace('%', "%%");
    json!({ "header": { "key": name, "value": value }, "append_action": how })
}

fn edit(text: &mut Value, edits: &HeaderEdits, whose: &str) {
    let set = edits
        .set
        .iter()
        .map(|line| header(&line.name, &line.value, "OVERWRITE_IF_EXISTS_OR_ADD"));
    let add = edits
        .add
        .iter()
        .map(|line| header(&line.name, &line.value, "APPEND_IF_EXISTS_OR_ADD"));
    let lines: Vec<_> = set.chain(add).collect();
    if !lines.is_empty() {
        text[format!("{whose}_headers_to_add")] = lines.into();
    }
    if !edits.remove.is_empty() {
        text[format!("{whose}_headers_to_remove")] = edits.remove.clone().into();
    }
}

fn per_filter(filters: &RouteFilters) -> Result<Map<String, Value>, Failure> {
    let mut all = Map::new();
    let mut insert = |name: &str, kind: &str, mut config: Value| {
        config["@type"] = format!("{TYPES}.filters.http.{kind}").into();
        all.insert(format!("envoy.filters.http.{name}"), config);
    };
    if let Some(fault) = &filters.fault {
        insert("fault", "fault.v3.HTTPFault", faults(fault));
    }
    if let Some(cors) = &filters.cors {
        insert("cors", "cors.v3.CorsPolicy", cross_origin(cors)?);
    }
    Ok(all)
}

fn faults(fault: &Fault) -> Value {
    let mut text = json!({});
    if let Some(delay) = &fault.delay {
        text["delay"] =
            json!({ "fixed_delay": seconds(delay.by), "percentage": share(delay.share) });
    }
    if let Some(abort) = &fault.abort {
        text["abort"] = json!({ "http_status": abort.status, "percentage": share(abort.share) });
    }
    text
}

fn cross_origin(cors: &Cors) -> Result<Value, Failure> {
    let mut origins = Vec::new();
    for origin in &cors.origins {
        origins.push(match origin.split_once("*.") {
            Some((scheme, rest)) => {
                let (scheme, rest) = (template::escaped(scheme), template::escaped(rest));
                json!({ "safe_regex": { "regex": format!(r"{scheme}[^.]+\.{rest}") } })
            }
            None if origin.contains('*') => {
                return Err(untranslated(format_args!("the origin {origin}")));
            }
            None => json!({ "exact": origin }),
        });
    }
    let methods: Vec<_> = ["GET", "HEAD", "POST"]
        .into_iter()
        .chain(cors.methods.iter().map(String::as_str))
        .collect();
    let mut text = json!({
        "allow_origin_string_match": origins,
        "allow_methods": methods.join(", "),
        "allow_headers": cors.headers.join(", "),
        "expose_headers": cors.expose.join(", "),
        "allow_credentials": cors.credentials,
    });
    if let Some(age) = cors.max_age {
        text["max_age"] = age.as_secs().to_string().into();
    }
    Ok(text)
}
