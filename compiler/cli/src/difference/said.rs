//! Values as one line of text, by what they mean: two that mean the same are the same text, however they are written.

use mesh_bundle::digest::Digest;
use mesh_bundle::slice::{AuthorizerProtocol, Jwks, OnFailure, RequestKey, TokenLocation};
use mesh_compiler::linked::{
    Authorizer, Call, Jwt, LinkedMesh, Probe, RateLimit, Requirement, Service, Target,
};
use mesh_compiler::model::{CallMode, Flip, RequirementKind, Rollout};
use mesh_compiler::trial::quoted;
use mesh_compiler::value::{duration_text, rate_text};

mod condition;
mod connection;
mod guard;

use condition::{conditions, pattern};
pub(super) use connection::{dial, dials_looser, listener, listens_looser, mtls_looser};
pub(super) use guard::{invariant, inventory, suppression, test};

/// Digits of a digest that are shown.
const DIGITS: usize = 16;

/// Words with a blank before each of them, or nothing.
fn after(word: &str, rest: &[String]) -> String {
    if rest.is_empty() {
        String::new()
    } else {
        format!(" {word} {}", rest.join(" "))
    }
}

/// Who is named, or the request.
pub(super) fn target(mesh: &LinkedMesh, target: Target) -> String {
    let service = mesh.service(target.service);
    let mut text = service.name.value.clone();
    if let Some(subset) = target.subset.and_then(|index| service.subsets.get(index)) {
        text = format!("{text} {}", subset.name.value);
    }
    match target.port {
        Some(port) => format!("{text}:{port}"),
        None => text,
    }
}

fn of_route(service: &Service, route: Option<usize>) -> String {
    let route = route.and_then(|index| service.routes.get(index));
    route.map_or(String::new(), |route| {
        format!(" in route {}", route.name.value)
    })
}

/// A `require` or `accept`.
pub(super) fn requirement(mesh: &LinkedMesh, service: &Service, one: &Requirement) -> String {
    let jwt = || mesh.jwts.get(one.provider).map(|jwt| &jwt.name.value);
    let authorizer = || {
        mesh.authorizers
            .get(one.provider)
            .map(|one| &one.name.value)
    };
    let (words, name) = match one.kind {
        RequirementKind::RequireJwt => ("require jwt", jwt()),
        RequirementKind::AcceptJwt => ("accept jwt", jwt()),
        RequirementKind::RequireAuthorizer => ("require authorizer", authorizer()),
    };
    let name = name.map_or("", |name| name.as_str());
    format!(
        "{words} {name}{}{}",
        of_route(service, one.route),
        conditions(one.conditions.iter().map(|one| &one.value))
    )
}

/// A key of a limit or of a hash.
pub(super) fn key(key: &RequestKey) -> String {
    match key {
        RequestKey::ClientIp => "client-ip".to_owned(),
        RequestKey::Caller => "caller".to_owned(),
        RequestKey::Path => "path".to_owned(),
        RequestKey::Header(name) => format!("header {name}"),
        RequestKey::Query(name) => format!("query {name}"),
        RequestKey::Claim(name) => format!("claim {name}"),
        RequestKey::Cookie { name, ttl } => match ttl {
            Some(ttl) => format!("cookie {name} ttl={}", duration_text(*ttl)),
            None => format!("cookie {name}"),
        },
    }
}

fn on_failure(what: OnFailure) -> &'static str {
    match what {
        OnFailure::Allow => "allow",
        OnFailure::Deny => "deny",
    }
}

/// A `rate-limit`.
pub(super) fn rate_limit(mesh: &LinkedMesh, service: &Service, one: &RateLimit) -> String {
    let (count, per) = one.rate.value;
    let mut text = format!("{} burst={}", rate_text(count, per), one.burst);
    if let Some((to, failure)) = &one.via {
        let (to, failure) = (target(mesh, to.value), on_failure(*failure));
        text = format!("{text} via={to} on-failure={failure}");
    }
    let keys: Vec<String> = one.keys.iter().map(key).collect();
    text.push_str(&after("per", &keys));
    if let Some(respond) = &one.respond {
        text = format!("{text} respond {}", respond.status);
        if !respond.body.is_empty() {
            text = format!("{text} {}", quoted(&respond.body));
        }
        for line in &respond.headers {
            text = format!("{text} {}={}", line.name, quoted(&line.value));
        }
    }
    let conditions = conditions(one.conditions.iter().map(|one| &one.value));
    format!("{text}{}{conditions}", of_route(service, one.route))
}

/// A `probe`.
pub(super) fn probe(one: &Probe) -> String {
    let paths: Vec<String> = one.paths.iter().map(pattern).collect();
    let peers: Vec<String> = one.peer_ip.iter().map(ToString::to_string).collect();
    format!("{}{}", paths.join(" "), after("peer-ip", &peers))
}

/// The parts of a `jwt`, each a setting of its own.
pub(super) fn jwt(one: &Jwt) -> [(&'static str, String); 5] {
    let provider = &one.provider;
    let keys = match &provider.jwks {
        Jwks::Url(url) => url.clone(),
        Jwks::Inline(bytes) => {
            let digest = Digest::of(bytes).to_string();
            let end = digest.find(':').map_or(0, |colon| colon + 1) + DIGITS;
            digest.get(..end).unwrap_or(&digest).to_owned()
        }
    };
    let locations = provider.locations.iter().map(|location| match location {
        TokenLocation::Header(name) => format!("header {name}"),
        TokenLocation::Query(name) => format!("query {name}"),
        TokenLocation::Cookie(name) => format!("cookie {name}"),
    });
    let mut audiences = provider.audiences.clone();
    audiences.sort();
    let forwards = provider.forwards.iter();
    let mut forwards: Vec<String> = forwards
        .map(|one| format!("{} as {}", one.claim, one.header))
        .collect();
    forwards.sort();
    let or = |texts: Vec<String>, none: &str| {
        if texts.is_empty() {
            none.to_owned()
        } else {
            texts.join(", ")
        }
    };
    [
        ("issuer", provider.issuer.clone()),
        ("audience", or(audiences, "any")),
        ("jwks", keys),
        ("from", or(locations.collect(), "header authorization")),
        ("forward", or(forwards, "none")),
    ]
}

/// An `authorizer`.
pub(super) fn authorizer(mesh: &LinkedMesh, one: &Authorizer) -> String {
    let protocol = match one.protocol {
        AuthorizerProtocol::Http => "http",
        AuthorizerProtocol::Grpc => "grpc",
    };
    format!(
        "{} to {} protocol={protocol} timeout={} on-failure={} body={}{}{}{}",
        one.name.value,
        target(mesh, one.to.value),
        duration_text(one.timeout),
        on_failure(one.on_failure.value),
        one.body_bytes,
        after("send", &one.send_headers),
        after("keep", &one.keep_headers),
        after("return", &one.return_headers),
    )
}

/// `rollout`.
pub(super) fn rollout(one: &Rollout) -> String {
    let steps = one.steps.iter();
    let steps = steps.map(|step| mesh_compiler::value::percent_text(step.value));
    let mut text = steps.collect::<Vec<_>>().join(" ");
    if let Some(hold) = &one.hold {
        text = format!("{text} hold={}", duration_text(hold.value));
    }
    match one.flip.as_ref().map(|flip| flip.value) {
        None => text,
        Some(Flip::Each) => format!("{text} flip=each"),
        Some(Flip::Together) => format!("{text} flip=together"),
    }
}

/// A call that a service declares.
pub(super) fn call(mesh: &LinkedMesh, one: &Call) -> String {
    let callee = mesh.service(one.callee.value);
    let mut text = callee.name.value.clone();
    if let Some(route) = one.route {
        text = format!("{text} route={}", mesh.route(route).name.value);
    }
    if let Some(calls) = &one.per_request {
        text = format!("{text} per-request={}", calls.value);
    }
    if let Some(share) = &one.share {
        let share = mesh_compiler::value::percent_text(share.value);
        text = format!("{text} share={share}");
    }
    match one.mode.as_ref().map(|mode| mode.value) {
        None => {}
        Some(CallMode::Sequential) => text.push_str(" mode=sequential"),
        Some(CallMode::Parallel) => text.push_str(" mode=parallel"),
    }
    match &one.listen {
        Some((address, port)) => format!("{text} listen={} port={port}", address.value),
        None => text,
    }
}

/// What a team's routes may take of a gateway.
pub(super) fn delegate(one: &mesh_compiler::linked::Delegate) -> String {
    let asked = one.conditions.iter().map(|one| &one.value);
    format!("{}{}", one.team.value, conditions(asked))
}
