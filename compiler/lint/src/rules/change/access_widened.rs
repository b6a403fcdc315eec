//! `access/access-widened`

use std::collections::{BTreeMap, BTreeSet};

use mesh_bundle::slice::MtlsMode;
use mesh_compiler::analysis::entrance::{Door, Refused, Way};
use mesh_compiler::diff::access::{AccessChange, Added, Gain, Unasked, added};
use mesh_compiler::diff::loosened::{self, Loosened, What};
use mesh_compiler::linked::{LinkedMesh, Service};
use mesh_syntax::{Diagnostic, Level, Span};

use crate::facts::{ChangeFacts, Facts};
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A rule or probe that lets in requests which the base refuses, with one of them. Found with
    /// `meshc check --base REF`. What is written otherwise and means the same is no change; a rule that
    /// stayed the same is flagged too if what stood in its way is gone: a `deny`, a required token,
    /// mutual TLS without exception, or, at a gateway, the lack of a listener or of a route that leads on. The
    /// finding points at the mode, listener or route that changed, or at the rule where something is gone.
    /// A service that becomes `unmeshed` lets in everybody, and a request about which an authorizer is no
    /// longer asked is let in whatever it would have said. What no request can show is said as possible: clients
    /// that need no certificate any more, another source of their address, other keys of tokens, and paths that
    /// may hold more. A service that the base does not have is a note, where it lets in more than the calls that are
    /// declared. Callers are compared as the services that they are, whatever their identities read.
    ///
    /// ## Why it matters
    /// Whoever reviews a change of rules has to see what they let in, not how they read.
    ///
    /// ## Examples
    /// ```kdl base
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { path "/reviews/*" } }
    /// ```
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { path "/reviews/**" } }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { path "/reviews/{id}" } }
    /// ```
    pub(crate) static ACCESS_WIDENED = {
        code: "MSH0810", name: "access/access-widened",
        summary: "requests are let in that were refused",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// What lets more in, with what changed where that is something else.
type Widened<'c> = (&'c AccessChange, &'c Gain, Option<String>);

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let mesh = facts.mesh();
    // A rule of `defaults` or of a policy is one place, however many services hold it.
    let mut places: BTreeMap<Span, Vec<Widened<'_>>> = BTreeMap::new();
    for each in change.access() {
        let service = mesh.service(each.service.head);
        for gain in &each.gained {
            let place = changed(mesh, service, gain);
            let span = place.as_ref().map(|(span, _)| *span);
            let span = span.or_else(|| gain.way.span(service));
            let found = places.entry(span.unwrap_or(service.name.span)).or_default();
            found.push((each, gain, place.map(|(_, what)| what)));
        }
        for unasked in &each.unasked {
            cx.report(no_longer_asked(facts, change, each, unasked));
        }
        if let Some(why) = each.unknown {
            let name = &service.name;
            let message = format!(
                "who may enter `{}` changes in a way that is too large to compare",
                name.value
            );
            let finding = ACCESS_WIDENED.at(name.span, message);
            cx.report(
                finding
                    .help(format!("{why}; look at the rules by hand"))
                    .possible(),
            );
        }
    }
    for new in added(change.meshes()) {
        cx.report(of_new(facts, &new));
    }
    for loosened in loosened::of(change.meshes()) {
        cx.report(may_let_in(&loosened));
    }
    for (span, gains) in places {
        let Some((first, gain, changed)) = gains.first() else {
            continue;
        };
        let service = mesh.service(first.service.head);
        let name = &service.name.value;
        let services: BTreeSet<_> = gains
            .iter()
            .map(|(each, ..)| each.service.head.index())
            .collect();
        let others = match services.len() - 1 {
            0 => String::new(),
            1 => " and one other service".to_owned(),
            many => format!(" and {many} other services"),
        };
        let admits = match gain.way {
            Way::Rule(rule) => {
                let rule = service.access.get(rule);
                format!("`{}`", rule.map_or("a rule", |rule| rule.name.as_str()))
            }
            Way::Probe(_) => "a probe".to_owned(),
            Way::Unguarded => "having no proxy".to_owned(),
        };
        let what = changed.as_ref().unwrap_or(&admits);
        let mut finding = ACCESS_WIDENED
            .at(
                span,
                format!("{what} lets requests into `{name}`{others} that the base refuses"),
            )
            .at(because(gain, changed.is_some()))
            .help(match &gain.refused_behind {
                None => "check that the request below is meant to get in; as a test it stays so".to_owned(),
                Some(behind) => format!(
                    "`{behind}` behind it refuses the request below, and nothing else does; check that this is meant"
                ),
            });
        if let Some(rule) = gain.way.span(service).filter(|_| changed.is_some()) {
            finding = finding.label(rule, "admits them, the same as before");
        }
        finding = facts.witnessed(finding, gain.witness.as_ref(), service.id);
        for (each, ..) in &gains {
            finding.add_subject(&mesh.service(each.service.head).name.value);
        }
        cx.report(finding);
    }
}

/// What a service lets in that is new altogether.
fn of_new(facts: &Facts<'_>, new: &Added) -> Diagnostic {
    let service = facts.mesh().service(new.service);
    let name = &service.name;
    let span = new.way.span(service).unwrap_or(name.span);
    let (kind, name) = (service.kind.word(), &name.value);
    let mut finding = ACCESS_WIDENED
        .at(
            span,
            format!(
                "the {kind} `{name}` is new, and lets in requests that nobody declares to send"
            ),
        )
        .at("lets them in")
        .help("check that the request below is meant to get in; as a test it stays so")
        .witness(facts.witness(&new.witness, service.id));
    finding.level = Level::Note;
    finding
}

/// What changed, where that is not what lets the request in and the head still has a place for it.
fn changed(mesh: &LinkedMesh, service: &Service, gain: &Gain) -> Option<(Span, String)> {
    let point = gain.witness.as_ref().filter(|_| gain.is_old)?;
    match gain.before? {
        Refused::Unheard => match service.gateway() {
            Some(gateway) => {
                let door = Door::of(mesh, service.id)?;
                let heard = door.listener(point)?;
                let mut listeners = gateway.listeners.iter();
                let listener = listeners
                    .find(|own| own.port.value == heard.port && own.hosts == heard.hosts)?;
                Some((listener.span, format!("listening on {}", heard.port)))
            }
            None => {
                let mut ports = service.ports.iter();
                let port = ports.find(|own| own.number.value == point.port)?;
                Some((port.number.span, format!("the port {}", point.port)))
            }
        },
        Refused::NoRoute | Refused::Answered => {
            let door = Door::of(mesh, service.id)?;
            let name = door.route(point)?;
            let mut routes = service.routes.iter();
            let route = routes.find(|own| own.name.value == name)?;
            Some((route.name.span, format!("the route `{name}`")))
        }
        Refused::Plaintext | Refused::Identity => {
            let mut ports = service.ports.iter();
            let port = ports.find(|own| own.number.value == point.port)?;
            let own = port.mtls.map(|mode| mode.span);
            let span = own.or_else(|| service.mtls.source.span())?;
            let mode = match service.mtls_of(port) {
                None => "strict",
                Some(MtlsMode::Permissive) => "permissive",
                Some(MtlsMode::Off) => "off",
            };
            Some((span, format!("`mtls {mode}`")))
        }
        Refused::Denied(_) | Refused::NoRule | Refused::NoToken(_) => None,
    }
}

/// Why what lets a request in now did not before.
fn because(gain: &Gain, is_elsewhere: bool) -> &'static str {
    if !gain.is_old {
        return "lets in more than before";
    }
    match gain.before {
        None | Some(Refused::Denied(_) | Refused::NoRule) => {
            "the same rule as before; a `deny` that overruled it is gone"
        }
        Some(Refused::NoToken(_)) => "the same rule as before; the base asks for a token",
        Some(_) if !is_elsewhere => "the same rule as before; something else gave way",
        Some(Refused::Plaintext) => "the base takes only mutual TLS, of which the peer has none",
        Some(Refused::Identity) => "the base takes only plaintext, in which nobody has an identity",
        Some(Refused::Unheard) => "the base listens neither on that port nor for that host",
        Some(Refused::NoRoute) => "no route of the base takes the request",
        Some(Refused::Answered) => "the base answers the request itself and sends it nowhere",
    }
}

/// What no request can show.
fn may_let_in(loosened: &Loosened) -> Diagnostic {
    let name = &loosened.name;
    let (message, label, help) = match loosened.what {
        What::ClientCertificate => (
            format!("clients of `{name}` no longer need a certificate"),
            "the base lets no connection come up without one",
            "check that requests without a certificate are meant to come so far as to be judged",
        ),
        What::ClientAddress => (
            format!("`{name}` takes the address of its clients from elsewhere"),
            "not where the base takes it from",
            "check that what stands before it says who the client is, and that rules with `client-ip` still mean the same",
        ),
        What::Keys => (
            format!("tokens of `{name}` are verified by other keys, or taken from elsewhere"),
            "tokens may be taken that the base refuses",
            "check that the keys are those of the issuer",
        ),
        What::Paths => (
            format!("`{name}` takes paths that the base refuses"),
            "more may stand in a path here than in the base",
            "check that nothing behind it reads such a path otherwise than the rules do",
        ),
    };
    let finding = ACCESS_WIDENED.at(loosened.span, message);
    finding.at(label).help(help).possible()
}

fn no_longer_asked(
    facts: &Facts<'_>,
    change: &ChangeFacts<'_>,
    each: &AccessChange,
    unasked: &Unasked,
) -> Diagnostic {
    let service = facts.mesh().service(each.service.head);
    let base = change.meshes().base;
    let requirement = base
        .service(each.service.base)
        .requirements
        .get(unasked.requirement);
    let authorizer = requirement.and_then(|requirement| base.authorizers.get(requirement.provider));
    let authorizer = authorizer.map_or("", |authorizer| authorizer.name.value.as_str());
    let finding = ACCESS_WIDENED
        .at(
            service.name.span,
            format!(
                "requests enter `{}` that the authorizer `{authorizer}` had to agree to, and is not asked about any more",
                service.name.value
            ),
        )
        .at("nobody is asked")
        .help("check that the request below is meant to get in whatever the authorizer would say");
    // What it would have said nobody knows.
    facts
        .witnessed(finding, unasked.witness.as_ref(), service.id)
        .possible()
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    const WEB: &str = r#"
        service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
        service a { port 80; endpoints { static "10.0.0.2:80" }; "#;

    #[test]
    fn what_gets_in_now_is_shown() {
        insta::assert_snapshot!(changes(
            "MSH0810",
            &format!("{WEB} allow web {{ method GET; path \"/a\" }} }}"),
            &format!("{WEB} allow web {{ method GET; path regex=\"/a|/b\" }} }}"),
        ));
    }

    #[test]
    fn a_deny_that_is_gone_is_seen_at_the_rule_that_now_admits() {
        insta::assert_snapshot!(changes(
            "MSH0810",
            &format!("{WEB} allow web; deny {{ path \"/admin/**\" }} }}"),
            &format!("{WEB} allow web }}"),
        ));
    }

    #[test]
    fn a_rule_of_defaults_is_one_finding() {
        let with = |rule: &str| {
            format!(
                r#"mesh m {{ trust-domain "m.example"; defaults {{ {rule} }} }}
                service a {{ port 80; endpoints {{ static "10.0.0.1:80" }} }}
                service b {{ port 80; endpoints {{ static "10.0.0.2:80" }} }}"#
            )
        };
        insta::assert_snapshot!(changes("MSH0810", &with(""), &with("allow any")));
    }

    #[test]
    fn a_mode_that_lets_plaintext_in_is_seen_at_the_mode() {
        let with = |mode: &str| {
            format!("{WEB} {mode}; allow web; allow unauthenticated {{ method GET }} }}")
        };
        insta::assert_snapshot!(changes(
            "MSH0810",
            &with("mtls strict"),
            &with("mtls permissive")
        ));
    }

    #[test]
    fn probes_tokens_and_proxies_that_go_are_seen() {
        let with = |what: &str| {
            format!(
                "{WEB} allow web; {what} }}
                jwt shop {{ issuer \"https://id.test\"; jwks file=\"keys/public.jwks.json\" }}"
            )
        };
        insta::assert_snapshot!(changes("MSH0810", &with(""), &with("probe \"/healthz\"")));
        insta::assert_snapshot!(changes("MSH0810", &with("require jwt shop"), &with("")));
        insta::assert_snapshot!(changes("MSH0810", &with(""), &with("unmeshed")));
    }

    #[test]
    fn hosts_and_routes_of_a_gateway_are_seen() {
        let with = |hosts: &str, routes: &str| {
            format!(
                r#"gateway public {{ listen 80 {{ host {hosts} }}; allow unauthenticated {{ method GET }}; {routes} }}
                service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow public }}"#
            )
        };
        let near = r#"route near { match { path "/a" }; to a }"#;
        let all = "route all { to a }";
        insta::assert_snapshot!(changes(
            "MSH0810",
            &with("\"a.test\"", near),
            &with("\"a.test\" \"b.test\"", near)
        ));
        insta::assert_snapshot!(changes(
            "MSH0810",
            &with("\"a.test\"", near),
            &with("\"a.test\"", all)
        ));
    }

    #[test]
    fn what_no_request_shows_is_possible() {
        let with = |tls: &str, rest: &str| {
            format!(
                r#"gateway public {{ listen 443 {{ tls certificate=web trust=partners {tls} }}; allow unauthenticated; route all {{ to a }} }}
                service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow public; route all {{ {rest} }} }}"#
            )
        };
        insta::assert_snapshot!(changes(
            "MSH0810",
            &with("client=required", ""),
            &with("client=optional", "path-accepts encoded-slash")
        ));
        assert_eq!(
            changes(
                "MSH0810",
                &with("client=optional", ""),
                &with("client=required", "")
            ),
            ""
        );
        let with = |keys: &str| {
            format!(
                r#"service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow any; require jwt shop }}
                jwt shop {{ issuer "https://id.test"; jwks url="{keys}" }}"#
            )
        };
        insta::assert_snapshot!(changes(
            "MSH0810",
            &with("https://id.test/keys"),
            &with("https://id.test/others")
        ));
    }

    #[test]
    fn who_is_no_longer_asked_is_seen() {
        let with = |what: &str| {
            format!(
                "{WEB} allow web; {what} }}
                service judge {{ port 80; endpoints {{ static \"10.0.0.9:80\" }}; allow a }}
                authorizer opa {{ to judge }}"
            )
        };
        insta::assert_snapshot!(changes(
            "MSH0810",
            &with("require authorizer opa"),
            &with("require authorizer opa { method GET }")
        ));
    }

    #[test]
    fn who_may_leave_for_an_external_is_seen() {
        let with = |rule: &str| {
            format!(
                r#"service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls stripe }}
                external stripe {{ host "api.stripe.test"; port 80; {rule} }}"#
            )
        };
        insta::assert_snapshot!(changes(
            "MSH0810",
            &with("allow web { method GET }"),
            &with("allow web")
        ));
    }

    /// Without its port a request would mean the old port before, and the new one after.
    #[test]
    fn what_comes_to_another_port_is_shown_with_the_port() {
        let with = |port: u16| {
            format!(
                r#"gateway public {{ listen {port} {{ host "a.test" }}; allow unauthenticated {{ method GET }}; route all {{ to a }} }}
                service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow public }}"#
            )
        };
        for (code, port) in [("MSH0810", "port=8443"), ("MSH0811", "port=443")] {
            let found = changes(code, &with(443), &with(8443));
            assert!(found.contains(port), "{found}");
        }
    }

    /// Who may leave is said by rules alone, and no proxy asks for a token there.
    #[test]
    fn tokens_say_nothing_of_services_outside() {
        let with = |require: &str| {
            format!(
                r#"mesh m {{ trust-domain "m.example"; defaults {{ {require} }} }}
                {WEB} allow web; calls bank }}
                external bank {{ host "bank.test"; port 80; allow a }}
                jwt shop {{ issuer "https://id.test"; jwks file="keys/public.jwks.json" }}"#
            )
        };
        let (bare, asking) = (with(""), with("require jwt shop"));
        let found = [
            changes("MSH0810", &asking, &bare),
            changes("MSH0811", &bare, &asking),
        ];
        for found in found {
            assert!(found.contains("`a`") && !found.contains("bank"), "{found}");
        }
    }

    #[test]
    fn nobody_is_shown_to_call_itself() {
        let base = format!("{WEB} allow web {{ method GET }} }}");
        let head = format!("{WEB} allow any {{ method GET POST }} }}");
        let found = changes("MSH0810", &base, &head);
        assert!(found.contains("witness: web → a: POST"), "{found}");
        let head = format!("{WEB} allow any {{ method GET }} }}");
        let found = changes("MSH0810", &base, &head);
        let stranger = "witness: spiffe://example.test/somebody-else → a: GET";
        assert!(found.contains(stranger), "{found}");
        // Somebody whom there is comes first, although he gains less.
        let base = format!("{WEB} allow web {{ path \"/a\" }}; allow any {{ path \"/b\" }} }}");
        let head = format!("{WEB} allow any }}");
        let found = changes("MSH0810", &base, &head);
        assert!(found.contains("witness: web → a: GET"), "{found}");
    }

    /// What a gateway lets in, who stands behind may refuse.
    #[test]
    fn a_gateway_is_shown_with_what_arrives_behind_it() {
        let with = |page: &str, behind: &str| {
            format!(
                r#"gateway public {{ listen 80; allow unauthenticated; route page {{ match {{ {page} path "/a/**" }}; to a }} }}
                service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow public {{ {behind} }} }}"#
            )
        };
        insta::assert_snapshot!(changes(
            "MSH0810",
            &with("method GET;", "method GET"),
            &with("", "method GET")
        ));
        let found = changes(
            "MSH0810",
            &with("method GET;", "method GET PUT"),
            &with("", "method GET PUT"),
        );
        assert!(
            found.contains("witness: unauthenticated → public: PUT"),
            "{found}"
        );
        assert!(found.contains("as a test it stays so"), "{found}");
    }

    #[test]
    fn the_same_in_other_words_is_no_change() {
        let before = format!("{WEB} allow web {{ path \"/a\" \"/b\" }} }}");
        let after =
            format!("{WEB} allow web {{ path \"/b\" }}; allow web {{ path regex=\"/a\" }} }}");
        assert_eq!(changes("MSH0810", &before, &after), "");
    }

    #[test]
    fn another_trust_domain_or_identity_is_the_same_caller() {
        let with = |domain: &str, more: &str| {
            format!(
                r#"mesh m {{ trust-domain "{domain}" }}
                service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a; {more} }}
                service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow web {{ path "/a/**" }}; deny {{ not {{ from web }} }} }}"#
            )
        };
        let base = with("m.example", "");
        let own = r#"identity "spiffe://m.example/other""#;
        for head in [with("n.example", ""), with("m.example", own)] {
            for code in ["MSH0810", "MSH0811"] {
                assert_eq!(changes(code, &base, &head), "");
            }
        }
        // Whoever takes over another's identity is let in where the other was.
        let head = with("m.example", "")
            .replace("allow web", "allow web other")
            .replace("from web", "from web other")
            + "\n"
            + r#"service other { port 80; endpoints { static "10.0.0.3:80" } }"#;
        assert!(changes("MSH0810", &base, &head).contains("MSH0810"));
    }

    #[test]
    fn what_a_new_service_lets_in_is_a_note_where_nobody_declares_it() {
        let base = format!("{WEB} allow web }}");
        let and = |rule: &str| {
            format!(
                "{base}\nservice pay {{ port 80; endpoints {{ static \"10.0.0.3:80\" }}; {rule} }}"
            )
        };
        insta::assert_snapshot!(changes("MSH0810", &base, &and("allow any")));
        let head = and("allow web").replace("calls a", "calls a; calls pay");
        assert_eq!(changes("MSH0810", &base, &head), "");
    }
}
