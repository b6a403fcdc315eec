//! Any sequence of edits, checked step by step, against a check from nothing after each of them.

use mesh_compiler::Input;
use mesh_syntax::SourceSet;
use proptest::prelude::*;

use super::{Checked, Checker, Subject};
use crate::tester::today;

/// A file, and what may stand in it; the first is where it begins, and an empty text is no file. What one says is what
/// others' findings and slices depend on: names, callers, identities, routes that lead elsewhere, defaults.
const FILES: &[(&str, &[&str])] = &[
    (
        "a.kdl",
        &[
            "service a {\n port 80\n endpoints { static \"10.0.0.2:80\" }\n route x { match { path \"/x/**\" }; to b-other }\n subset b-other { labels version=v1 }\n allow web\n calls b\n}",
            // Routes that tie, one that is never reached, one that leaves requests without a route.
            "service a { port 80; endpoints { static \"10.0.0.2:80\" }; allow web { method GET }; calls b { timeout \"1s\" }\n route x { match { path \"/x/**\" } }\n route y { match { path \"/x/**\" } }\n route z { match { path \"/z\"; method GET }; match { path \"/z\"; method GET; header h } } }",
            "// Only the places differ.\nservice a { port 80; endpoints { static \"10.0.0.2:80\" }; allow web }",
            // Leads to another service, and mirrors to a third.
            "service a { port 80; endpoints { static \"10.0.0.2:80\" }; allow web c; calls b\n route all { to service=b; mirror service=c share=\"10%\" } }",
            "service a { port 80; endpoints { static \"10.0.0.2:80\" }; identity \"spiffe://example.test/service/b\"; allow web }",
            "service a { port 80; endpoints { static \"10.0.0.2:80\" }; allow any; deny web; deny c { path \"/secret\" } }",
            "service a { port 80; endpoints { static \"10.0.0.2:80\" }; host \"a.example\"; callers-may-extend attempts; allow web; retry \"5xx\" reset attempts=4; retry-budget none; mtls permissive }",
            // Its routes read of another service who it is, and which parts it has.
            "service a { port 80; endpoints { static \"10.0.0.2:80\" }; allow web; calls b\n route x { match { from c; path \"/x/**\" }; to service=b subset=canary }\n route y { timeout \"1s\"; mirror service=c share=\"10%\" } }",
            "service a { port 80; endpoints { static \"10.0.0.2:80\"; wrong }; allow web }",
            "service a { port 80; endpoints { static \"10.0.0.2:80\" }; allow web",
            "",
        ],
    ),
    (
        "b.kdl",
        &[
            "service b { port 80; endpoints { static \"10.0.0.3:80\" }; allow a; calls c }",
            "service b { port 80 81; endpoints { static \"10.0.0.3:80\" }; allow a; calls c { retry \"5xx\" attempts=3 }; retry \"5xx\" attempts=3 }",
            "service b { port 80; endpoints { static \"10.0.0.3:80\" }; calls c route=all; allow a { path \"/x/**\" }; facts replicas=2 capacity=\"10/s\" load=\"9/s\" handling=\"5ms\" }",
            "service b { port 80; endpoints { static \"10.0.0.3:80\" version=v1 }; subset canary { labels version=v1 }; allow a; calls c }",
            "service b { port 80; endpoints { static \"10.0.0.3:80\" version=v2 }; subset beta { labels version=v2 }; subset canary { labels version=v2 }; allow a; calls c }",
            "service b { port 80; endpoints { static \"10.0.0.3:80\" }; allow web a c; use strong }",
            "service b { port 80; endpoints { kubernetes namespace=b }; identity \"spiffe://example.test/service/other\"; allow a; calls stripe }",
            "service b { port 80 protocol=tcp; endpoints { static \"10.0.0.3:80\" }; allow a }",
        ],
    ),
    (
        "c.kdl",
        &[
            "service c { port 80; endpoints { static \"10.0.0.4:80\" }; allow b; calls a }",
            "service c { port 80; endpoints { static \"10.0.0.4:80\" }; identity \"spiffe://example.test/service/cc\"; allow b; calls a }",
            "service c { port 80; endpoints { static \"10.0.0.4:80\" }; allow b a; timeout \"100ms\"\n route all { timeout \"2s\"; match { path \"/**\" } } }",
            "service c { port 80; endpoints { static \"10.0.0.4:80\" }\n allow any { header h }\n outlier consecutive-5xx=1 max-ejected=\"100%\" }\nservice d { port 80; endpoints { static \"10.0.0.5:80\" }; calls c; allow any }",
            "",
        ],
    ),
    (
        "environments/staging/changes.kdl",
        &[
            "",
            "override service a { timeout \"9s\" }",
            "override service a { allow b }\nsuppress MSH0405 at=a reason=\"none\" owner=one until=\"2027-01-01\"",
            "override mesh example { trust-domain \"staging.test\" }",
            "remove service c",
        ],
    ),
    (
        "external.kdl",
        &[
            "",
            "external stripe { host \"stripe.example\"; port 80; endpoints { dns \"stripe.example:80\" }; allow b }",
            "external stripe { host \"stripe.example\"; port 80; endpoints { dns \"stripe.example:80\" }; via public; allow b web }",
        ],
    ),
    (
        "gateway.kdl",
        &[
            "",
            "gateway public { listen 8080 { host \"shop.example\" }; allow unauthenticated\n route shop { to web; timeout \"5s\"; retry \"5xx\" attempts=2 } }",
            "gateway public { listen 8080; listen 8081; allow unauthenticated\n route x { match { path \"/x/**\" }; to a; rewrite path=\"/y/**\" }\n route all { to web; mirror a } }",
        ],
    ),
    (
        "inventory.kdl",
        &[
            "",
            "inventory \"2026-01-01\" { service a { instances 2 version=v2 }; observed a to=c rate=\"1/s\" }",
        ],
    ),
    (
        "mesh.kdl",
        &[
            "mesh example { trust-domain \"example.test\"; environment staging; team one { owns \"a.kdl\" } }\npolicy strong { outlier consecutive-5xx=5; retry reset attempts=2 }\n",
            "mesh example { trust-domain \"example.test\"; environment staging; team one { owns \"**\" }; refuse amplification=3; defaults { timeout \"2s\"; retry \"5xx\" attempts=3; use strong } }\npolicy strong { outlier consecutive-5xx=5; deny { path \"/admin\" } }\n",
            "mesh example { trust-domain \"other.test\"; environment staging; mtls permissive; team one }\npolicy strong { balance least-request }\ninvariant \"only b calls c\" { reaches c { only b } }\n",
        ],
    ),
    (
        "suppress.kdl",
        &[
            "",
            "suppress MSH0201 at=a reason=\"it is\" owner=one until=\"2027-01-01\"",
            "suppress MSH0405 at=a reason=\"it is\" owner=one until=\"2025-01-01\"",
        ],
    ),
    (
        "tests.test.kdl",
        &[
            "",
            "test \"t\" { request GET \"/x/1\" from=web to=a; expect allowed }",
        ],
    ),
    (
        "web.kdl",
        &[
            "service web { port 80; endpoints { static \"10.0.0.1:80\" }; calls a; allow any }",
            "service web { port 80; endpoints { static \"10.0.0.1:80\" }; calls a per-request=3 { retry \"5xx\" attempts=3; timeout \"1s\" }; calls b }",
            "service web { port 80; endpoints { static \"10.0.0.1:80\" }; calls a { retry \"5xx\" attempts=9 }; allow public }",
            "service b1 { port 80; endpoints { static \"10.0.0.9:80\" }; calls b }\nservice web { port 80; endpoints { static \"10.0.0.1:80\" }; identity \"spiffe://example.test/service/w1\" \"spiffe://example.test/service/w2\"; calls a }",
            "service web2 { port 80; endpoints { static \"10.0.0.1:80\" }; calls a }",
        ],
    ),
];

/// Another text of one file.
type Step = (usize, usize);

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..FILES.len())
        .prop_flat_map(|file| (Just(file), 0..FILES[file].1.len()))
        .boxed();
    prop::collection::vec(step, 1..12)
}

fn check(checker: &mut Checker, sources: &SourceSet, environment: &str) -> Checked {
    let input = Input {
        sources,
        environment,
        root_path: "",
    };
    let subject = Subject {
        input,
        base: None,
        today: today(),
    };
    checker.check(subject, &mut ())
}

/// All that anybody sees of a check.
fn shown(checked: &Checked) -> (String, Option<mesh_compiler::Emitted>) {
    let Checked {
        files,
        environments,
        findings,
        suppressed,
        skipped,
        checked,
        understood,
    } = checked;
    let text = format!(
        "{files} {environments:?} {} {}\n{findings:#?}\n{suppressed:#?}\n{skipped:#?}",
        checked.is_some(),
        understood.is_some()
    );
    (text, checked.as_deref().map(mesh_compiler::emit))
}

fn compare(steps: &[Step]) {
    let mut sources = SourceSet::new();
    for (path, texts) in FILES.iter().filter(|(_, texts)| !texts[0].is_empty()) {
        sources.set(path, texts[0].as_bytes().to_vec());
    }
    let mut checker = Checker::new();
    for step in std::iter::once(None).chain(steps.iter().map(Some)) {
        if let Some((file, text)) = step {
            let (path, texts) = FILES[*file];
            match texts[*text] {
                "" => drop(sources.remove(path)),
                text => drop(sources.set(path, text.as_bytes().to_vec())),
            }
        }
        for environment in ["default", "staging"] {
            let again = shown(&check(&mut checker, &sources, environment));
            let afresh = shown(&check(&mut Checker::once(), &sources, environment));
            assert_eq!(
                again.0, afresh.0,
                "{environment}, after {step:?} of {steps:?}"
            );
            assert_eq!(
                again.1, afresh.1,
                "{environment}, after {step:?} of {steps:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn edits_end_where_a_check_from_nothing_does(steps in any_steps()) {
        compare(&steps);
    }
}

/// What a service takes over of its earlier state may read of the others only what was compared.
#[test]
fn routes_follow_what_they_read_of_others() {
    let place = |name: &str| FILES.iter().position(|(path, _)| *path == name).unwrap();
    let text = |file: usize, with: &str| {
        let found = FILES[file].1.iter().position(|text| text.contains(with));
        (file, found.unwrap())
    };
    let (a, b, c, mesh) = (
        place("a.kdl"),
        place("b.kdl"),
        place("c.kdl"),
        place("mesh.kdl"),
    );
    compare(&[
        text(b, "subset canary"),
        text(a, "subset=canary"),
        text(c, "service/cc"),
        text(b, "subset beta"),
        (c, 0),
        text(mesh, "refuse amplification"),
        text(mesh, "other.test"),
        (mesh, 0),
        text(b, "81"),
        text(b, "subset canary"),
        text(c, "service d"),
        text(c, "service/cc"),
    ]);
}

#[test]
fn most_texts_are_policies_without_mistakes() {
    let mut clean = 0;
    let mut all = 0;
    for (file, (_, texts)) in FILES.iter().enumerate() {
        for text in 0..texts.len() {
            let mut sources = SourceSet::new();
            for (other, (path, texts)) in FILES.iter().enumerate() {
                let text = texts[if other == file { text } else { 0 }];
                if !text.is_empty() {
                    sources.set(path, text.as_bytes().to_vec());
                }
            }
            let checked = check(&mut Checker::once(), &sources, "staging");
            clean += usize::from(checked.mesh().is_some());
            all += 1;
        }
    }
    assert!(clean * 3 >= all * 2, "{clean} of {all}");
}
