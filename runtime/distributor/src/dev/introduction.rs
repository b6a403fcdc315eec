//! What `meshd dev` says once everything serves: what there is, and what to try.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::fleet::Fleet;
use super::instance::LOOPBACK;
use super::plan::{Plan, PlannedCall};
use super::policy::Policy;

/// A command for each gateway that enters by it, to read rather than to change something.
pub(super) fn doors(plan: &Plan, fleet: &Fleet) -> Vec<String> {
    let mut calls: BTreeMap<&str, &PlannedCall> = BTreeMap::new();
    for ((gateway, _), call) in &plan.edges {
        if call.entry.is_none() {
            continue;
        }
        let chosen = calls.entry(gateway).or_insert(call);
        if chosen.request.method != "GET" {
            *chosen = call;
        }
    }
    let door = |(gateway, call): (&str, &PlannedCall)| {
        let (address, certificate) = fleet.entrance(gateway, call.entry.as_ref()?)?;
        Some(curl(call, address, certificate))
    };
    calls.into_iter().filter_map(door).collect()
}

/// As a client comes in that finds the gateway by name.
fn curl(call: &PlannedCall, address: SocketAddr, certificate: Option<PathBuf>) -> String {
    let request = &call.request;
    let (host, path) = (&request.host, &request.path);
    let (ip, port) = (address.ip(), address.port());
    let mut command = "curl".to_owned();
    let mut add = |text: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _infallible = command.write_fmt(text);
    };
    if request.method != "GET" {
        add(format_args!(" --request {}", request.method));
    }
    if call.entry.as_ref().is_some_and(|entry| entry.is_proxied) {
        add(format_args!(" --haproxy-protocol"));
    }
    let scheme = match certificate {
        None => "http",
        Some(file) => {
            add(format_args!(" --cacert {}", file.display()));
            "https"
        }
    };
    add(format_args!(
        " --resolve {host}:{port}:{ip} {scheme}://{host}:{port}{path}"
    ));
    command
}

/// The whole text.
/// `kept`: the folder that stays at the end.
pub(super) fn text(
    clone: &Path,
    policy: &Policy,
    web: &str,
    doors: &[String],
    kept: Option<&Path>,
) -> String {
    let all = policy.plan.services.values();
    let gateways = all.clone().filter(|it| it.is_gateway).count();
    let services = policy.plan.services.len() - gateways;
    let instances: usize = all.map(|service| service.instances.len()).sum();
    let (clone, edit) = (clone.display(), &policy.edit);
    let entries = match gateways {
        0 => String::new(),
        1 => ", 1 gateway".to_owned(),
        many => format!(", {many} gateways"),
    };
    let proxied: Vec<&str> = policy
        .plan
        .services
        .iter()
        .filter(|(_, service)| service.is_proxied)
        .map(|(name, _)| name.as_str())
        .collect();
    let trusted = match proxied.join(", ") {
        none if none.is_empty() => none,
        names => format!(
            "Whoever is on this machine ({}) may say in the PROXY protocol who a client of {names} is.\n",
            LOOPBACK.join(", ")
        ),
    };
    let end = match kept {
        None => "Ctrl-C ends it and removes what it made.".to_owned(),
        Some(folder) => format!("Ctrl-C ends it; {} stays.", folder.display()),
    };
    let doors: String = doors.iter().flat_map(|door| ["  ", door, "\n"]).collect();
    format!(
        "\n{services} services{entries}, {instances} proxies, mutual TLS between all of them; {web} shows their status.\n\
         {trusted}In another terminal:\n\n{doors}  \
         cd {clone}\n  \
         $EDITOR {edit}   # change a weight\n  \
         git commit -am 'shift traffic'   # every proxy serves it within a second\n  \
         git revert --no-edit HEAD        # and back\n\n\
         {end}\n"
    )
}

#[cfg(test)]
mod tests {
    use mesh_syntax::Witness;

    use super::*;

    #[test]
    fn a_door_is_entered_by_name() {
        let call = |method: &str| PlannedCall {
            request: Witness {
                method: method.to_owned(),
                host: "shop.example".to_owned(),
                path: "/books/7".to_owned(),
                ..Witness::default()
            },
            entry: None,
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 4443));
        assert_eq!(
            curl(&call("GET"), address, None),
            "curl --resolve shop.example:4443:127.0.0.1 http://shop.example:4443/books/7"
        );
        assert_eq!(
            curl(&call("POST"), address, Some("/s/shop.pem".into())),
            "curl --request POST --cacert /s/shop.pem --resolve shop.example:4443:127.0.0.1 https://shop.example:4443/books/7"
        );
    }
}
