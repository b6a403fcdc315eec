//! Values as one line of text, by what they mean: two that mean the same are the same text, however they are written.

use mesh_bundle::digest::Digest;
use mesh_bundle::slice::{
    AuthorizerProtocol, ClientAddress, ClientCertificate, Condition, FieldMatch, Jwks, OnFailure,
    PathPattern, PathPatternKind, Principal, RequestKey, StringMatchKind, TlsVersion,
    TokenLocation,
};
use mesh_compiler::linked::{
    Authorizer, Call, ClaimKind, Invariant, Jwt, LinkedMesh, Listener, Probe, RateLimit,
    Requirement, Service, Target,
};
use mesh_compiler::model::{
    CallMode, Dial, Flip, RequirementKind, Rollout, Spanned, SuppressedAt, Suppression, Tls,
};
use mesh_compiler::trial::quoted;
use mesh_compiler::value::{duration_text, rate_text};

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

fn tls_version(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    }
}

/// Properties of a `tls`.
fn tls(tls: &Tls) -> String {
    let mut text = String::new();
    let named = [
        ("certificate", &tls.certificate),
        ("trust", &tls.trust),
        ("sni", &tls.sni),
        ("san", &tls.san),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            text = format!("{text} {name}={}", value.value);
        }
    }
    match client(tls) {
        ClientCertificate::None => {}
        ClientCertificate::Optional => text.push_str(" client=optional"),
        ClientCertificate::Required => text.push_str(" client=required"),
    }
    format!("{text} min={}", tls_version(min(tls)))
}

/// Whether clients need a certificate.
fn client(tls: &Tls) -> ClientCertificate {
    let client = tls.client.as_ref();
    client.map_or(ClientCertificate::None, |client| client.value)
}

fn min(tls: &Tls) -> TlsVersion {
    tls.min.as_ref().map_or(TlsVersion::V1_2, |min| min.value)
}

/// Whether another one may be accepted on the other side than before.
fn is_looser(before: &Tls, now: &Tls) -> bool {
    let rank = |tls: &Tls| match client(tls) {
        ClientCertificate::None => 0,
        ClientCertificate::Optional => 1,
        ClientCertificate::Required => 2,
    };
    let text = |value: &Option<Spanned<String>>| value.as_ref().map(|value| value.value.clone());
    rank(now) < rank(before)
        || min(now) < min(before)
        || (before.trust.is_some() && text(&now.trust) != text(&before.trust))
        || text(&now.san) != text(&before.san)
        || (before.san.is_none() && text(&now.sni) != text(&before.sni))
}

/// A `listen`.
pub(super) fn listener(listener: &Listener) -> String {
    let mut text = listener.port.value.to_string();
    for host in &listener.hosts {
        text = format!("{text} host={host}");
    }
    if let Some(own) = &listener.tls {
        text = format!("{text} tls{}", tls(own));
    }
    match listener.client_address {
        ClientAddress::Peer => text,
        ClientAddress::ProxyProtocol => format!("{text} client-ip=proxy-protocol"),
        ClientAddress::ForwardedFor { hops } => {
            format!("{text} client-ip=forwarded-for hops={hops}")
        }
    }
}

/// How ports are dialled.
pub(super) fn dial(dial: &Dial) -> String {
    let ports = dial.ports.iter().map(|port| port.value.to_string());
    let ports: Vec<String> = ports.collect();
    let to = dial
        .dial
        .map_or(String::new(), |to| format!(" as {}", to.value));
    let tls = dial
        .tls
        .as_ref()
        .map_or(String::new(), |own| format!(" tls{}", tls(own)));
    format!("{}{to}{tls}", ports.join(" "))
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

fn principal(who: &Principal) -> String {
    match who {
        Principal::SpiffeId(id) => id.to_string(),
        Principal::SpiffePrefix(prefix) => format!("{prefix}**"),
        Principal::Any => "any".to_owned(),
        Principal::Unauthenticated => "unauthenticated".to_owned(),
    }
}

fn pattern(pattern: &PathPattern) -> String {
    let text = match &pattern.kind {
        PathPatternKind::Template(text) => quoted(text),
        PathPatternKind::Regex(text) => format!("regex={}", quoted(text)),
    };
    cased(text, pattern.ignore_case)
}

fn cased(text: String, ignore_case: bool) -> String {
    if ignore_case {
        format!("{text} ignore-case")
    } else {
        text
    }
}

fn field(word: &str, field: &FieldMatch) -> String {
    let values = field.values.iter().map(|value| {
        let text = match &value.kind {
            StringMatchKind::Exact(text) => quoted(text),
            StringMatchKind::Prefix(text) => format!("prefix={}", quoted(text)),
            StringMatchKind::Suffix(text) => format!("suffix={}", quoted(text)),
            StringMatchKind::Contains(text) => format!("contains={}", quoted(text)),
            StringMatchKind::Regex(text) => format!("regex={}", quoted(text)),
        };
        cased(text, value.ignore_case)
    });
    let mut text = format!("{word} {}", field.name);
    for value in values {
        text = format!("{text} {value}");
    }
    text
}

fn condition(one: &Condition) -> String {
    fn all<T>(word: &str, of: &[T], text: impl Fn(&T) -> String) -> String {
        let of: Vec<String> = of.iter().map(text).collect();
        format!("{word} {}", of.join(" "))
    }
    match one {
        Condition::Method(methods) => all("method", methods, Clone::clone),
        Condition::Path(paths) => all("path", paths, pattern),
        Condition::Host(hosts) => all("host", hosts, |host| quoted(host)),
        Condition::Port(ports) => all("port", ports, ToString::to_string),
        Condition::Header(of) => field("header", of),
        Condition::Query(of) => field("query", of),
        Condition::Cookie(of) => field("cookie", of),
        Condition::Claim(of) => field("claim", of),
        Condition::ClientIp(nets) => all("client-ip", nets, ToString::to_string),
        Condition::PeerIp(nets) => all("peer-ip", nets, ToString::to_string),
        Condition::From(who) => all("from", who, principal),
        Condition::Not(one) => format!("not {}", condition(one)),
    }
}

/// ` { … }`, or nothing where every request is meant.
fn conditions<'c>(all: impl Iterator<Item = &'c Condition>) -> String {
    let mut all: Vec<String> = all.map(condition).collect();
    all.sort();
    if all.is_empty() {
        String::new()
    } else {
        format!(" {{ {} }}", all.join("; "))
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

/// An `invariant`.
pub(super) fn invariant(mesh: &LinkedMesh, one: &Invariant) -> String {
    let names = |ids: &[mesh_compiler::linked::ServiceId]| -> String {
        let names = ids.iter().map(|id| mesh.service(*id).name.value.as_str());
        names.collect::<Vec<_>>().join(" ")
    };
    let claims = one.claims.iter().map(|claim| match &claim.kind {
        ClaimKind::Reaches { target, only } => {
            format!("reaches {} only {}", names(&[*target]), names(only))
        }
        ClaimKind::Isolated { from, to } => {
            format!("isolated {} from {}", names(from), names(to))
        }
        ClaimKind::Decided {
            allowed,
            from,
            to,
            conditions: asked,
        } => {
            let word = if *allowed { "allowed" } else { "denied" };
            let who: Vec<String> = from.iter().map(principal).collect();
            let who = after("from", &who);
            format!("{word} {}{who}{}", names(&[*to]), conditions(asked.iter()))
        }
    });
    let mut claims: Vec<String> = claims.collect();
    claims.sort();
    format!("{} {{ {} }}", quoted(&one.text.value), claims.join("; "))
}

/// A `suppress`.
pub(super) fn suppression(one: &Suppression) -> String {
    let mut text = one.code.value.clone();
    match one.at.as_ref().map(|at| &at.value) {
        None => {}
        Some(SuppressedAt::Definition(name)) => text = format!("{text} at={name}"),
        Some(SuppressedAt::File { path, .. }) => text = format!("{text} at={}", quoted(path)),
    }
    if let Some(route) = &one.route {
        text = format!("{text} route={}", route.value);
    }
    format!(
        "{text} until={} owner={} reason={}",
        one.until.value,
        one.owner.value,
        quoted(&one.reason)
    )
}

/// What a team's routes may take of a gateway.
pub(super) fn delegate(one: &mesh_compiler::linked::Delegate) -> String {
    let asked = one.conditions.iter().map(|one| &one.value);
    format!("{}{}", one.team.value, conditions(asked))
}

/// Whether a listener may let in a client that an earlier one of its port refused.
pub(super) fn listens_looser(before: &Service, after: &Service) -> bool {
    let (Some(before), Some(after)) = (before.gateway(), after.gateway()) else {
        return false;
    };
    after.listeners.iter().any(|now| {
        let same = |was: &&Listener| {
            let shares = |host| was.hosts.contains(host);
            let open = was.hosts.is_empty() || now.hosts.is_empty();
            was.port.value == now.port.value && (open || now.hosts.iter().any(shares))
        };
        before.listeners.iter().filter(same).any(|was| {
            was.client_address != now.client_address
                || match (&was.tls, &now.tls) {
                    (Some(was), Some(now)) => is_looser(was, now),
                    (Some(_), None) => true,
                    (None, _) => false,
                }
        })
    })
}

/// Whether another may answer for a port than before.
pub(super) fn dials_looser(before: &Service, after: &Service) -> bool {
    before.reach.dials.iter().any(|was| {
        let Some(own) = &was.tls else {
            return false;
        };
        was.ports.iter().any(|port| {
            let same = |now: &&Dial| now.ports.iter().any(|each| each.value == port.value);
            let now = after.reach.dials.iter().find(same);
            match now.and_then(|now| now.tls.as_ref()) {
                Some(now) => is_looser(own, now),
                None => after
                    .ports
                    .iter()
                    .any(|each| each.number.value == port.value),
            }
        })
    })
}

/// Whether a port takes peers without mutual TLS that it refused.
pub(super) fn mtls_looser(before: &Service, after: &Service) -> bool {
    after.ports.iter().any(|port| {
        let same = |was: &&mesh_compiler::model::Port| was.number.value == port.number.value;
        let was = before.ports.iter().find(same);
        was.is_some_and(|was| before.mtls_of(was) != after.mtls_of(port))
            && after.mtls_of(port).is_some()
    })
}
