//! Who may enter: default deny, and deny beats allow.

use std::fmt;

use mesh_bundle::slice::{AccessRule, Effect, Enforcement, Principal};

use crate::condition::{ConditionError, ConditionMatcher, Reading, admits, check_principal};
use crate::request::{Peer, Request};

/// The access rules of one service, compiled.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Box<[Rule]>,
}

/// One access rule, compiled.
#[derive(Clone, Debug)]
pub struct Rule {
    name: Box<str>,
    position: usize,
    effect: Effect,
    enforcement: Enforcement,
    who: Box<[Principal]>,
    conditions: Box<[ConditionMatcher]>,
}

/// Whether a request may enter, and who says so.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'t> {
    /// It may.
    Allowed {
        /// The first rule that admits it.
        rule: &'t Rule,
    },
    /// It may not.
    Denied {
        /// The first `deny` that takes it; `None`: no rule admits it.
        rule: Option<&'t Rule>,
    },
}

impl<'t> Verdict<'t> {
    /// Whether the request may enter.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// The rule that decided; `None`: denied by default.
    pub fn rule(&self) -> Option<&'t Rule> {
        match *self {
            Self::Allowed { rule } => Some(rule),
            Self::Denied { rule } => rule,
        }
    }
}

/// Why a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// One of its conditions or principals.
    #[error("rule {rule:?}")]
    Condition {
        /// Name of the rule.
        rule: String,
        /// Why.
        source: ConditionError,
    },
    /// `allow` without a who.
    #[error("rule {rule:?} allows without saying whom")]
    AllowsNobody {
        /// Name of the rule.
        rule: String,
    },
}

impl Rules {
    /// Compiles rules.
    pub fn build(rules: &[AccessRule]) -> Result<Self, RuleError> {
        let rules = rules
            .iter()
            .enumerate()
            .map(|(position, rule)| Rule::build(position, rule));
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
        })
    }

    /// Whether some rule admits this identity by its whole name.
    pub fn names(&self, identity: &str) -> bool {
        self.rules.iter().any(|rule| {
            let is_named =
                |who: &Principal| matches!(who, Principal::SpiffeId(id) if id.as_str() == identity);
            rule.effect == Effect::Allow && rule.who.iter().any(is_named)
        })
    }

    /// Whether the request may enter.
    pub fn authorise(&self, request: &Request<'_>) -> Verdict<'_> {
        self.authorise_from(0, request)
    }

    /// The same where only rules from this position on admit; every `deny` still refuses.
    pub(crate) fn authorise_from(&self, position: usize, request: &Request<'_>) -> Verdict<'_> {
        self.decide(position, |rule| rule.takes(request))
    }

    /// Whether a connection of bytes may enter: who comes, from where, to which port is all that is known of
    /// it. A rule that asks for more admits nobody, and refuses everybody.
    pub fn authorise_connection(&self, connection: &Request<'_>) -> Verdict<'_> {
        self.authorise_connection_from(0, connection)
    }

    /// The same where only rules from this position on admit.
    pub(crate) fn authorise_connection_from(
        &self,
        position: usize,
        connection: &Request<'_>,
    ) -> Verdict<'_> {
        self.decide(position, |rule| rule.takes_connection(connection))
    }

    fn decide(&self, admitting: usize, takes: impl Fn(&Rule) -> bool) -> Verdict<'_> {
        let first = |from: usize, effect| {
            self.rules.iter().skip(from).find(|rule| {
                rule.effect == effect && rule.enforcement == Enforcement::Enforce && takes(rule)
            })
        };
        if let Some(rule) = first(0, Effect::Deny) {
            return Verdict::Denied { rule: Some(rule) };
        }
        match first(admitting, Effect::Allow) {
            Some(rule) => Verdict::Allowed { rule },
            None => Verdict::Denied { rule: None },
        }
    }

    /// The rules that only log and that take the request.
    pub fn audit_hits<'t>(&'t self, request: &Request<'t>) -> impl Iterator<Item = &'t Rule> {
        let request = *request;
        self.rules
            .iter()
            .filter(move |rule| rule.enforcement == Enforcement::Audit && rule.takes(&request))
    }

    /// The same for a connection of bytes.
    pub fn audit_hits_of_connection<'t>(
        &'t self,
        connection: &Request<'t>,
    ) -> impl Iterator<Item = &'t Rule> {
        let connection = *connection;
        self.rules.iter().filter(move |rule| {
            rule.enforcement == Enforcement::Audit && rule.takes_connection(&connection)
        })
    }

    /// All rules, in the order of the slice.
    pub fn iter(&self) -> std::slice::Iter<'_, Rule> {
        self.rules.iter()
    }
}

impl<'t> IntoIterator for &'t Rules {
    type Item = &'t Rule;
    type IntoIter = std::slice::Iter<'t, Rule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Rule {
    fn build(position: usize, rule: &AccessRule) -> Result<Self, RuleError> {
        let failed = |source| RuleError::Condition {
            rule: rule.name.clone(),
            source,
        };
        if rule.effect == Effect::Allow && rule.who.is_empty() {
            return Err(RuleError::AllowsNobody {
                rule: rule.name.clone(),
            });
        }
        rule.who
            .iter()
            .try_for_each(check_principal)
            .map_err(failed)?;
        let conditions = rule.conditions.iter().map(ConditionMatcher::compile);
        Ok(Self {
            name: rule.name.as_str().into(),
            position,
            effect: rule.effect,
            enforcement: rule.enforcement,
            who: rule.who.as_slice().into(),
            conditions: conditions.collect::<Result<_, _>>().map_err(failed)?,
        })
    }

    /// As people wrote it, `allow productpage`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place among the rules of the slice.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What it does.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Whether it decides.
    pub fn enforcement(&self) -> Enforcement {
        self.enforcement
    }

    /// Whether the rule is about this peer; a `deny` without a who is about everyone.
    pub fn concerns(&self, peer: Peer<'_>) -> bool {
        self.who.iter().any(|who| admits(who, peer))
            || (self.who.is_empty() && self.effect == Effect::Deny)
    }

    /// Whether the rule is about this request.
    pub fn takes(&self, request: &Request<'_>) -> bool {
        self.concerns(request.peer) && self.first_failing(request).is_none()
    }

    /// Whether the rule is about this connection of bytes.
    pub fn takes_connection(&self, connection: &Request<'_>) -> bool {
        self.concerns(connection.peer) && self.first_failing_of_connection(connection).is_none()
    }

    /// The first condition that keeps the rule from being about this connection, with its position. What
    /// nobody can know of a connection keeps an `allow` from admitting it, and no `deny` from refusing it.
    pub fn first_failing_of_connection(
        &self,
        connection: &Request<'_>,
    ) -> Option<(usize, &ConditionMatcher)> {
        let unknown = self.effect == Effect::Deny;
        let mut conditions = self.conditions.iter().enumerate();
        conditions
            .find(|(_, condition)| !condition.holds_of_connection(connection).unwrap_or(unknown))
    }

    /// The first condition that the request does not meet, with its position.
    pub fn first_failing(&self, request: &Request<'_>) -> Option<(usize, &ConditionMatcher)> {
        let reading = match self.effect {
            Effect::Allow => Reading::Every,
            Effect::Deny => Reading::Some,
        };
        let mut conditions = self.conditions.iter().enumerate();
        conditions.find(|(_, condition)| !condition.matches(request, reading))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::{Condition, PathAccepts};

    use super::*;
    use crate::path::{self, Accepts};
    use crate::testing::{exact, id, method, path as path_is};

    fn rule(name: &str, who: &[Principal], conditions: Vec<Condition>) -> AccessRule {
        let effect = if name.starts_with("deny") {
            Effect::Deny
        } else {
            Effect::Allow
        };
        let enforcement = if name.ends_with("audit") {
            Enforcement::Audit
        } else {
            Enforcement::Enforce
        };
        AccessRule {
            name: name.into(),
            effect,
            enforcement,
            who: who.into(),
            conditions,
        }
    }

    fn web() -> Principal {
        Principal::SpiffeId(id("web"))
    }

    /// The deciding rule, `+allow …` or `-deny …`; `-` is the default.
    #[track_caller]
    fn check(rules: &[AccessRule], caller: Option<&str>, request: &str, expected: &str) {
        let rules = Rules::build(rules).unwrap();
        let (method, raw) = request.split_once(' ').unwrap();
        let path = path::normalise(raw).unwrap();
        let caller = caller.map(id);
        let peer = caller
            .as_ref()
            .map_or(Peer::Unauthenticated, Peer::Identity);
        let headers = vec![("x", "1"), ("x", "2")];
        let request = Request {
            peer,
            headers: &headers,
            ..Request::new(method, "shop", &path)
        };
        let verdict = rules.authorise(&request);
        let sign = if verdict.is_allowed() { "+" } else { "-" };
        let rule = verdict.rule().map_or("", Rule::name);
        assert_eq!(format!("{sign}{rule}"), expected);
    }

    /// design.md, *Authorization*: "Default deny".
    #[test]
    fn default_deny() {
        check(&[], Some("web"), "GET /", "-");
        check(
            &[rule("allow web", &[web()], vec![])],
            Some("cart"),
            "GET /",
            "-",
        );
        check(
            &[rule("allow web", &[web()], vec![])],
            Some("web"),
            "GET /",
            "+allow web",
        );
    }

    /// "`deny` beats `allow`; `deny` without a who means everyone."
    #[test]
    fn deny_beats_allow() {
        let rules = [
            rule("allow web", &[web()], vec![]),
            rule("deny admin", &[], vec![path_is("/admin/**")]),
            rule("deny cart", &[Principal::SpiffeId(id("cart"))], vec![]),
        ];
        check(&rules, Some("web"), "GET /", "+allow web");
        check(&rules, Some("web"), "GET /x/../admin", "-deny admin");
        check(&rules, None, "GET /admin", "-deny admin");
        check(&rules, Some("cart"), "GET /", "-deny cart");
    }

    #[test]
    fn no_spelling_of_a_path_passes_a_deny_by() {
        let rules = [
            rule("allow web", &[web()], vec![]),
            rule("deny delete", &[], vec![path_is("/v1/things:delete")]),
        ];
        for path in [
            "/v1/things:delete",
            "/v1/things%3Adelete",
            "/v1/things%3adelete",
        ] {
            check(&rules, Some("web"), &format!("POST {path}"), "-deny delete");
        }
    }

    /// A route may accept what servers read in more than one way. Whatever any of them reads is denied, and only what
    /// stands there is allowed.
    #[test]
    fn no_reading_of_a_path_passes_a_deny_by() {
        let secret = || path_is("/e/secret/**");
        let rules = [
            rule("allow web", &[web()], vec![path_is("/e/**")]),
            rule("deny secret", &[], vec![secret()]),
        ];
        let but = vec![path_is("/e/**"), Condition::Not(Box::new(secret()))];
        let but = [rule("allow but", &[web()], but)];
        let accepts = Accepts::new(&[
            PathAccepts::EncodedSlash,
            PathAccepts::EncodedBackslash,
            PathAccepts::Semicolon,
        ]);
        let verdict = |rules: &[AccessRule], path: &str| {
            let path = path::normalise_accepting(path, accepts).unwrap();
            let web = id("web");
            let request = Request {
                peer: Peer::Identity(&web),
                ..Request::new("GET", "a.b", &path)
            };
            Rules::build(rules)
                .unwrap()
                .authorise(&request)
                .is_allowed()
        };
        for path in [
            "/e/secret;x/y",
            "/e/secret%2fx",
            "/e/secret%5cx",
            "/e/;/secret/x",
            "/e/%2fsecret/x",
            "/e%2Fsecret;a%5Cb/x",
        ] {
            assert!(!verdict(&rules, path), "{path}");
            assert!(!verdict(&but, path), "{path}");
        }
        assert!(verdict(&rules, "/e/open;x/y"));
        assert!(verdict(&but, "/e/open%2Fsecret"));
        let only = [rule("allow open", &[web()], vec![path_is("/e/open/x")])];
        assert!(!verdict(&only, "/e/open%2Fx"));
    }

    #[test]
    fn conditions_are_and() {
        let conditions = vec![method("GET"), path_is("/r/**")];
        let rules = [rule("allow web", &[web()], conditions)];
        check(&rules, Some("web"), "GET /r/7", "+allow web");
        check(&rules, Some("web"), "PUT /r/7", "-");
        check(&rules, Some("web"), "GET /s", "-");
    }

    /// "A plaintext peer is `unauthenticated`, and only `allow unauthenticated { … }` admits it, never
    /// an identity rule (`any` means any authenticated)".
    #[test]
    fn unauthenticated_only_by_its_own_rule() {
        let any = [rule("allow any", &[Principal::Any], vec![])];
        let named = [&any[..], &[rule("allow web", &[web()], vec![])]].concat();
        assert!(Rules::build(&named).unwrap().names(id("web").as_str()));
        assert!(!Rules::build(&any).unwrap().names(id("web").as_str()));
        check(&any, Some("web"), "GET /", "+allow any");
        check(&any, None, "GET /", "-");
        let prefix = Principal::SpiffePrefix("spiffe://t.example/".into());
        check(&[rule("allow all", &[prefix], vec![])], None, "GET /", "-");
        let open = [rule(
            "allow unauthenticated",
            &[Principal::Unauthenticated],
            vec![],
        )];
        check(&open, None, "GET /", "+allow unauthenticated");
        check(&open, Some("web"), "GET /", "-");
    }

    /// "`mode=audit` logs and decides nothing."
    #[test]
    fn audit_decides_nothing() {
        let rules = [
            rule("deny audit", &[], vec![]),
            rule("allow audit", &[Principal::Any], vec![]),
            rule(
                "allow cart audit",
                &[Principal::SpiffeId(id("cart"))],
                vec![],
            ),
        ];
        check(&rules, Some("web"), "GET /", "-");
        let compiled = Rules::build(&rules).unwrap();
        let path = path::normalise("/").unwrap();
        let web = id("web");
        let request = Request {
            peer: Peer::Identity(&web),
            ..Request::new("GET", "a", &path)
        };
        let hits: Vec<_> = compiled.audit_hits(&request).map(Rule::name).collect();
        assert_eq!(hits, ["deny audit", "allow audit"]);
    }

    /// The request carries the header twice, and only one line is "1".
    #[test]
    fn allow_needs_every_line_and_deny_needs_one() {
        let header = || vec![Condition::Header(exact("x", "1"))];
        check(
            &[rule("allow web", &[web()], header())],
            Some("web"),
            "GET /",
            "-",
        );
        let rules = [
            rule("allow web", &[web()], vec![]),
            rule("deny", &[], header()),
        ];
        check(&rules, Some("web"), "GET /", "-deny");
    }

    /// Whatever a rule asks of requests is not known of a connection of bytes, and `not` makes it no better known.
    #[test]
    fn what_is_not_known_of_a_connection_admits_nobody_and_refuses_all() {
        let not_get = || vec![Condition::Not(Box::new(method("GET")))];
        let port = |port| vec![Condition::Port(vec![port])];
        let cases = [
            (vec![rule("allow web", &[web()], vec![])], "+allow web"),
            (vec![rule("allow web", &[web()], port(5432))], "+allow web"),
            (vec![rule("allow web", &[web()], port(80))], "-"),
            (vec![rule("allow web", &[web()], vec![path_is("/**")])], "-"),
            (vec![rule("allow web", &[web()], not_get())], "-"),
            (
                vec![
                    rule("allow web", &[web()], vec![]),
                    rule("deny get", &[], not_get()),
                ],
                "-deny get",
            ),
            (
                vec![
                    rule("allow web", &[web()], vec![]),
                    rule("deny", &[], port(80)),
                ],
                "+allow web",
            ),
        ];
        let path = path::normalise("/").unwrap();
        let web = id("web");
        let connection = Request {
            peer: Peer::Identity(&web),
            port: 5432,
            ..Request::new("", "", &path)
        };
        for (rules, expected) in cases {
            let rules = Rules::build(&rules).unwrap();
            let verdict = rules.authorise_connection(&connection);
            let sign = if verdict.is_allowed() { "+" } else { "-" };
            let rule = verdict.rule().map_or("", Rule::name);
            assert_eq!(format!("{sign}{rule}"), expected);
        }
    }

    #[test]
    fn refuses_what_would_allow_nobody_or_too_many() {
        let nobody = Rules::build(&[rule("allow", &[], vec![])]);
        assert_eq!(
            nobody.unwrap_err(),
            RuleError::AllowsNobody {
                rule: "allow".into()
            }
        );
        let open = Principal::SpiffePrefix("spiffe://t.example/service/we".into());
        assert!(Rules::build(&[rule("allow", &[open], vec![])]).is_err());
    }
}
