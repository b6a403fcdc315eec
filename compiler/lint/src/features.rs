//! What slices need and no proxy of this release has.

use std::collections::BTreeMap;

use mesh_bundle::feature;
use mesh_bundle::spiffe::SpiffeId;
use mesh_compiler::{CheckedMesh, LinkedMesh, code};
use mesh_syntax::Diagnostic;

use crate::rules::words::list;

mod place;

/// Workloads that are named for one feature.
const NAMED_MAX: usize = 3;

/// A warning about each feature that a mesh needs and no proxy of this release carries out, at the word that needs it.
/// Which release runs in the fleet is not written in git, so it is no error.
pub fn not_carried(checked: &CheckedMesh) -> Vec<Diagnostic> {
    let features = checked.required_features();
    let mut findings = warnings(checked.mesh(), features, feature::SUPPORTED);
    findings.extend(rollout(checked.mesh()));
    findings
}

/// Steps are a matter of distributors, which refuse nothing for want of them.
fn rollout(mesh: &LinkedMesh) -> Option<Diagnostic> {
    let rollout = mesh.rollout.as_ref()?;
    Some(
        Diagnostic::note(
            code::FEATURE_NOT_CARRIED,
            rollout.span,
            "no distributor of this release carries out `rollout`: each generation goes to every proxy at once",
        )
        .at("has no effect yet")
        .help("do not count on it; split what is risky over several commits"),
    )
}

fn warnings<'s>(
    mesh: &LinkedMesh,
    slices: impl Iterator<Item = (&'s SpiffeId, &'s [String])>,
    supported: &[&str],
) -> Vec<Diagnostic> {
    let mut lacking: BTreeMap<&str, Vec<&SpiffeId>> = BTreeMap::new();
    for (identity, features) in slices {
        for feature in features {
            if !supported.contains(&feature.as_str()) {
                lacking.entry(feature).or_default().push(identity);
            }
        }
    }
    let lacking = lacking.into_iter();
    lacking
        .map(|(feature, slices)| warning(mesh, feature, &slices))
        .collect()
}

fn warning(mesh: &LinkedMesh, feature: &str, slices: &[&SpiffeId]) -> Diagnostic {
    let owner = |identity: &&SpiffeId| {
        let mut services = mesh.services.iter();
        let owner = services.find(|service| service.identities.contains(identity));
        owner.map(|owner| owner.name.value.clone())
    };
    let named: Vec<String> = slices.iter().filter_map(owner).take(NAMED_MAX).collect();
    let more = match slices.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let proxies = if slices.len() == 1 {
        "proxy"
    } else {
        "proxies"
    };
    let named = match (named.is_empty(), more.is_empty()) {
        (true, _) => format!("{} workloads", slices.len()),
        (false, true) => list(named.iter().map(String::as_str)),
        (false, false) => format!("`{}`{more}", named.join("`, `")),
    };
    let span = place::of(mesh, feature);
    Diagnostic::warning(
        code::FEATURE_NOT_CARRIED,
        span.unwrap_or(mesh.name.span),
        format!("no proxy of this release carries out `{feature}`, which the {proxies} of {named} would need"),
    )
    .at("needs it")
    .help(
        "such a proxy refuses this generation and all after it with `unknown_feature`, and goes on with the last good \
         one: leave the word out until a release has it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tester::{draw, load, sources};

    #[test]
    fn what_no_proxy_has_is_named_with_who_needs_it() {
        let policy = r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service b { port 80; endpoints { static "10.0.0.3:80" }; calls a }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow web b; retry "5xx" attempts=2; retry-budget "20%" }"#;
        let sources = sources(policy);
        let checked = mesh_compiler::check(load(&sources), &[]).unwrap();
        let supported = [feature::PROTOCOL_HTTP, feature::ENDPOINTS_STATIC];
        let found = warnings(checked.mesh(), checked.required_features(), &supported);
        insta::assert_snapshot!(draw(&sources, &found));
        let known = warnings(checked.mesh(), checked.required_features(), feature::KNOWN);
        assert_eq!(known, []);
    }

    #[test]
    fn steps_that_nobody_takes_are_said() {
        let sources = sources(
            r#"mesh m { trust-domain "m.example"; rollout "10%" "100%" hold="2m" }
            service a { port 80; endpoints { static "10.0.0.2:80" } }"#,
        );
        let checked = mesh_compiler::check(load(&sources), &[]).unwrap();
        insta::assert_snapshot!(draw(&sources, &not_carried(&checked)));
    }

    #[test]
    fn every_feature_that_a_proxy_may_lack_has_a_word() {
        let sources = sources(concat!(
            include_str!("../../core/tests/every_word/mesh.kdl"),
            "\n// file: services.kdl\n",
            include_str!("../../core/tests/every_word/services.kdl"),
            "\n// file: keys/people.jwks.json\n",
            include_str!("../../core/tests/every_word/keys/people.jwks.json"),
        ));
        let checked = mesh_compiler::check(load(&sources), &[]).unwrap();
        let mut needed: Vec<&String> = checked
            .required_features()
            .flat_map(|(_, features)| features)
            .collect();
        needed.sort_unstable();
        needed.dedup();
        assert!(needed.len() > 40, "{needed:?}");
        let lacking = |feature: &&String| !feature::SUPPORTED.contains(&feature.as_str());
        for feature in needed.into_iter().filter(lacking) {
            assert!(place::of(checked.mesh(), feature).is_some(), "{feature}");
        }
    }
}
