//! One service: its names become ids, its levels one value each.

use std::collections::BTreeMap;

use mesh_bundle::slice::{self, Condition, Principal};
use mesh_bundle::spiffe::SpiffeId;
use mesh_syntax::{Diagnostic, Span};

use super::Linker;
use super::merge::Layers;
use super::scope::duplicate;
use crate::code;
use crate::linked::{Access, Effective, Kind, Pool, Routes, Service, ServiceId, Source, Subset};
use crate::model::{
    self, ConditionKind, Effect, Identity, Port, RetryBudget, Setting, Spanned, Who,
};

impl<'m> Linker<'m, '_> {
    /// Links a service, with its routes where they are known.
    pub(super) fn service(
        &mut self,
        declared: &'m model::Service,
        id: ServiceId,
        routes: Option<Routes>,
    ) -> Service {
        let layers = self.layers(declared);
        if matches!(declared.kind, model::Kind::Gateway(_)) {
            self.check_gateway_uses(&declared.settings.uses);
        }
        let ports = self.ports(declared);
        self.check_reach(declared);
        let pool = layers.pool();
        self.check_pool(&pool);
        let subsets = self.subsets(declared, &pool);
        let mut callers_may_extend: Vec<_> = declared
            .callers_may_extend
            .iter()
            .map(|field| field.value)
            .collect();
        callers_may_extend.sort_unstable();
        callers_may_extend.dedup();
        let routes = routes.unwrap_or_else(|| {
            let routes = self.routes((declared, id), &layers, &subsets, &ports);
            routes.into()
        });
        let entry = self.entry(declared, &layers, &routes, &ports);
        Service {
            id,
            kind: match &declared.kind {
                model::Kind::Service => Kind::Service,
                model::Kind::Gateway(gateway) => {
                    let mut gateway = self.gateway(gateway);
                    gateway.delegated = self.delegated(&declared.name, &routes);
                    Kind::Gateway(gateway)
                }
                model::Kind::External(external) => Kind::External(self.external(external)),
            },
            name: declared.name.clone(),
            hosts: hosts(declared),
            identities: self.identities(declared),
            endpoints: self.endpoints(declared, &ports),
            routes,
            requirements: entry.requirements,
            rate_limits: entry.rate_limits,
            probes: entry.probes,
            mtls: self.mtls(declared),
            telemetry: self.telemetry(declared),
            access: self.access(&layers, &ports, (&pool, &subsets)),
            retry_budget: retry_budget(&layers),
            pool,
            // Filled in when the routes of every callee are known.
            calls: Vec::new(),
            callers_may_extend,
            facts: declared.facts.clone(),
            reach: declared.reach.clone(),
            span: declared.span,
            ports,
            subsets,
        }
    }

    /// Strict where nobody says otherwise.
    fn mtls(&self, service: &model::Service) -> Effective<Option<slice::MtlsMode>> {
        let own = service.mtls.map(|mode| (mode, Source::Service(mode.span)));
        let whole = || {
            self.root
                .mtls
                .map(|mode| (mode, Source::Defaults(mode.span)))
        };
        match own.or_else(whole) {
            Some((mode, source)) => Effective {
                value: mode.value,
                source,
            },
            None => Effective::built_in(None),
        }
    }

    fn ports(&mut self, service: &model::Service) -> Vec<Port> {
        let mut ports: BTreeMap<u16, Port> = BTreeMap::new();
        for port in &service.ports {
            if let Some(first) = ports.get(&port.number.value) {
                let first = first.number.span;
                self.report(
                    Diagnostic::error(
                        mesh_syntax::code::DUPLICATE_SETTING,
                        port.number.span,
                        format!("the port {} is given twice", port.number.value),
                    )
                    .label(first, "the first time"),
                );
            } else {
                ports.insert(port.number.value, *port);
            }
        }
        ports.into_values().collect()
    }

    fn identities(&mut self, service: &model::Service) -> Vec<SpiffeId> {
        let is_external = matches!(service.kind, model::Kind::External(_));
        if service.identities.is_empty() && !is_external {
            return self.default_identity(service).into_iter().collect();
        }
        let mut identities = Vec::new();
        for identity in &service.identities {
            if !is_external && let Some(finding) = self.foreign_identity(service, identity) {
                self.report(finding);
            }
            identities.push(identity.value.clone());
        }
        identities.sort_unstable();
        identities.dedup();
        identities
    }

    fn default_identity(&mut self, service: &model::Service) -> Option<SpiffeId> {
        let name = &service.name;
        match self.trust_domain.identity(&default_path(service)) {
            Ok(identity) => Some(identity),
            Err(error) => {
                let message = format!("`{}` gives no identity: {error}", name.value);
                self.report(Diagnostic::error(code::IDENTITY, name.span, message));
                None
            }
        }
    }

    fn foreign_identity(
        &self,
        service: &model::Service,
        identity: &Identity,
    ) -> Option<Diagnostic> {
        let id = &identity.value;
        let domain = self.trust_domain.as_str();
        if id.trust_domain() != domain {
            let message = format!(
                "the identity is of the trust domain \"{}\", the mesh is \"{domain}\"",
                id.trust_domain()
            );
            let own = format!("\"spiffe://{domain}{}\"", id.path());
            return Some(
                Diagnostic::error(code::IDENTITY, identity.span, message)
                    .help("an instance of this mesh can only have an identity of its trust domain")
                    .unsafe_fix(
                        format!("write {own}"),
                        vec![mesh_syntax::Edit::new(identity.span, own)],
                    ),
            );
        }
        if id.is_reserved() {
            return Some(
                Diagnostic::error(
                    code::IDENTITY,
                    identity.span,
                    "identities below /mesh/ belong to the mesh's own programs",
                )
                .help("a service's identity is usually /service/ and its name"),
            );
        }
        let (_, other) = id.path().strip_prefix('/')?.split_once('/')?;
        let owner = self.scope.declared(other)?;
        if other == service.name.value || id.path() != default_path(owner) {
            return None;
        }
        let (word, owner) = (owner.kind.word(), owner.name.span);
        Some(
            Diagnostic::error(
                code::IDENTITY,
                identity.span,
                format!("this is the identity of the {word} `{other}`"),
            )
            .label(owner, "its owner")
            .help("whoever has it may do all that its owner may; to share one, give both services another"),
        )
    }

    fn subsets(&mut self, service: &model::Service, base: &Pool) -> Vec<Subset> {
        let mut sorted: Vec<&model::Subset> = service.subsets.iter().collect();
        sorted.sort_by_key(|subset| subset.span);
        let mut subsets: BTreeMap<&str, &model::Subset> = BTreeMap::new();
        for subset in sorted {
            let Spanned { value: name, span } = &subset.name;
            if let Some(first) = subsets.get(name.as_str()) {
                self.report(duplicate("subset", name, *span, first.name.span));
                continue;
            }
            if let Some(other) = self.scope.service_span(name) {
                self.report(
                    Diagnostic::error(
                        code::DUPLICATE_DEFINITION,
                        *span,
                        format!("the subset `{name}` has the name of a service"),
                    )
                    .label(other, "the service")
                    .help("`to` could mean either; give the subset another name"),
                );
            }
            subsets.insert(name, subset);
        }
        let subsets = subsets.into_values().map(|subset| {
            let mut pool = base.clone();
            pool.apply(&subset.pool, Source::Subset);
            self.check_pool(&pool);
            Subset {
                name: subset.name.clone(),
                labels: subset.labels.clone(),
                has_own_pool: pool != *base,
                pool,
                span: subset.span,
            }
        });
        subsets.collect()
    }

    fn access(
        &mut self,
        layers: &Layers<'m>,
        ports: &[Port],
        (pool, subsets): (&Pool, &[Subset]),
    ) -> Vec<Access> {
        let mut rules = Vec::new();
        for (level, settings) in layers.iter() {
            for rule in &settings.access {
                let source = level(rule.head);
                // Only a service's own rule is sure to speak of its ports.
                let ports = matches!(source, Source::Service(_)).then_some(ports);
                rules.push(self.rule(rule, source, ports));
            }
        }
        // Nearest level first, and within one by what they say, so that neither findings nor their
        // witnesses depend on which is written first.
        if rules.len() > 1 {
            rules.sort_by_cached_key(|rule: &Access| {
                let conditions = rule.conditions.iter().map(|condition| &condition.value);
                let says = (rule.enforcement, &rule.who, conditions.collect::<Vec<_>>());
                let level = std::cmp::Reverse(rule.source.level());
                (level, rule.name.clone(), format!("{says:?}"))
            });
        }
        for pool in std::iter::once(pool).chain(subsets.iter().map(|subset| &subset.pool)) {
            if let Some(rule) = implied_by_health_check(pool, &rules) {
                rules.push(rule);
            }
        }
        rules
    }

    fn rule(&mut self, rule: &model::Access, source: Source, ports: Option<&[Port]>) -> Access {
        let mut named = Vec::new();
        let who = self.principals(&rule.who, &mut named);
        named.sort_unstable();
        named.dedup();
        Access {
            name: rule_name(rule),
            effect: rule.effect,
            enforcement: rule.enforcement,
            who,
            named,
            conditions: self.conditions(&rule.conditions, ports),
            implied: false,
            source,
        }
    }

    pub(super) fn principals(
        &mut self,
        who: &[Spanned<Who>],
        named: &mut Vec<ServiceId>,
    ) -> Vec<Principal> {
        let mut principals = Vec::new();
        for Spanned { value, span } in who {
            match value {
                Who::Any => principals.push(Principal::Any),
                Who::Unauthenticated => principals.push(Principal::Unauthenticated),
                Who::Team(name) => {
                    let name = Spanned::new(name.clone(), *span);
                    for service in self.team_services(&name) {
                        if let Some(id) = self.scope.service(&service) {
                            named.push(id);
                            principals.extend(self.identities_named(&service));
                        }
                    }
                }
                Who::Identity(id) => {
                    self.check_trust_domain(id.trust_domain(), *span);
                    principals.push(Principal::SpiffeId(id.clone()));
                }
                Who::Prefix { trust_domain, text } => {
                    self.check_trust_domain(trust_domain, *span);
                    principals.push(Principal::SpiffePrefix(text.clone()));
                }
                Who::Service(name) => {
                    let name = Spanned::new(name.clone(), *span);
                    if let Some(id) = self.find_caller(&name) {
                        self.check_calls(&name);
                        named.push(id);
                        principals.extend(self.identities_named(&name.value));
                    }
                }
            }
        }
        principals.sort_by(|a, b| principal_key(a).cmp(&principal_key(b)));
        principals.dedup();
        principals
    }

    /// The identities of a service, which may not be linked yet.
    fn identities_named(&self, name: &str) -> Vec<Principal> {
        let Some(service) = self.scope.declared(name) else {
            return Vec::new();
        };
        if service.identities.is_empty() {
            let default = self.trust_domain.identity(&default_path(service));
            return default.into_iter().map(Principal::SpiffeId).collect();
        }
        service
            .identities
            .iter()
            .map(|id| Principal::SpiffeId(id.value.clone()))
            .collect()
    }

    fn check_trust_domain(&mut self, domain: &str, span: Span) {
        let federated = self
            .root
            .federates
            .iter()
            .any(|foreign| foreign.value == domain);
        if domain != self.trust_domain.as_str() && !federated {
            let message = format!(
                "identities of \"{domain}\" are not known here: the mesh is \"{}\"",
                self.trust_domain.as_str()
            );
            self.report(
                Diagnostic::error(code::IDENTITY, span, message).help(format!(
                    "name it in `mesh`, so that identities of it can be verified: `federate \"{domain}\"`"
                )),
            );
        }
    }

    pub(super) fn conditions(
        &mut self,
        conditions: &[model::Condition],
        ports: Option<&[Port]>,
    ) -> Vec<Spanned<Condition>> {
        let linked: Vec<_> = conditions
            .iter()
            .map(|condition| Spanned::new(self.condition(condition, ports), condition.span))
            .collect();
        if let Some(ports) = ports {
            self.check_grpc(conditions, &linked, ports);
        }
        linked
    }

    // `not` nests as deep as the keyword lets it, which is not deep.
    fn condition(&mut self, condition: &model::Condition, ports: Option<&[Port]>) -> Condition {
        match &condition.kind {
            ConditionKind::Plain(plain) => {
                if let (Condition::Port(asked), Some(ports)) = (plain, ports) {
                    self.check_ports(asked, ports, condition.span);
                }
                plain.clone()
            }
            ConditionKind::Grpc(paths) => Condition::Path(paths.clone()),
            ConditionKind::From(who) => Condition::From(self.principals(who, &mut Vec::new())),
            ConditionKind::Not(inner) => Condition::Not(Box::new(self.condition(inner, ports))),
        }
    }

    fn check_ports(&mut self, asked: &[u16], ports: &[Port], span: Span) {
        let missing = asked
            .iter()
            .find(|port| ports.iter().all(|known| known.number.value != **port));
        if let (Some(missing), false) = (missing, ports.is_empty()) {
            let known: Vec<String> = ports
                .iter()
                .map(|port| port.number.value.to_string())
                .collect();
            self.report(
                Diagnostic::error(
                    code::DANGLING_REFERENCE,
                    span,
                    format!("the service has no port {missing}"),
                )
                .help(format!("it has {}", known.join(", "))),
            );
        }
    }
}

/// The path of the identity that a definition has unasked.
fn default_path(service: &model::Service) -> String {
    let kind = match service.kind {
        model::Kind::Gateway(_) => "gateway",
        model::Kind::Service | model::Kind::External(_) => "service",
    };
    format!("/{kind}/{}", service.name.value)
}

/// Who may call a service may also ask whether it lives: the rule that its health check needs, for
/// those whom no other rule admits to everything already.
fn implied_by_health_check(pool: &Pool, rules: &[Access]) -> Option<Access> {
    let Some(slice::HealthCheckKind::Http(path)) = &pool.health_check.probe.value else {
        return None;
    };
    let name = format!("health-check \"{path}\"");
    if rules.iter().any(|rule| rule.implied && rule.name == name) {
        return None;
    }
    let allows = || {
        rules.iter().filter(|rule| {
            rule.effect == Effect::Allow
                && rule.enforcement == slice::Enforcement::Enforce
                && !rule.implied
        })
    };
    let mut who: Vec<Principal> = allows()
        .flat_map(|rule| &rule.who)
        .filter(|principal| **principal != Principal::Unauthenticated)
        .filter(|principal| {
            !allows().any(|rule| rule.conditions.is_empty() && rule.who.contains(principal))
        })
        .cloned()
        .collect();
    who.sort_by(|a, b| principal_key(a).cmp(&principal_key(b)));
    who.dedup();
    let source = pool.health_check.probe.source;
    let span = source.span()?;
    if who.is_empty() {
        return None;
    }
    let path = slice::PathPattern {
        kind: slice::PathPatternKind::Template(path.clone()),
        ignore_case: false,
    };
    Some(Access {
        name,
        effect: Effect::Allow,
        enforcement: slice::Enforcement::Enforce,
        who,
        named: Vec::new(),
        conditions: vec![
            Spanned::new(Condition::Method(vec!["GET".to_owned()]), span),
            Spanned::new(Condition::Path(vec![path]), span),
        ],
        implied: true,
        source,
    })
}

fn principal_key(principal: &Principal) -> (u8, &str) {
    match principal {
        Principal::SpiffeId(id) => (0, id.as_str()),
        Principal::SpiffePrefix(prefix) => (1, prefix),
        Principal::Any => (2, ""),
        Principal::Unauthenticated => (3, ""),
    }
}

/// Longest name of a rule; a slice's names may have 255 bytes.
const RULE_NAME_BYTES_MAX: usize = 200;

/// The rule as people wrote it, whatever the order in which they named whom.
fn rule_name(rule: &model::Access) -> String {
    let mut who: Vec<String> = rule.who.iter().map(|who| who_text(&who.value)).collect();
    who.sort_unstable();
    let mut name = match rule.effect {
        Effect::Allow => "allow".to_owned(),
        Effect::Deny => "deny".to_owned(),
    };
    for (index, text) in who.iter().enumerate() {
        if name.len() + text.len() > RULE_NAME_BYTES_MAX {
            name = format!("{name} and {} more", who.len() - index);
            break;
        }
        name.push(' ');
        name.push_str(text);
    }
    name
}

fn who_text(who: &Who) -> String {
    match who {
        Who::Service(name) => name.clone(),
        Who::Identity(id) => format!("\"{}\"", id.as_str()),
        Who::Prefix { text, .. } => format!("\"{text}**\""),
        Who::Any => "any".to_owned(),
        Who::Unauthenticated => "unauthenticated".to_owned(),
        Who::Team(name) => format!("team={name}"),
    }
}

fn hosts(service: &model::Service) -> Vec<String> {
    if service.hosts.is_empty() {
        // A gateway answers to whatever its clients ask for.
        return vec![match service.kind {
            model::Kind::Gateway(_) => "**".to_owned(),
            model::Kind::Service | model::Kind::External(_) => service.name.value.clone(),
        }];
    }
    let mut hosts: Vec<String> = service
        .hosts
        .iter()
        .map(|host| host.value.clone())
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn retry_budget(layers: &Layers<'_>) -> Effective<Option<RetryBudget>> {
    let mut budget = Effective::built_in(None);
    for (level, settings) in layers.iter() {
        if let Some(Spanned { value, span }) = &settings.retry_budget {
            let value = match value {
                Setting::Removed => None,
                Setting::Value(budget) => Some(budget.clone()),
            };
            budget = Effective {
                value,
                source: level(*span),
            };
        }
    }
    budget
}
