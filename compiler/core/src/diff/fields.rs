//! Where two slices differ, as paths of fields: what a comparison says that has no other name for a change.
//!
//! Every field is listed, and one that is forgotten does not compile.

use mesh_bundle::slice::{Access, Callee, Gateway, InboundService, Slice};

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    /// The service, gateway, external, provider of tokens or authorizer that it is told of; none: the slice itself.
    pub name: Option<String>,
    /// From the slice on, as in `access.services.requirements`.
    pub path: String,
}

macro_rules! fields {
    ($type:ident, $was:expr, $is:expr, [$($field:ident),* $(,)?]) => {{
        let $type { $($field: _),* } = $was;
        let mut differ: Vec<&'static str> = Vec::new();
        $(if $was.$field != $is.$field {
            differ.push(stringify!($field));
        })*
        differ
    }};
}

/// The fields in which two slices differ, ascending.
pub fn of(before: &Slice, after: &Slice) -> Vec<Field> {
    // Sets are in the order of the format only once they were written.
    let canonical =
        |slice: &Slice| Slice::decode(&slice.encode()).unwrap_or_else(|_| slice.clone());
    let (was, is) = (canonical(before), canonical(after));
    let mut found = Vec::new();
    let differ = fields!(
        Slice,
        &was,
        &is,
        [
            required_features,
            identity,
            access,
            callees,
            gateways,
            telemetry,
        ]
    );
    for field in differ {
        match field {
            "access" => access(&was.access, &is.access, &mut found),
            "callees" => named(
                (&was.callees, &is.callees),
                "callees",
                |callee| &callee.service,
                callee,
                &mut found,
            ),
            "gateways" => named(
                (&was.gateways, &is.gateways),
                "gateways",
                |gateway| &gateway.name,
                gateway,
                &mut found,
            ),
            "telemetry" => named(
                (&was.telemetry, &is.telemetry),
                "telemetry",
                |telemetry| &telemetry.service,
                |_, _| Vec::new(),
                &mut found,
            ),
            other => found.push(Field {
                name: None,
                path: other.to_owned(),
            }),
        }
    }
    found.sort();
    found
}

fn access(was: &Access, is: &Access, found: &mut Vec<Field>) {
    let whole = |_: &_, _: &_| Vec::new();
    for field in fields!(Access, was, is, [services, externals, jwts, authorizers]) {
        match field {
            "services" => named(
                (&was.services, &is.services),
                "access.services",
                |service| &service.service,
                inbound,
                found,
            ),
            "externals" => named(
                (&was.externals, &is.externals),
                "access.externals",
                |external| &external.service,
                whole,
                found,
            ),
            "jwts" => named(
                (&was.jwts, &is.jwts),
                "access.jwts",
                |jwt| &jwt.name,
                |_, _| Vec::new(),
                found,
            ),
            _ => named(
                (&was.authorizers, &is.authorizers),
                "access.authorizers",
                |authorizer| &authorizer.name,
                |_, _| Vec::new(),
                found,
            ),
        }
    }
}

fn inbound(was: &InboundService, is: &InboundService) -> Vec<&'static str> {
    fields!(
        InboundService,
        was,
        is,
        [
            service,
            ports,
            rules,
            listeners,
            mtls,
            requirements,
            rate_limits,
            probes,
            path_accepts,
        ]
    )
}

fn callee(was: &Callee, is: &Callee) -> Vec<&'static str> {
    fields!(
        Callee,
        was,
        is,
        [
            service,
            hosts,
            ports,
            identities,
            subsets,
            endpoints,
            routes,
            retry_budget,
            balance,
            kind,
            addresses,
            dials,
            listeners,
            pool,
        ]
    )
}

fn gateway(was: &Gateway, is: &Gateway) -> Vec<&'static str> {
    fields!(Gateway, was, is, [name, routes])
}

/// Elements with a name: those of one side alone differ as a whole.
fn named<T: PartialEq>(
    (was, is): (&[T], &[T]),
    path: &str,
    name: impl Fn(&T) -> &String,
    fields: impl Fn(&T, &T) -> Vec<&'static str>,
    found: &mut Vec<Field>,
) {
    let mut add = |of: &T, path: String| {
        found.push(Field {
            name: Some(name(of).clone()),
            path,
        });
    };
    for one in is {
        match was.iter().find(|was| name(was) == name(one)) {
            None => add(one, path.to_owned()),
            Some(was) if was == one => {}
            Some(was) => {
                let differ = fields(was, one);
                if differ.is_empty() {
                    add(one, path.to_owned());
                }
                for field in differ {
                    add(one, format!("{path}.{field}"));
                }
            }
        }
    }
    for one in was {
        if is.iter().all(|is| name(is) != name(one)) {
            add(one, path.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::{AccessRule, Effect, Enforcement, Principal};
    use mesh_bundle::spiffe::SpiffeId;

    use super::*;

    #[test]
    fn a_field_that_differs_is_told_with_whose_it_is() {
        let identity = SpiffeId::parse("spiffe://m.example/service/a").unwrap();
        let mut before = Slice::new(identity);
        before.access.services.push(InboundService {
            service: "a".to_owned(),
            ..InboundService::default()
        });
        let mut after = before.clone();
        assert_eq!(of(&before, &after), []);
        after.access.services[0].rules.push(AccessRule {
            name: "allow any".to_owned(),
            effect: Effect::Allow,
            enforcement: Enforcement::Audit,
            who: vec![Principal::Any],
            conditions: Vec::new(),
        });
        after.callees.push(Callee {
            service: "b".to_owned(),
            ..Callee::default()
        });
        let found = of(&before, &after);
        let told: Vec<(Option<&str>, &str)> = found
            .iter()
            .map(|field| (field.name.as_deref(), field.path.as_str()))
            .collect();
        assert_eq!(
            told,
            [(Some("a"), "access.services.rules"), (Some("b"), "callees")]
        );
    }
}
