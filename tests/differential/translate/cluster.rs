//! Endpoints of callees and of their subsets, how one is picked, and how they are limited and watched.

use mesh_bundle::slice::{
    Balance, Callee, DeclaredEndpoint, EndpointAddress, EndpointSource, HealthCheck,
    HealthCheckKind, Outlier, Pool, RetryBudgetKind, Subset,
};
use mesh_tests::Failure;
use serde_json::{Value, json};

use super::{TYPES, address, seconds, untranslated};

/// As good as no limit.
const UNLIMITED: u32 = 1_000_000;

pub(super) fn name(prefix: &str, service: &str, subset: Option<&str>) -> String {
    match subset {
        Some(subset) => format!("{prefix}/{service}/{subset}"),
        None => format!("{prefix}/{service}"),
    }
}

/// One for the whole, and one for each subset.
pub(super) fn clusters(prefix: &str, callee: &Callee) -> Result<Vec<Value>, Failure> {
    let mut all = vec![cluster(prefix, callee, None)?];
    for subset in &callee.subsets {
        all.push(cluster(prefix, callee, Some(subset))?);
    }
    Ok(all)
}

fn cluster(prefix: &str, callee: &Callee, subset: Option<&Subset>) -> Result<Value, Failure> {
    let EndpointSource::Declared(endpoints) = &callee.endpoints else {
        return Err(untranslated(format_args!(
            "discovery of {}",
            callee.service
        )));
    };
    let own = subset.and_then(|subset| subset.pool.as_ref());
    let (balance, pool) = own.map_or((callee.balance, &callee.pool), |own| {
        (own.balance, &own.pool)
    });
    let is_of_it = |endpoint: &&DeclaredEndpoint| {
        let mut labels = subset.iter().flat_map(|subset| &subset.labels);
        labels.all(|label| endpoint.labels.contains(label))
    };
    let mut members = Vec::new();
    for endpoint in endpoints.iter().filter(is_of_it) {
        let EndpointAddress::Static(at) = endpoint.address else {
            return Err(untranslated("a name to be resolved"));
        };
        members.push(json!({ "endpoint": { "address": address(at) } }));
    }
    let name = name(
        prefix,
        &callee.service,
        subset.map(|subset| subset.name.as_str()),
    );
    let connect = callee.routes.first().map_or("1s".to_owned(), |route| {
        seconds(route.exchange.connect_timeout)
    });
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": connect,
        "lb_policy": policy(balance)?,
        "circuit_breakers": { "thresholds": [thresholds(callee, pool)?] },
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": members }] },
    });
    if let Some(choices) = pool.choices {
        cluster["least_request_lb_config"] = json!({ "choice_count": choices });
    }
    if let Some(outlier) = &pool.outlier {
        cluster["outlier_detection"] = detection(outlier)?;
    }
    let checks: Result<Vec<_>, _> = pool.health_checks.iter().map(check).collect();
    cluster["health_checks"] = checks?.into();
    if let Some(requests) = pool.limits.requests_per_connection {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": { "http_protocol_options": {} },
                "common_http_protocol_options": { "max_requests_per_connection": requests },
            },
        });
    }
    Ok(cluster)
}

fn policy(balance: Balance) -> Result<&'static str, Failure> {
    Ok(match balance {
        Balance::RoundRobin => "ROUND_ROBIN",
        Balance::LeastRequest => "LEAST_REQUEST",
        Balance::Random => "RANDOM",
        Balance::RingHash => "RING_HASH",
        Balance::Maglev => "MAGLEV",
        Balance::PeakEwma => return Err(untranslated("peak-ewma")),
    })
}

fn thresholds(callee: &Callee, pool: &Pool) -> Result<Value, Failure> {
    let limits = &pool.limits;
    let mut thresholds = json!({
        "max_connections": limits.connections.unwrap_or(UNLIMITED),
        "max_pending_requests": limits.pending.unwrap_or(UNLIMITED),
        "max_requests": limits.requests.unwrap_or(UNLIMITED),
        "max_retries": limits.retries.unwrap_or(UNLIMITED),
    });
    match &callee.retry_budget {
        None => {}
        Some(budget) => match budget.kind {
            RetryBudgetKind::Active { min_count } => {
                thresholds["retry_budget"] = json!({
                    "budget_percent": { "value": f64::from(budget.share) / 100.0 },
                    "min_retry_concurrency": min_count,
                });
            }
            RetryBudgetKind::Requests { .. } => {
                return Err(untranslated("a budget of the requests of a while"));
            }
        },
    }
    Ok(thresholds)
}

fn detection(outlier: &Outlier) -> Result<Value, Failure> {
    if outlier.rates.is_some() || outlier.consecutive_local.is_some() {
        return Err(untranslated("endpoints that are compared with each other"));
    }
    let consecutive = |count: Option<u32>| (count.unwrap_or(5), u8::from(count.is_some()) * 100);
    let (server_errors, enforced) = consecutive(outlier.consecutive_5xx);
    let (gateway_failures, enforced_gateway) = consecutive(outlier.consecutive_gateway);
    Ok(json!({
        "consecutive_5xx": server_errors,
        "enforcing_consecutive_5xx": enforced,
        "consecutive_gateway_failure": gateway_failures,
        "enforcing_consecutive_gateway_failure": enforced_gateway,
        "interval": seconds(outlier.every),
        "base_ejection_time": seconds(outlier.eject),
        "max_ejection_percent": outlier.max_ejected / 100,
        "enforcing_success_rate": 0,
        "enforcing_failure_percentage": 0,
    }))
}

fn check(check: &HealthCheck) -> Result<Value, Failure> {
    let HealthCheckKind::Http(path) = &check.kind else {
        return Err(untranslated(format_args!("{:?}", check.kind)));
    };
    Ok(json!({
        "timeout": seconds(check.timeout),
        "interval": seconds(check.every),
        // Before the first request it would ask once a minute.
        "no_traffic_interval": seconds(check.every),
        "healthy_threshold": check.healthy,
        "unhealthy_threshold": check.unhealthy,
        "http_health_check": { "path": path },
    }))
}
