//! Envoy, as a mesh would have it: one worker, statistics, router, retry policy, circuit breaker and one RBAC rule.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use mesh_tests::{Failure, Running};
use serde_json::{Value, json};

use super::hop::{Carries, Hop, Leg, prefix};
use super::machine::{MEASURED, find, on, wait_listening};

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// Starts one; none if it is not there.
pub(super) fn start(folder: &Path, hop: &Hop) -> Result<Option<Running>, Failure> {
    let Some(program) = find("envoy") else {
        return Ok(None);
    };
    let file = folder.join(format!("envoy-{}.json", hop.listen.port()));
    fs::write(&file, serde_json::to_vec_pretty(&config(hop))?)?;
    let log = fs::File::create(file.with_extension("log"))?;
    let mut command = on(MEASURED, program);
    command
        .args(["--concurrency", "1", "--disable-hot-restart"])
        .args(["--log-level", "error", "-c"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(log);
    let mut process = Running::start(&mut command)?;
    wait_listening(&mut process, hop.listen)?;
    Ok(Some(process))
}

fn address(at: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}

fn config(hop: &Hop) -> Value {
    let mut chain = json!({ "filters": [filter(hop)] });
    if hop.downstream != Leg::Plain {
        let mutual = hop.downstream == Leg::Mutual;
        chain["transport_socket"] = json!({
            "name": "tls",
            "typed_config": {
                "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
                "require_client_certificate": mutual,
                "common_tls_context": tls(hop, "server", mutual),
            },
        });
    }
    json!({
        "static_resources": {
            "listeners": [{ "name": "in", "address": address(hop.listen), "filter_chains": [chain] }],
            "clusters": [cluster(hop)],
        },
    })
}

fn tls(hop: &Hop, name: &str, verifies: bool) -> Value {
    let http2 = matches!(hop.carries, Carries::Grpc)
        || (name == "server" && hop.carries == Carries::Http2AsHttp1)
        || (name == "client" && hop.carries == Carries::Http1AsHttp2);
    let mut context = json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "tls_certificates": [{
            "certificate_chain": { "filename": hop.file(&format!("{name}.crt")) },
            "private_key": { "filename": hop.file(&format!("{name}.key")) },
        }],
        "alpn_protocols": [if http2 { "h2" } else { "http/1.1" }],
    });
    if verifies {
        context["validation_context"] = json!({ "trusted_ca": { "filename": hop.file("ca.pem") } });
    }
    context
}

fn filter(hop: &Hop) -> Value {
    if hop.carries == Carries::Bytes {
        return json!({
            "name": "tcp",
            "typed_config": {
                "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "in",
                "cluster": "next",
            },
        });
    }
    let route = |prefix: &str| {
        json!({
            "match": { "prefix": prefix },
            "route": {
                "cluster": "next",
                "timeout": "15s",
                "retry_policy": {
                    "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
                    "retriable_status_codes": [503],
                    "num_retries": 1,
                    "per_try_timeout": "5s",
                },
            },
        })
    };
    let routes: Vec<_> = (0..hop.routes)
        .map(|number| route(&format!("{}/", prefix(number))))
        .chain([route("/")])
        .collect();
    let principals = match hop.downstream {
        Leg::Mutual => json!([{ "authenticated": {} }]),
        _ => json!([{ "any": true }]),
    };
    json!({
        "name": "http",
        "typed_config": {
            "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "in",
            "codec_type": "AUTO",
            "normalize_path": true,
            "merge_slashes": true,
            "route_config": {
                "virtual_hosts": [{ "name": "all", "domains": ["server", "server:*", "greeter"], "routes": routes }],
            },
            "http_filters": [
                {
                    "name": "rbac",
                    "typed_config": {
                        "@type": format!("{TYPES}.filters.http.rbac.v3.RBAC"),
                        "rules": {
                            "action": "ALLOW",
                            "policies": {
                                "callers": {
                                    "permissions": [{ "url_path": { "path": { "prefix": "/" } } }],
                                    "principals": principals,
                                },
                            },
                        },
                    },
                },
                {
                    "name": "router",
                    "typed_config": { "@type": format!("{TYPES}.filters.http.router.v3.Router") },
                },
            ],
        },
    })
}

fn cluster(hop: &Hop) -> Value {
    let mut cluster = json!({
        "name": "next",
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [{
                "max_connections": 20000, "max_pending_requests": 20000, "max_requests": 20000,
                "retry_budget": { "budget_percent": { "value": 20 }, "min_retry_concurrency": 5 },
            }],
        },
        "load_assignment": {
            "cluster_name": "next",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(hop.next) } }] }],
        },
    });
    if matches!(hop.carries, Carries::Grpc | Carries::Http1AsHttp2) {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
    }
    if hop.upstream != Leg::Plain {
        cluster["transport_socket"] = json!({
            "name": "tls",
            "typed_config": {
                "@type": format!("{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"),
                "sni": "server",
                "common_tls_context": tls(hop, "client", true),
            },
        });
    }
    cluster
}
