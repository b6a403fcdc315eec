//! The same policy for Envoy: slices, as proxies get them, become a bootstrap. Only what the cases use is translated; what
//! is not makes the translation fail, so that nothing is compared that was left out.

mod access;
mod cluster;
mod matching;
mod route;
mod template;

use std::net::SocketAddr;

use mesh_bundle::slice::{Callee, Slice};
use mesh_engine::route::ranking;
use mesh_tests::Failure;
use serde_json::{Value, json};

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// A listener: the routes of callees by their hosts, or those of one gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry<'s> {
    /// Where applications send their calls.
    Outbound(&'s Slice),
    /// Where people come in.
    Gateway(&'s Slice),
}

/// A bootstrap with these entries.
pub(crate) fn bootstrap(entries: &[(Entry<'_>, SocketAddr)]) -> Result<Value, Failure> {
    let mut listeners = Vec::new();
    let mut clusters = Vec::new();
    for (number, (entry, at)) in entries.iter().enumerate() {
        let prefix = format!("e{number}");
        let slice = match entry {
            Entry::Outbound(slice) | Entry::Gateway(slice) => slice,
        };
        for callee in &slice.callees {
            clusters.extend(cluster::clusters(&prefix, callee)?);
        }
        let places = Places {
            prefix: &prefix,
            callees: &slice.callees,
        };
        listeners.push(match entry {
            Entry::Outbound(_) => outbound(places, *at)?,
            Entry::Gateway(slice) => gateway(places, slice, *at)?,
        });
    }
    Ok(json!({
        "static_resources": { "listeners": listeners, "clusters": clusters },
    }))
}

/// Where routes lead.
#[derive(Clone, Copy, Debug)]
struct Places<'s> {
    /// Each entry has clusters of its own, as each proxy has pools of its own.
    prefix: &'s str,
    callees: &'s [Callee],
}

impl Places<'_> {
    fn callee(&self, service: &str) -> Result<&Callee, Failure> {
        let found = self.callees.iter().find(|callee| callee.service == service);
        found.ok_or_else(|| untranslated(format_args!("a route to {service}")))
    }
}

fn outbound(places: Places<'_>, at: SocketAddr) -> Result<Value, Failure> {
    let mut hosts = Vec::new();
    for callee in places.callees {
        let mut routes = Vec::new();
        for ranked in ranking(&callee.routes)? {
            routes.extend(route::routes(places, ranked.route, &ranked.narrowed)?);
        }
        let ports = callee.ports.iter();
        let domains: Vec<_> = callee
            .hosts
            .iter()
            .flat_map(|host| {
                let with_port = ports
                    .clone()
                    .map(move |port| format!("{host}:{}", port.number));
                std::iter::once(host.clone()).chain(with_port)
            })
            .collect();
        hosts.push(json!({ "name": callee.service, "domains": domains, "routes": routes }));
    }
    Ok(listener("outbound", at, &hosts, Vec::new()))
}

fn gateway(places: Places<'_>, slice: &Slice, at: SocketAddr) -> Result<Value, Failure> {
    let [own] = slice.gateways.as_slice() else {
        return Err(untranslated("an identity of several gateways"));
    };
    let mut routes = Vec::new();
    for ranked in ranking(&own.routes)? {
        routes.extend(route::routes(places, ranked.route, &ranked.narrowed)?);
    }
    let service = slice.access.services.iter();
    let mut filters = Vec::new();
    for service in service.filter(|service| service.service == own.name) {
        filters.extend(access::filters(service)?);
    }
    let host = json!({ "name": own.name, "domains": ["*"], "routes": routes });
    Ok(listener(&own.name, at, &[host], filters))
}

fn listener(name: &str, at: SocketAddr, hosts: &[Value], access: Vec<Value>) -> Value {
    let mut filters = access;
    for (name, kind) in [
        ("envoy.filters.http.cors", "cors.v3.Cors"),
        ("envoy.filters.http.fault", "fault.v3.HTTPFault"),
    ] {
        filters.push(filter(name, kind, json!({})));
    }
    // Otherwise it adds headers that say what it did.
    let router = json!({ "suppress_envoy_headers": true });
    filters.push(filter(
        "envoy.filters.http.router",
        "router.v3.Router",
        router,
    ));
    json!({
        "name": name,
        "address": address(at),
        "filter_chains": [{ "filters": [{
            "name": "http",
            "typed_config": {
                "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": name,
                "codec_type": "AUTO",
                // As its documentation says for whoever decides by paths.
                "normalize_path": true,
                "merge_slashes": true,
                "path_with_escaped_slashes_action": "REJECT_REQUEST",
                // It would wait for clients that wait for the end.
                "delayed_close_timeout": "0s",
                "generate_request_id": false,
                "server_header_transformation": "PASS_THROUGH",
                "route_config": { "virtual_hosts": hosts },
                "http_filters": filters,
            },
        }] }],
    })
}

fn filter(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = format!("{TYPES}.filters.http.{kind}").into();
    json!({ "name": name, "typed_config": config })
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}

/// Of 10,000.
fn share(share: u32) -> Value {
    json!({ "numerator": share, "denominator": "TEN_THOUSAND" })
}

fn seconds(time: std::time::Duration) -> String {
    format!("{}.{:03}s", time.as_secs(), time.subsec_millis())
}

fn untranslated(what: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{what} has no translation"))
}
