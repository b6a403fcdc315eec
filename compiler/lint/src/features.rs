//! What slices need and no proxy of this release has.

use std::collections::BTreeMap;

use mesh_bundle::feature;
use mesh_bundle::spiffe::SpiffeId;
use mesh_compiler::{CheckedMesh, LinkedMesh, code};
use mesh_syntax::Diagnostic;

use crate::rules::words::list;

/// Workloads that are named for one feature.
const NAMED_MAX: usize = 3;

/// A note about the features of a mesh that no proxy of this release carries out; nothing if there are none.
pub fn not_carried(checked: &CheckedMesh) -> Option<Diagnostic> {
    note(
        checked.mesh(),
        checked.required_features(),
        feature::SUPPORTED,
    )
}

fn note<'s>(
    mesh: &LinkedMesh,
    slices: impl Iterator<Item = (&'s SpiffeId, &'s [String])>,
    supported: &[&str],
) -> Option<Diagnostic> {
    let mut lacking: BTreeMap<&str, Vec<&SpiffeId>> = BTreeMap::new();
    for (identity, features) in slices {
        for feature in features {
            if !supported.contains(&feature.as_str()) {
                lacking.entry(feature).or_default().push(identity);
            }
        }
    }
    let owner = |identity: &SpiffeId| {
        let owns =
            |service: &&mesh_compiler::linked::Service| service.identities.contains(identity);
        mesh.services.iter().find(owns)
    };
    if lacking.is_empty() {
        return None;
    }
    let features = list(lacking.keys().copied());
    let mut finding = Diagnostic::note(
        code::FEATURE_NOT_CARRIED,
        mesh.name.span,
        format!("no proxy of this release carries out {features}"),
    )
    .at("needs them all the same")
    .help("proxies refuse the generation with `unknown_feature` and go on with the last good one; leave the words out until a release has them");
    for (feature, slices) in &lacking {
        let Some(service) = slices.iter().find_map(|identity| owner(identity)) else {
            continue;
        };
        let others = match slices.len() - 1 {
            0 => String::new(),
            1 => ", as does one more".to_owned(),
            more => format!(", as do {more} more"),
        };
        finding = finding.label(service.name.span, format!("needs `{feature}`{others}"));
        if finding.labels.len() >= NAMED_MAX {
            break;
        }
    }
    Some(finding)
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
        let found = note(checked.mesh(), checked.required_features(), &supported).unwrap();
        insta::assert_snapshot!(draw(&sources, &[found]));
        assert_eq!(
            note(checked.mesh(), checked.required_features(), feature::KNOWN),
            None
        );
    }
}
