//! `routing/other-protocol`

use std::collections::BTreeSet;

use mesh_bundle::slice::{AuthorizerProtocol, Condition, Protocol};
use mesh_compiler::linked::{LinkedMesh, Route, Service, Target};
use mesh_compiler::model::{Port, Spanned};
use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::protocol;

declare_rule! {
    /// ## What it flags
    /// A destination, fallback, copy or authorizer at a port that speaks another protocol than the requests which are sent
    /// there: requests to a port of bytes (`protocol=tcp`, `tls`), bytes to a port of requests (`http`, `grpc`), or gRPC to a
    /// port that says `http`. The last is *possible*, for gRPC may be spoken there too. HTTP that is sent to gRPC is not flagged: gRPC comes in over it.
    ///
    /// ## Why it matters
    /// `protocol` is what the application speaks. It gets what it does not understand, and the proxies on both sides
    /// disagree about where a request begins and ends.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     allow any
    ///     route all { to { else service=archive } }
    /// }
    /// service archive { port 5432 protocol=tcp; endpoints { static "10.0.0.8:5432" }; allow any }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     allow any
    ///     route all { to { else service=archive } }
    /// }
    /// service archive { port 80; endpoints { static "10.0.0.8:80" }; allow any }
    /// ```
    pub(crate) static OTHER_PROTOCOL = {
        code: "MSH0220", name: "routing/other-protocol", summary: "destination that speaks another protocol",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for service in &mesh.services {
        for route in &service.routes {
            let from = ports(service, route);
            let mut told: BTreeSet<(Span, Target)> = BTreeSet::new();
            for (target, span) in targets(route) {
                let Some(port) = port(mesh, target) else {
                    continue;
                };
                let clash = from.iter().find_map(|own| {
                    let certain = clash(own.protocol, port.protocol)?;
                    Some((own, certain))
                });
                let Some((own, certain)) = clash.filter(|_| told.insert((span, target))) else {
                    continue;
                };
                let to = &mesh.service(target.service).name.value;
                let finding = OTHER_PROTOCOL
                    .at(
                        span,
                        format!(
                            "route `{}` of `{}` takes {} and leads to the port {} of `{to}`, which speaks {}",
                            route.name.value,
                            service.name.value,
                            protocol(own.protocol),
                            port.number.value,
                            protocol(port.protocol),
                        ),
                    )
                    .label(own.number.span, "where the requests come in")
                    .label(port.number.span, "where they are sent")
                    .help("send them to a port that speaks the same, or correct `protocol=`");
                cx.report(if certain { finding } else { finding.possible() });
            }
        }
    }
    for authorizer in &mesh.authorizers {
        let Some(port) = port(mesh, authorizer.to.value) else {
            continue;
        };
        let asks = match authorizer.protocol {
            AuthorizerProtocol::Http => Protocol::Http,
            AuthorizerProtocol::Grpc => Protocol::Grpc,
        };
        // An authorizer of gRPC understands no plain request, and the reverse.
        if port.protocol == asks {
            continue;
        }
        let certain = clash(asks, port.protocol) == Some(true);
        let finding = OTHER_PROTOCOL
            .at(
                authorizer.to.span,
                format!(
                    "the authorizer `{}` is asked over {}, and the port {} of `{}` speaks {}",
                    authorizer.name.value,
                    protocol(asks),
                    port.number.value,
                    mesh.service(authorizer.to.value.service).name.value,
                    protocol(port.protocol),
                ),
            )
            .label(port.number.span, "the port")
            .help("give `to` and the port the same `protocol=`");
        cx.report(if certain { finding } else { finding.possible() });
    }
}

/// Whether what comes in over one protocol is not what a port of another takes: for certain, or maybe.
fn clash(from: Protocol, to: Protocol) -> Option<bool> {
    let of_requests = |protocol| matches!(protocol, Protocol::Http | Protocol::Grpc);
    if of_requests(from) != of_requests(to) {
        return Some(true);
    }
    (from == Protocol::Grpc && to == Protocol::Http).then_some(false)
}

/// Every other target of a route, with where it stands.
fn targets(route: &Route) -> impl Iterator<Item = (Target, Span)> {
    let sent = route.destinations.iter().flat_map(|to| {
        let all = std::iter::once(&to.target).chain(&to.otherwise);
        all.map(|target| (*target, to.span))
    });
    let copies = route.actions.mirrors.iter();
    sent.chain(copies.map(|mirror| (mirror.target, mirror.span)))
}

/// The port that a target names; none where it is the one that the request asked for.
fn port(mesh: &LinkedMesh, target: Target) -> Option<&Port> {
    let number = target.port?;
    let ports = &mesh.service(target.service).ports;
    ports.iter().find(|port| port.number.value == number)
}

/// The ports over which a route takes requests.
fn ports<'m>(service: &'m Service, route: &Route) -> Vec<&'m Port> {
    let takes = |conditions: &[Spanned<Condition>], port: &Port| {
        conditions.iter().all(|condition| match &condition.value {
            Condition::Port(asked) => asked.contains(&port.number.value),
            Condition::Not(inner) => match &**inner {
                Condition::Port(asked) => !asked.contains(&port.number.value),
                _ => true,
            },
            _ => true,
        })
    };
    let taken = |port: &&Port| {
        route.matches.is_empty()
            || route
                .matches
                .iter()
                .any(|each| takes(&each.conditions, port))
    };
    service.ports.iter().filter(taken).collect()
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    const DB: &str = r#"
        service db { port 5432 protocol=tcp; endpoints { static "10.0.0.8:5432" }; allow any }
        service rpc { port 90 protocol=grpc; endpoints { static "10.0.0.9:90" }; allow any }"#;

    #[test]
    fn routes_fallbacks_copies_and_questions_are_looked_at() {
        insta::assert_snapshot!(findings(
            "MSH0220",
            &format!(
                r#"{DB}
        gateway public {{
            listen 8080
            listen 5432 protocol=tcp
            allow unauthenticated
            route web {{ match {{ port 8080 }}; to db }}
            route raw {{ match {{ port 5432 }}; to rpc }}
            route calls {{ match {{ port 8080; path "/rpc/**" }}; to rpc }}
            route bytes {{ match {{ port 5432; peer-ip "10.0.0.0/8" }}; to db }}
        }}
        authorizer door {{ to rpc }}
        service a {{
            port 80
            endpoints {{ static "10.0.0.1:80" }}
            require authorizer door
            route all {{ to {{ else service=db }}; mirror service=db share="1%" }}
        }}"#
            )
        ));
    }

    #[test]
    fn what_speaks_the_same_and_the_port_that_was_asked_for_are_fine() {
        none(
            "MSH0220",
            &format!(
                r#"{DB}
        authorizer door {{ to rpc protocol=grpc }}
        service a {{
            port 80
            port 81 protocol=grpc
            endpoints {{ static "10.0.0.1:80" "10.0.0.1:81" }}
            require authorizer door
            route calls {{ match {{ port 81 }}; to {{ else service=rpc }} }}
            route rest
        }}"#
            ),
        );
    }
}
