//! Ports of bytes (`protocol=tcp`, `tls`): what asks for more than bytes is reported.

use std::collections::BTreeMap;

use mesh_bundle::slice::{Condition, Effect, Enforcement, Protocol, RetryCause};
use mesh_syntax::{Diagnostic, Span};

use super::Linker;
use crate::code;
use crate::linked::{Route, Service, Source};
use crate::model::{self, ConditionKind, Port, Spanned};

impl Linker<'_, '_> {
    /// Reports conditions and settings of a service's own that none of the ports in question can know.
    pub(super) fn check_opaque(&mut self, service: &Service) {
        if service.ports.iter().all(|port| !is_opaque(port)) {
            return;
        }
        for route in &service.routes {
            for block in &route.matches {
                if let Some((span, port)) = unknowable(&block.conditions, &service.ports) {
                    self.opaque_condition(code::MATCH_ON_BYTES, span, port);
                }
            }
            if service.ports.iter().all(is_opaque) {
                self.check_opaque_route(route, service.ports.first());
            }
        }
        for rule in &service.access {
            if matches!(rule.source, Source::Service(_))
                && !rule.implied
                && let Some((span, port)) = unknowable(&rule.conditions, &service.ports)
            {
                self.opaque_condition(code::CONDITION_ON_BYTES, span, port);
            }
        }
    }

    /// Reports a method of gRPC that is asked for where none of the ports in question speaks gRPC, and one speaks HTTP:
    /// what a port of bytes can't know is reported as that.
    pub(super) fn check_grpc(
        &mut self,
        declared: &[model::Condition],
        conditions: &[Spanned<Condition>],
        ports: &[Port],
    ) {
        let Some(grpc) = declared.iter().find(|condition| of_grpc(condition)) else {
            return;
        };
        let asked = asked(conditions, ports);
        if asked.iter().any(|port| port.protocol == Protocol::Grpc) {
            return;
        }
        let Some(port) = asked.iter().find(|port| !is_opaque(port)) else {
            return;
        };
        let number = port.number;
        self.report(
            Diagnostic::warning(
                code::GRPC_MATCH,
                grpc.span,
                format!(
                    "a gRPC method, but the port {} is not said to speak gRPC",
                    number.value
                ),
            )
            .possible()
            .label(number.span, "the port")
            .help("write `protocol=grpc` at the port, or ask for the `path`"),
        );
    }

    /// A `deny` that a port of bytes takes from `defaults` or a policy, and that asks for what nobody can know
    /// there: it refuses everybody. It may do its work in other services, so it is no mistake of its own; and
    /// an `allow` that admits nobody is on the safe side. Each is said once, however many services take it.
    pub(super) fn check_inherited_denies(&mut self, services: &[Service]) {
        let mut told: BTreeMap<Span, (&Service, &str, Spanned<u16>, usize)> = BTreeMap::new();
        for service in services {
            let ports: Vec<Port> = service.ports.iter().copied().filter(is_opaque).collect();
            for rule in &service.access {
                let inherited = matches!(rule.source, Source::Defaults(_) | Source::Policy(_));
                let refuses =
                    rule.effect == Effect::Deny && rule.enforcement == Enforcement::Enforce;
                if let (true, true, Some(span)) = (inherited, refuses, rule.source.span())
                    && let Some((_, port)) = unknowable(&rule.conditions, &ports)
                {
                    let first = (service, rule.name.as_str(), port, 0);
                    told.entry(span).or_insert(first).3 += 1;
                }
            }
        }
        for (span, (service, rule, port, count)) in told {
            let others = match count - 1 {
                0 => String::new(),
                1 => " and one other service".to_owned(),
                many => format!(" and {many} other services"),
            };
            self.report(
                Diagnostic::warning(
                    code::CONDITION_ON_BYTES,
                    span,
                    format!(
                        "`{rule}` refuses connections to `{}`{others} whatever it asks of requests",
                        service.name.value
                    ),
                )
                .label(port.span, "bytes, of which nothing of it is known, and all are refused")
                .help("refuse there by what is known of bytes: `deny` with `port`, `peer-ip` or `client-ip`, or by whom it names"),
            );
        }
    }

    fn opaque_condition(&mut self, code: mesh_syntax::Code, span: Span, port: Spanned<u16>) {
        self.report(
            Diagnostic::error(
                code,
                span,
                format!("the port {} carries bytes, of which this is never known", port.value),
            )
            .label(port.span, "the port")
            .help("ask only for `port`, `from`, `peer-ip` and `client-ip`, or give the port another `protocol=`"),
        );
    }

    fn check_opaque_route(&mut self, route: &Route, port: Option<&Port>) {
        let actions = &route.actions;
        let of_requests = [
            actions.answer.as_ref().map(|answer| answer.span),
            actions.rewrite.as_ref().map(|rewrite| rewrite.span),
            actions.mirrors.first().map(|mirror| mirror.span),
            actions.fault.map(|fault| fault.span),
            actions.request_headers.as_ref().map(|edits| edits.span),
            actions.response_headers.as_ref().map(|edits| edits.span),
            actions.cors.as_ref().map(|cors| cors.span),
            actions.upgrade.map(|upgrade| upgrade.span),
            actions.streaming,
            actions.sticky.as_ref().map(|own| own.span),
        ];
        let exchange = &route.exchange;
        let own = |source: Source| match source {
            Source::Service(span) | Source::Route(span) => Some(span),
            _ => None,
        };
        let of_answer = |cause: &RetryCause| {
            matches!(
                cause,
                RetryCause::Status(_)
                    | RetryCause::ServerError
                    | RetryCause::Gateway
                    | RetryCause::GrpcStatus(_)
                    | RetryCause::Refused
                    | RetryCause::PerTryTimeout
            )
        };
        let causes = exchange.causes.value.iter().any(of_answer);
        let of_exchange = [
            causes.then(|| own(exchange.causes.source)).flatten(),
            exchange
                .hedge
                .value
                .and_then(|_| own(exchange.hedge.source)),
        ];
        for span in of_requests.into_iter().chain(of_exchange).flatten() {
            let finding = Diagnostic::error(
                code::MATCH_ON_BYTES,
                span,
                "this is about requests, and the service carries bytes",
            )
            .help("remove it, or give the port another `protocol=`");
            self.report(match port {
                Some(port) => finding.label(port.number.span, "a port of bytes"),
                None => finding,
            });
        }
    }
}

const fn is_opaque(port: &Port) -> bool {
    matches!(port.protocol, Protocol::Tcp | Protocol::Tls)
}

/// The ports that conditions leave in question.
fn asked<'p>(conditions: &[Spanned<Condition>], ports: &'p [Port]) -> Vec<&'p Port> {
    let asked = |port: &&Port| {
        conditions.iter().all(|condition| match &condition.value {
            Condition::Port(numbers) => numbers.contains(&port.number.value),
            Condition::Not(inner) => match &**inner {
                Condition::Port(numbers) => !numbers.contains(&port.number.value),
                _ => true,
            },
            _ => true,
        })
    };
    ports.iter().filter(asked).collect()
}

/// A method of gRPC among conditions.
fn of_grpc(condition: &model::Condition) -> bool {
    match &condition.kind {
        ConditionKind::Grpc(_) => true,
        ConditionKind::Not(inner) => of_grpc(inner),
        ConditionKind::Plain(_) | ConditionKind::From(_) => false,
    }
}

/// A condition on what no port in question knows, and one of these ports.
fn unknowable(conditions: &[Spanned<Condition>], ports: &[Port]) -> Option<(Span, Spanned<u16>)> {
    let asked = asked(conditions, ports);
    let first = asked
        .first()
        .filter(|_| asked.iter().all(|port| is_opaque(port)))?;
    let names_hosts = asked.iter().all(|port| port.protocol == Protocol::Tls);
    let found = conditions
        .iter()
        .find(|condition| of_requests(&condition.value, names_hosts))?;
    Some((found.span, first.number))
}

fn of_requests(condition: &Condition, names_hosts: bool) -> bool {
    match condition {
        Condition::Host(_) => !names_hosts,
        Condition::Port(_) | Condition::From(_) | Condition::PeerIp(_) | Condition::ClientIp(_) => {
            false
        }
        Condition::Not(inner) => of_requests(inner, names_hosts),
        _ => true,
    }
}
