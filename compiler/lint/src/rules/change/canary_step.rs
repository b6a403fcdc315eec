//! `routing/canary-step`

use mesh_compiler::diff::Change;
use mesh_compiler::diff::split::{self, Step, Version};
use mesh_compiler::linked::{Destination, LinkedMesh, Subset};
use mesh_compiler::model::Label;
use mesh_syntax::{Diagnostic, Level, Span};

use crate::facts::Facts;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// Requests of which a version of a service, which is what a subset picks, gets a share that grows by more
    /// than `refuse canary-step=` permits; or, in a split between services, one of these. What counts is
    /// where the requests go, not the numbers of one split: a new route that takes the requests of another, a subset or
    /// endpoint with other labels, and other weights move them alike. Where a branch takes all endpoints of a service,
    /// they are counted, in policy or in the inventory. Without that setting there is no limit. Requests that
    /// nobody may send do not count. Found with `meshc check --base REF`.
    ///
    /// Requests that a new route sets apart by a header, query parameter, cookie, claim or address are a note, for
    /// policy does not say how many they are: trying a version with testers first is a good step.
    ///
    /// ## Why it matters
    /// Traffic is moved in steps so that what is wrong with the new version hurts few, and so that
    /// what takes the traffic has time to scale.
    ///
    /// ## Examples
    /// ```kdl base
    /// mesh bookshop { trust-domain "bookshop.example"; refuse canary-step="20%" }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" version=v1; static "10.0.0.2:80" version=v2 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=95; to v2 weight=5 }
    /// }
    /// ```
    /// ```kdl bad
    /// mesh bookshop { trust-domain "bookshop.example"; refuse canary-step="20%" }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" version=v1; static "10.0.0.2:80" version=v2 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=50; to v2 weight=50 }
    /// }
    /// ```
    /// ```kdl good
    /// mesh bookshop { trust-domain "bookshop.example"; refuse canary-step="20%" }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" version=v1; static "10.0.0.2:80" version=v2 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=75; to v2 weight=25 }
    /// }
    /// ```
    pub(crate) static CANARY_STEP = {
        code: "MSH0311", name: "routing/canary-step",
        summary: "a change moves more traffic at once than is allowed",
        level: Error, since: "0.1.0", check: check,
    }
}

/// Shares are quotients of whole numbers; this is far less than any of them can differ by.
const ROUNDING: f64 = 1e-9;

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let Some(limit) = facts.mesh().refuse.canary_step else {
        return;
    };
    let most = f64::from(limit.value) / 10_000.0;
    let steps = split::steps(change.meshes());
    for (service, why) in steps.unknown {
        let name = &facts.mesh().service(service.head).name.value;
        cx.skip(
            &CANARY_STEP,
            format!("the routes of `{name}` are too large to compare: {why}"),
        );
    }
    let is_over = |step: &&Step| step.after - step.before > most + ROUNDING;
    let over: Vec<&Step> = steps.all.iter().filter(is_over).collect();
    for step in &over {
        let same = |other: &&Step| other.service == step.service && other.route == step.route;
        let is_said = step.is_apart && over.iter().any(|other| same(other) && !other.is_apart);
        if !is_said {
            cx.report_some(finding(facts, change.meshes(), step, (limit.span, most)));
        }
    }
}

fn finding(
    facts: &Facts<'_>,
    change: Change<'_>,
    step: &Step,
    (limit, most): (Span, f64),
) -> Option<Diagnostic> {
    let service = facts.mesh().service(step.service.head);
    let route = service.routes.get(step.route)?;
    let branch = route.destinations.get(step.branch)?;
    let before = change.base.service(step.service.base);
    let was = before.routes.get(step.was)?;
    let percent = |share: f64| format!("{}%", crate::rules::words::number(share * 100.0));
    let name = version(facts.mesh(), &step.version)
        .or_else(|| version(change.base, &step.version))
        .unwrap_or_else(|| format!("`{}`", step.version.service));
    let name = if step.is_by_address {
        format!("endpoints that were {name}")
    } else {
        name
    };
    let (of, from) = (&route.name.value, &was.name.value);
    let whose = if of == from {
        "its requests".to_owned()
    } else {
        format!("what it takes of `{from}`")
    };
    let relabelled = relabelled(facts.mesh(), change.base, branch);
    let span = relabelled.filter(|_| of == from);
    let moved = percent(step.after - step.before);
    let message = format!(
        "route `{of}` of `{}` moves {moved} of {whose} to {name} at once, and at most {} are allowed",
        service.name.value,
        percent(most),
    );
    let shares = format!(
        "{} before, {} now",
        percent(step.before),
        percent(step.after)
    );
    let mut finding = CANARY_STEP.at(span.unwrap_or(branch.span), message);
    if span.is_some() {
        finding = finding
            .at("other endpoints than before")
            .label(branch.span, shares);
    } else {
        finding = finding.at(shares);
    }
    let first = percent(step.before + most);
    finding = finding
        .label(limit, "the limit")
        .help(match (span, of == from) {
            (Some(_), _) => format!("move them by weights, to {first} first: give the other labels to a subset of its own"),
            (None, true) => format!("go to {first} first"),
            (None, false) => format!("split them here too, and go to {first} first"),
        })
        .number("before", step.before)
        .number("after", step.after)
        .number("limit", most)
        .witness(facts.witness(&step.witness, service.id));
    if step.is_apart {
        finding = finding
            .help("the requests are set apart by more than method, host, path and caller: see that they are few")
            .possible();
        finding.level = Level::Note;
    }
    Some(finding)
}

/// How people call a version: by the subset that picks it, else by what it carries.
fn version(mesh: &LinkedMesh, version: &Version) -> Option<String> {
    let name = &version.service;
    if version.labels.is_empty() {
        return Some(format!("`{name}`"));
    }
    let service = mesh.service(mesh.service_named(name)?);
    let labels = |subset: &Subset| -> Vec<_> {
        let labels = subset.labels.iter();
        labels.map(|label| label.value.clone()).collect()
    };
    let mut subsets = service.subsets.iter();
    let subset = subsets.find(|subset| labels(subset) == version.labels)?;
    let carried: Vec<String> = version
        .labels
        .iter()
        .map(|label| format!("{}={}", label.key, label.value))
        .collect();
    Some(format!("`{}` ({})", subset.name.value, carried.join(" ")))
}

/// Where the subset of a branch is, if it picked others before.
fn relabelled(mesh: &LinkedMesh, base: &LinkedMesh, branch: &Destination) -> Option<Span> {
    let service = mesh.service(branch.target.service);
    let subset = service.subsets.get(branch.target.subset?)?;
    let before = base.service(base.service_named(&service.name.value)?);
    let mut subsets = before.subsets.iter();
    let before = subsets.find(|before| before.name.value == subset.name.value)?;
    let picks = |labels: &[Label]| {
        labels
            .iter()
            .map(|label| label.value.clone())
            .collect::<Vec<_>>()
    };
    (picks(&before.labels) != picks(&subset.labels)).then_some(subset.span)
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    fn with(limit: &str, one: u32, two: u32) -> String {
        format!(
            r#"mesh m {{ trust-domain "m.example"; {limit} }}
            service a {{
                port 80
                endpoints {{ static "10.0.0.1:80" version=v1; static "10.0.0.2:80" version=v2 }}
                subset v1 {{ labels version=v1 }}
                subset v2 {{ labels version=v2 }}
                route all {{ to v1 weight={one}; to v2 weight={two} }}
            }}"#
        )
    }

    const LIMIT: &str = r#"refuse canary-step="20%""#;

    #[test]
    fn a_step_above_the_limit_is_found() {
        insta::assert_snapshot!(changes(
            "MSH0311",
            &with(LIMIT, 90, 10),
            &with(LIMIT, 60, 40)
        ));
    }

    #[test]
    fn the_limit_itself_is_allowed_and_no_limit_allows_all() {
        assert_eq!(
            changes("MSH0311", &with(LIMIT, 90, 10), &with(LIMIT, 70, 30)),
            ""
        );
        assert_eq!(changes("MSH0311", &with("", 100, 0), &with("", 0, 100)), "");
    }

    #[test]
    fn what_a_version_gets_counts_and_not_the_number_of_a_split() {
        let (before, split) = (with(LIMIT, 95, 5), "route all {");
        let and = |route: &str| before.replace(split, &format!("{route}\n{split}"));
        insta::assert_snapshot!(changes(
            "MSH0311",
            &before,
            &and("route get { match { method GET }; to v2 }")
        ));
        insta::assert_snapshot!(changes(
            "MSH0311",
            &before,
            &before.replace(
                "subset v1 { labels version=v1 }",
                "subset v1 { labels version=v2 }"
            )
        ));
        insta::assert_snapshot!(changes(
            "MSH0311",
            &before,
            &and("route testers { match { header user \"tester\" }; to v2 }")
        ));
        let split_too = "route get { match { method GET }; to v1 weight=9; to v2 weight=1 }";
        assert_eq!(changes("MSH0311", &before, &and(split_too)), "");
    }

    #[test]
    fn all_of_the_traffic_moves_to_another_service_at_once() {
        let with = |to: &str| {
            format!(
                r#"mesh m {{ trust-domain "m.example"; {LIMIT} }}
                gateway g {{ listen 80; allow unauthenticated; route all {{ {to} }} }}
                service a {{ port 80; endpoints {{ static "10.0.0.1:80" }}; allow g }}
                service b {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow g }}"#
            )
        };
        insta::assert_snapshot!(changes("MSH0311", &with("to a"), &with("to b")));
        assert_ne!(
            changes(
                "MSH0311",
                &with("to a"),
                &with("to a weight=1; to b weight=99")
            ),
            ""
        );
    }

    #[test]
    fn requests_that_nobody_may_send_move_nothing() {
        let open =
            with(LIMIT, 90, 10).replace("route all", "allow any { path \"/a/**\" }\nroute all");
        let and = |path: &str| {
            let route = format!("route z {{ match {{ path \"{path}\" }}; to v2 }}\nroute all");
            changes("MSH0311", &open, &open.replace("route all", &route))
        };
        assert_eq!(and("/zzz/**"), "");
        assert_ne!(and("/a/z/**"), "");
    }

    #[test]
    fn a_machine_that_is_called_another_version_takes_its_requests_along() {
        let before = with(LIMIT, 95, 5);
        let swapped = before
            .replace("1:80\" version=v1", "1:80\" version=x")
            .replace("2:80\" version=v2", "2:80\" version=v1")
            .replace("version=x", "version=v2");
        insta::assert_snapshot!(changes("MSH0311", &before, &swapped));
    }
}
