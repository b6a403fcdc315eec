//! `resilience/failing-health-check`

use std::collections::BTreeMap;

use mesh_bundle::slice::{
    Condition, Enforcement, HealthCheckKind, PathPattern, PathPatternKind, Principal, Protocol,
};
use mesh_compiler::LinkedMesh;
use mesh_compiler::analysis::probe::Probe;
use mesh_compiler::analysis::request_space::{CapExceeded, Likely, Point, Repeated, Space};
use mesh_compiler::linked::{HealthCheck, Requirement, Service};
use mesh_compiler::model::{Effect, RequirementKind};
use mesh_compiler::value::duration_text;
use mesh_syntax::{Diagnostic, Span};

use crate::facts::Facts;
use crate::rule::{RuleContext, declare_rule};
use crate::rules::undecided::{self, Open};
use crate::rules::words::list;

declare_rule! {
    /// ## What it flags
    /// A `health-check` that no healthy endpoint passes: a `deny` refuses its request, from callers that are let in
    /// otherwise, shown by a request that the engine refuses; it speaks HTTP or gRPC and no port of the service does; an
    /// answer may take longer than the time between two checks, once all levels are laid over each other. Where the service
    /// also requires a token, which a check has not, it is *possible*.
    ///
    /// ## Why it matters
    /// Every endpoint counts as unhealthy, for those callers, while it works. A check that waits longer than its interval
    /// says what was true before the last one.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     health-check "/internal/health"
    ///     allow web
    ///     deny { path "/internal/**" }
    /// }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     health-check "/health"
    ///     allow web
    ///     deny { path "/internal/**" }
    /// }
    /// ```
    pub(crate) static FAILING_HEALTH_CHECK = {
        code: "MSH0611", name: "resilience/failing-health-check", summary: "health check that no endpoint passes",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let mesh = facts.mesh();
    let mut slow = BTreeMap::new();
    let mut unspoken = BTreeMap::new();
    for service in &mesh.services {
        let own = service.subsets.iter().filter(|subset| subset.has_own_pool);
        let pools = std::iter::once(&service.pool).chain(own.map(|subset| &subset.pool));
        let mut told: Vec<&HealthCheckKind> = Vec::new();
        for check in pools.map(|pool| &pool.health_check) {
            let Some((kind, span)) = check.probe.value.as_ref().zip(check.probe.source.span())
            else {
                continue;
            };
            let name = &service.name.value;
            if let Some(finding) = overlapping(check, span) {
                let key = (check.every.source, check.timeout.source);
                cx.report_once(&mut slow, key, name, || finding);
            }
            if told.contains(&kind) {
                continue;
            }
            told.push(kind);
            if let Some(finding) = unanswered(service, kind, span) {
                // What `defaults` ask of everybody is meant for those that it fits.
                if check.probe.source.level() >= 3 {
                    cx.report_once(&mut unspoken, (span, service.id), name, || finding);
                }
            } else if let HealthCheckKind::Http(path) = kind {
                cx.report_some(refused(facts, service, path, span));
                match without_token(mesh, service, path, span) {
                    Ok(finding) => cx.report_some(finding),
                    Err(why) => {
                        let name = &service.name.value;
                        let open = Open {
                            span,
                            question: format!("whether `{name}` asks this question for a token"),
                            why,
                        };
                        undecided::report(cx, &FAILING_HEALTH_CHECK, [open]);
                    }
                }
            }
        }
    }
}

/// An answer that may come after the next question.
fn overlapping(check: &HealthCheck, span: Span) -> Option<Diagnostic> {
    let (every, timeout) = (&check.every, &check.timeout);
    if timeout.value <= every.value {
        return None;
    }
    let at = timeout
        .source
        .span()
        .or(every.source.span())
        .unwrap_or(span);
    let finding = FAILING_HEALTH_CHECK
        .at(
            at,
            format!(
                "an answer may take {}, and the next check is made after {}",
                duration_text(timeout.value),
                duration_text(every.value),
            ),
        )
        .help("give the answer less time, or ask less often");
    Some(match every.source.span() {
        Some(other) if other != at => finding.label(other, "how often it is asked"),
        _ => finding,
    })
}

/// A question that no port of the service understands.
fn unanswered(service: &Service, kind: &HealthCheckKind, span: Span) -> Option<Diagnostic> {
    let speaks = |wanted: Protocol| service.ports.iter().any(|port| port.protocol == wanted);
    let (what, certain) = match kind {
        HealthCheckKind::Http(_) if !speaks(Protocol::Http) && !speaks(Protocol::Grpc) => {
            ("HTTP", true)
        }
        // It may be spoken on a port that only says `http`.
        HealthCheckKind::Grpc if !speaks(Protocol::Grpc) => ("gRPC", !speaks(Protocol::Http)),
        _ => return None,
    };
    let port = service.ports.first()?.number;
    let finding = FAILING_HEALTH_CHECK
        .at(
            span,
            format!(
                "`{}` is asked over {what}, which no port of it speaks",
                service.name.value
            ),
        )
        .label(port.span, "speaks another protocol")
        .help("check with `health-check tcp`, or correct `protocol=`");
    Some(if certain { finding } else { finding.possible() })
}

/// Callers that are let in, but not to ask whether the service lives.
fn refused(facts: &Facts<'_>, service: &Service, path: &str, span: Span) -> Option<Diagnostic> {
    let mesh = facts.mesh();
    // Nobody judges beside it, or the caller does; and without a `deny` the rule that the check implies decides.
    let judged = !service.is_external() && service.reach.unmeshed.is_none();
    let denies: Vec<Span> = (service.access.iter())
        .filter(|rule| rule.effect == Effect::Deny && rule.enforcement == Enforcement::Enforce)
        .filter_map(|rule| rule.source.span())
        .collect();
    if !judged || denies.is_empty() {
        return None;
    }
    let probe = Probe::of(mesh, service.id)?;
    let asks = asks(service, path)?;
    let mut callers = Vec::new();
    let mut witness: Option<Point> = None;
    for edge in mesh
        .edges
        .entering(service.id)
        .filter(|edge| !edge.permitted.is_empty())
    {
        let caller = mesh.service(edge.caller);
        let Some(point) = question(caller, &asks, &probe) else {
            continue;
        };
        if probe.is_allowed(&point) == Some(false) {
            callers.push(caller.name.value.as_str());
            witness.get_or_insert(point);
        }
    }
    let witness = witness?;
    let by = (service.access.iter().enumerate())
        .filter(|(index, rule)| rule.effect == Effect::Deny && probe.takes(*index, &witness))
        .find_map(|(_, rule)| rule.source.span());
    let finding = FAILING_HEALTH_CHECK
        .at(
            span,
            format!(
                "`{}` refuses this question of {}, which it lets in otherwise",
                service.name.value,
                list(callers),
            ),
        )
        .at("every endpoint counts as unhealthy")
        .label(by.or(denies.first().copied())?, "refused here")
        .about(&service.name.value)
        .help("leave the path out of the `deny`, or check another one");
    Some(finding.witness(facts.witness(&witness, service.id)))
}

/// A check has no token.
fn without_token(
    mesh: &LinkedMesh,
    service: &Service,
    path: &str,
    span: Span,
) -> Result<Option<Diagnostic>, CapExceeded> {
    let Some(asks) = asks(service, path) else {
        return Ok(None);
    };
    for requirement in &service.requirements {
        let Some(jwt) = mesh.jwts.get(requirement.provider) else {
            continue;
        };
        if requirement.kind != RequirementKind::RequireJwt {
            continue;
        }
        let conditions: Vec<Condition> = (requirement.conditions.iter())
            .map(|condition| condition.value.clone())
            .collect();
        let about = Space::of_conditions(&conditions, Repeated::One)?;
        if !about.intersection(&asks)?.is_empty() {
            let jwt = &jwt.name.value;
            return Ok(Some(asked_for_token(
                service,
                (path, span),
                requirement,
                jwt,
            )));
        }
    }
    Ok(None)
}

fn asked_for_token(
    service: &Service,
    (path, span): (&str, Span),
    requirement: &Requirement,
    jwt: &str,
) -> Diagnostic {
    let finding = FAILING_HEALTH_CHECK
        .at(
            span,
            format!(
                "`{}` requires a token of `{jwt}`, which this question has not",
                service.name.value
            ),
        )
        .possible()
        .about(&service.name.value)
        .help(format!(
            "leave it out: `require jwt {jwt} {{ not {{ path \"{path}\" }} }}`"
        ));
    match requirement.source.span() {
        Some(other) => finding.label(other, "required here"),
        None => finding,
    }
}

/// The questions of a check, whoever asks.
fn asks(service: &Service, path: &str) -> Option<Space> {
    let pattern = PathPattern {
        kind: PathPatternKind::Template(path.to_owned()),
        ignore_case: false,
    };
    let conditions = [
        Condition::Method(vec!["GET".to_owned()]),
        Condition::Path(vec![pattern]),
    ];
    let of_requests = |protocol| matches!(protocol, Protocol::Http | Protocol::Grpc);
    let ports = service
        .ports
        .iter()
        .filter(|port| of_requests(port.protocol));
    let ports = Space::to_ports(ports.map(|port| port.number.value)).ok()?;
    Space::of_conditions(&conditions, Repeated::One)
        .ok()?
        .intersection(&ports)
        .ok()
}

/// The question of one caller, with nothing in it that it need not have.
fn question(caller: &Service, asks: &Space, probe: &Probe) -> Option<Point> {
    let who: Vec<Principal> = (caller.identities.iter().cloned())
        .map(Principal::SpiffeId)
        .collect();
    let likely = Likely {
        callers: caller.identities.iter().map(ToString::to_string).collect(),
        ..probe.likely().clone()
    };
    asks.intersection(&Space::from(&who).ok()?)
        .ok()?
        .pick(&likely)
        .ok()?
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(rest: &str) -> String {
        format!(
            r#"
            mesh m {{ trust-domain "m.example"; defaults {{ health-check "/healthz" every="2s" }} }}
            jwt shop {{ issuer "https://id.example"; audience "a"; jwks file="keys/public.jwks.json" }}
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a; health-check none }}
            service b {{ port 80; endpoints {{ static "10.0.0.3:80" }}; calls a; health-check none }}
            service a {{ endpoints {{ static "10.0.0.2:80" }}; allow b; {rest} }}"#
        )
    }

    #[test]
    fn a_deny_that_takes_the_question_is_shown() {
        insta::assert_snapshot!(findings(
            "MSH0611",
            &with("port 80; allow web { method POST }; deny b { method GET }")
        ));
    }

    #[test]
    fn a_token_is_missed() {
        insta::assert_snapshot!(findings("MSH0611", &with("port 80; require jwt shop")));
    }

    #[test]
    fn levels_and_protocols_must_fit() {
        insta::assert_snapshot!(findings(
            "MSH0611",
            &with("port 80 protocol=tcp; health-check grpc timeout=\"3s\"")
        ));
    }

    #[test]
    fn what_passes_is_fine() {
        for rest in [
            "port 80",
            "port 80; deny b { path \"/admin/**\" }",
            "port 80; require jwt shop { not { path \"/healthz\" } }",
            "port 80 protocol=grpc; health-check grpc",
            "port 80; deny b { header x-debug }",
        ] {
            none("MSH0611", &with(rest));
        }
    }
}
