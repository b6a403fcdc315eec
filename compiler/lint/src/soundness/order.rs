//! The order of files and nodes decides nothing.

use std::collections::BTreeMap;

use mesh_syntax::{Diagnostic, SourceSet};
use proptest::prelude::*;

use super::any_policy;
use crate::tester::all_findings;

/// What a finding says, whatever its place.
fn said(findings: &[Diagnostic]) -> BTreeMap<(&'static str, String), usize> {
    let mut said = BTreeMap::new();
    for finding in findings {
        let text = format!(
            "{} {:?} {:?}",
            finding.message, finding.level, finding.witness
        );
        *said.entry((finding.code, text)).or_default() += 1;
    }
    said
}

fn in_files(texts: impl Iterator<Item = (String, String)>) -> SourceSet {
    let mut sources = SourceSet::new();
    sources.add(
        "mesh.kdl",
        b"mesh example { trust-domain \"example.test\" }\n".to_vec(),
    );
    for (path, text) in texts {
        sources.add(path, text.into_bytes());
    }
    sources
}

proptest! {
    #![proptest_config(super::cases(100))]

    #[test]
    fn another_order_of_files_and_nodes_says_the_same(policy in any_policy()) {
        let forward = policy.text();
        let mut turned = policy;
        turned.routes.reverse();
        turned.rules.reverse();
        let backward = turned.text();
        let at = backward.find("service a ").expect("it is there");
        let (others, a) = backward.split_at(at);
        let mut others: Vec<&str> = others.lines().collect();
        others.reverse();
        let one = in_files([("one.kdl".to_owned(), forward.clone())].into_iter());
        let files = others
            .iter()
            .enumerate()
            .map(|(number, text)| (format!("z{number}.kdl"), (*text).to_owned()))
            .chain([("a.kdl".to_owned(), a.to_owned())]);
        let many = in_files(files);
        let (first, second) = (all_findings(&one), all_findings(&many));
        prop_assert_eq!(said(&first), said(&second), "{}\n---\n{}", forward, backward);
    }
}
