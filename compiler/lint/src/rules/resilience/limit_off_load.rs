//! `resilience/limit-off-load`

use mesh_compiler::LinkedMesh;
use mesh_compiler::linked::{RateLimit, Service};
use mesh_syntax::Level;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::number;

declare_rule! {
    /// ## What it flags
    /// A `rate-limit` that admits less than the service's declared load (`facts load=`): a warning. And one that admits
    /// more than its declared capacity (`facts capacity=`), so that it never protects it: a note. Without `via` each
    /// instance counts for itself, so `facts replicas=` is needed, and all of them together count. Only limits of the whole
    /// service, without keys and conditions, are compared; at a gateway those of a route that leads to one service.
    ///
    /// ## Why it matters
    /// The first refuses requests on an ordinary day. The second is a fence around a field that is smaller.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; rate-limit "100/s"; facts replicas=2 load="300/s" }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; rate-limit "200/s"; facts replicas=2 load="300/s" }
    /// ```
    pub(crate) static LIMIT_OFF_LOAD = {
        code: "MSH0605", name: "resilience/limit-off-load", summary: "a rate limit below the load or above the capacity",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    for holder in &mesh.services {
        for limit in &holder.rate_limits {
            let Some(Admits { each, all, service }) = admits(mesh, holder, limit) else {
                continue;
            };
            let name = &service.name.value;
            let facts = &service.facts;
            // What comes to a service through one gateway is a part of its load.
            let load = facts
                .load
                .filter(|load| holder.id == service.id && all.is_some_and(|all| all < load.value));
            if let Some((load, all)) = load.zip(all) {
                cx.report(
                    LIMIT_OFF_LOAD
                        .at(
                            limit.rate.span,
                            format!(
                                "`{name}` gets {} requests a second on an ordinary day, and {} are admitted",
                                number(load.value),
                                number(all),
                            ),
                        )
                        .at("refuses the rest")
                        .label(load.span, "its load")
                        .about(name)
                        .help("raise the limit above the load, or correct `facts load=`")
                        .number("load", load.value)
                        .number("admitted", all),
                );
            }
            let capacity = facts.capacity.filter(|capacity| each > capacity.value);
            if let Some(capacity) = capacity {
                let mut finding = LIMIT_OFF_LOAD
                    .at(
                        limit.rate.span,
                        format!(
                            "`{name}` can take {} requests a second, and {} are admitted",
                            number(capacity.value),
                            number(all.unwrap_or(each)),
                        ),
                    )
                    .at("protects nothing")
                    .label(capacity.span, "its capacity")
                    .about(name)
                    .help("lower the limit below the capacity, or correct `facts capacity=`")
                    .number("capacity", capacity.value)
                    .number("admitted", all.unwrap_or(each));
                finding.level = Level::Note;
                cx.report(finding);
            }
        }
    }
}

/// What a limit comes to, in requests a second.
struct Admits<'m> {
    /// At one proxy, or at the service that counts for all.
    each: f64,
    /// At all proxies together; none: nobody says how many there are.
    all: Option<f64>,
    /// The service that gets them.
    service: &'m Service,
}

fn admits<'m>(mesh: &'m LinkedMesh, holder: &'m Service, limit: &RateLimit) -> Option<Admits<'m>> {
    if !(limit.keys.is_empty() && limit.conditions.is_empty()) {
        return None;
    }
    let service = match limit.route {
        None => holder,
        Some(route) => {
            let mut services = holder
                .routes
                .get(route)?
                .destinations
                .iter()
                .map(|to| to.target.service);
            let first = services.next()?;
            services
                .all(|other| other == first)
                .then(|| mesh.service(first))?
        }
    };
    let (count, time) = limit.rate.value;
    let each = u32::try_from(count).map_or(f64::INFINITY, f64::from) / time.as_secs_f64();
    let proxies = match &limit.via {
        Some(_) => Some(1),
        None => holder.facts.replicas.map(|replicas| replicas.value),
    };
    Some(Admits {
        each,
        all: proxies.map(|proxies| each * f64::from(proxies)),
        service,
    })
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    const COUNTER: &str =
        r#"service counter { port 80; endpoints { static "10.0.0.3:80" }; allow a }"#;

    fn with(rest: &str) -> String {
        format!(
            r#"{COUNTER}
            gateway public {{ listen 8080; allow unauthenticated; route all {{ to a; rate-limit "5000/s" }} }}
            service a {{ port 80; endpoints {{ static "10.0.0.1:80" }}; allow public; {rest} }}"#
        )
    }

    #[test]
    fn below_the_load_and_above_the_capacity_are_both_found() {
        insta::assert_snapshot!(findings(
            "MSH0605",
            &with(
                "rate-limit \"100/s\" via=counter; facts replicas=4 load=\"300/s\" capacity=\"1000/s\""
            )
        ));
    }

    #[test]
    fn what_fits_and_what_nobody_declares_is_fine() {
        for rest in [
            "rate-limit \"100/s\"; facts replicas=4 load=\"300/s\" capacity=\"6000/s\"",
            "rate-limit \"100/s\"; facts load=\"300/s\"",
            "rate-limit \"100/s\" { per caller }; facts replicas=1 load=\"300/s\"",
            "rate-limit \"100/s\" { method POST }; facts replicas=1 load=\"300/s\"",
        ] {
            none("MSH0605", &with(rest));
        }
    }
}
