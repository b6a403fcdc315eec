//! Whether a request may enter where it arrives: the token that it must bring, the rules, the authorizers
//! that are asked, and the limits that count it.

use mesh_bundle::slice::{Enforcement, OnFailure, RateLimit, Requirement, RequirementKind};
use mesh_engine::InboundTable;
use mesh_engine::rbac::{Rule, Rules, Verdict};
use mesh_engine::request::Request;

use super::{
    Asking, DecidingRule, Decision, LimitMet, LosingRule, Outcome, Refusal, Trial, TrialError,
};
use crate::analysis::entrance;
use crate::linked::{LinkedMesh, ServiceId, Source};
use crate::model::Effect;
use crate::value;

/// What those are told that are too many, where policy says nothing.
const TOO_MANY: u16 = 429;

impl Trial<'_> {
    /// Judges a request where it arrives. `route` is the gateway's route that takes it, once it is known.
    pub(super) fn authorise(
        &mut self,
        callee: ServiceId,
        request: &Request<'_>,
        route: Option<&str>,
        mut outcome: Outcome,
    ) -> Result<Outcome, TrialError> {
        let mesh = self.mesh;
        let service = mesh.service(callee);
        if entrance::is_unguarded(service) && self.port(callee, Some(request.port)).is_some() {
            // Nothing stands there that would judge.
            return Ok(outcome.ending(Decision::Allowed));
        }
        if service.is_external() {
            // Only the caller's proxy lets anything leave, and there is none.
            return Ok(outcome);
        }
        let snapshot = self.snapshot(callee)?;
        let Some(table) = snapshot.inbound(request.port) else {
            return Ok(outcome);
        };
        if let Err(error) = table.path_accepts().allow(request.path) {
            outcome.refusal = Some(Refusal::bad_request(error.rule()));
            return Ok(outcome);
        }
        if has_no_token(mesh, table, request, route) {
            outcome.refusal = Some(Refusal::no_token());
            return Ok(outcome);
        }
        let verdict = (Some(table.rules()), table.authorise(request));
        let mut outcome = judged(mesh, callee, verdict, request, outcome);
        // A gateway asks and counts once it knows the route.
        if outcome.decision == Decision::Allowed && mesh.service(callee).gateway().is_none() {
            meet(mesh, callee, table, (request, route), &mut outcome);
        }
        Ok(outcome)
    }
}

/// Whether a request must bring a token and has none, or one of another issuer.
pub(super) fn has_no_token(
    mesh: &LinkedMesh,
    table: &InboundTable,
    request: &Request<'_>,
    route: Option<&str>,
) -> bool {
    let brought = |name: &str| {
        let mut jwts = mesh.jwts.iter();
        let jwt = jwts.find(|jwt| jwt.name.value == name);
        entrance::brought(request.claims, jwt.map(|jwt| &jwt.provider))
    };
    table.unmet_token(request, route, brought).is_some()
}

/// Notes who is asked about a request that the rules let in, and what counts it.
pub(super) fn meet(
    mesh: &LinkedMesh,
    callee: ServiceId,
    table: &InboundTable,
    (request, route): (&Request<'_>, Option<&str>),
    outcome: &mut Outcome,
) {
    let asked = table.requirements(request, route);
    outcome
        .asked
        .extend(asked.filter_map(|requirement| asking(mesh, callee, requirement)));
    let counted = table.rate_limits(request, route);
    outcome
        .limits
        .extend(counted.map(|(position, limit)| limit_met(mesh, callee, position, limit)));
}

fn asking(mesh: &LinkedMesh, callee: ServiceId, requirement: &Requirement) -> Option<Asking> {
    let RequirementKind::RequireAuthorizer(name) = &requirement.kind else {
        return None;
    };
    let mut authorizers = mesh.authorizers.iter().enumerate();
    let (position, authorizer) = authorizers.find(|(_, one)| one.name.value == *name)?;
    let service = mesh.service(callee);
    let conditions = |own: &crate::linked::Requirement| {
        own.conditions
            .iter()
            .map(|own| &own.value)
            .eq(&requirement.conditions)
    };
    let mut required = service.requirements.iter();
    let required = required.find(|own| {
        own.kind == crate::model::RequirementKind::RequireAuthorizer
            && own.provider == position
            && conditions(own)
    });
    Some(Asking {
        service: service.name.value.clone(),
        authorizer: name.clone(),
        to: mesh.service(authorizer.to.value.service).name.value.clone(),
        opens_on_failure: authorizer.on_failure.value == OnFailure::Allow,
        source: required.map_or(Source::BuiltIn, |own| own.source),
    })
}

fn limit_met(mesh: &LinkedMesh, callee: ServiceId, position: usize, limit: &RateLimit) -> LimitMet {
    let service = mesh.service(callee);
    let own = service.rate_limits.get(position);
    LimitMet {
        service: service.name.value.clone(),
        rate: value::rate_text(limit.count, limit.per),
        via: limit.via.as_ref().map(|(target, _)| target.service.clone()),
        status: limit
            .respond
            .as_ref()
            .map_or(TOO_MANY, |respond| respond.status),
        source: own.map_or(Source::BuiltIn, |own| own.source),
    }
}

/// What rules decide about a request, or about a connection of bytes.
pub(super) fn judged(
    mesh: &LinkedMesh,
    callee: ServiceId,
    (rules, verdict): (Option<&Rules>, Verdict<'_>),
    request: &Request<'_>,
    outcome: Outcome,
) -> Outcome {
    let asked = Asked {
        mesh,
        callee,
        rules,
        verdict,
    };
    let is_connection = outcome.is_connection;
    asked.judge(outcome, |rule| {
        if !rule.concerns(request.peer) {
            return Some(NOT_ABOUT_PEER.to_owned());
        }
        let (_, condition) = if is_connection {
            rule.first_failing_of_connection(request)?
        } else {
            rule.first_failing(request)?
        };
        let is_unknown = is_connection && condition.holds_of_connection(request).is_none();
        Some(if is_unknown {
            format!("of a connection, `{condition}` is never known")
        } else {
            format!("does not match `{condition}`")
        })
    })
}

const NOT_ABOUT_PEER: &str = "is about other callers";

/// The rules of a service, and what they decided.
struct Asked<'a> {
    mesh: &'a LinkedMesh,
    callee: ServiceId,
    rules: Option<&'a Rules>,
    verdict: Verdict<'a>,
}

impl Asked<'_> {
    /// `why_not` says why a rule does not take what is judged; none: it does.
    fn judge(&self, mut outcome: Outcome, why_not: impl Fn(&Rule) -> Option<String>) -> Outcome {
        let decisive = self.verdict.rule();
        outcome.rule = decisive.map(|rule| DecidingRule {
            name: rule.name().to_owned(),
            source: self.source(rule),
        });
        let effect = if self.verdict.is_allowed() {
            Effect::Allow
        } else {
            Effect::Deny
        };
        let service = self.mesh.service(self.callee);
        for rule in self.rules.into_iter().flatten() {
            let decided = decisive.is_some_and(|decisive| decisive.position() == rule.position());
            let why_not = why_not(rule);
            let is_audit = rule.enforcement() == Enforcement::Audit;
            if why_not.is_none()
                && (is_audit || rule.effect() == effect)
                && rule.position() < service.access.len()
            {
                let touched = (self.callee, rule.position());
                outcome.touched.rules.insert(touched);
            }
            let implied = service
                .access
                .get(rule.position())
                .is_none_or(|rule| rule.implied);
            if decided || implied {
                continue;
            }
            let because = why_not.unwrap_or_else(|| match (is_audit, rule.effect() == effect) {
                (true, _) => "only logs".to_owned(),
                (false, true) => "says the same".to_owned(),
                (false, false) => match decisive {
                    Some(decisive) => format!("overruled by `{decisive}`"),
                    None => "does not hold: the port's `mtls` mode keeps such peers out".to_owned(),
                },
            });
            outcome.other_rules.push(LosingRule {
                name: rule.name().to_owned(),
                service: service.name.value.clone(),
                concerns_peer: because != NOT_ABOUT_PEER,
                because,
                source: self.source(rule),
            });
        }
        outcome.ending(match self.verdict {
            Verdict::Allowed { .. } => Decision::Allowed,
            Verdict::Denied { .. } => Decision::Denied,
        })
    }

    /// The snapshot was made from the rules in this very order; those of probes are last.
    fn source(&self, rule: &Rule) -> Source {
        let service = self.mesh.service(self.callee);
        let position = rule.position();
        let own = service.access.get(position).map(|rule| rule.source);
        let probe = || {
            let probes = position.checked_sub(service.access.len())?;
            Some(service.probes.get(probes)?.source)
        };
        own.or_else(probe).unwrap_or(Source::BuiltIn)
    }
}
