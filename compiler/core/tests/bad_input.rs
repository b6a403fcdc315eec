//! Policies that strangers write to hurt: each costs one finding at its place, and no more time than its size.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

use mesh_compiler::limits;
use mesh_compiler::test_util::{MESH, load, sources};
use mesh_syntax::{Level, SourceSet, limits as syntax_limits};

/// The one error of a policy: its code and the text that it points at, as far as 40 bytes.
#[track_caller]
fn check(policy: &str, code: &str, at: &str) {
    let sources = sources(&[("a.kdl", policy), ("mesh.kdl", MESH)]);
    let errors: Vec<_> = load(&sources)
        .diagnostics
        .into_iter()
        .filter(|finding| finding.level == Level::Error)
        .collect();
    let found: Vec<(&str, &str)> = errors
        .iter()
        .map(|error| {
            let text = sources.slice(error.span).unwrap_or_default();
            let end = text.floor_char_boundary(40);
            (error.code, text.get(..end).unwrap())
        })
        .collect();
    assert_eq!(found, [(code, at)], "{errors:#?}");
}

/// A service with a line in it.
fn service(line: &str) -> String {
    format!(
        "service a {{\n    port 80\n    endpoints {{ static \"10.0.0.1:80\" }}\n    {line}\n}}\n"
    )
}

#[test]
fn a_policy_uses_no_policy() {
    check(
        "policy p { use q }\npolicy q { timeout \"1s\" }\n",
        "MSH0002",
        "use",
    );
}

#[test]
fn a_regex_of_a_megabyte_is_too_long() {
    let regex = "(a+)+".repeat(200_000);
    check(
        &service(&format!("route r {{ match {{ path regex=\"{regex}\" }} }}")),
        "MSH0006",
        "\"(a+)+(a+)+(a+)+(a+)+(a+)+(a+)+(a+)+(a+)",
    );
}

#[test]
fn a_regex_of_ten_megabytes_is_a_file_too_large() {
    let regex = "(a+)+".repeat(2_000_000);
    check(
        &service(&format!("route r {{ match {{ path regex=\"{regex}\" }} }}")),
        "MSH0010",
        "",
    );
}

#[test]
fn a_path_of_a_hundred_thousand_segments_is_too_long() {
    let path = "/a".repeat(100_000);
    check(
        &service(&format!("route r {{ match {{ path \"{path}\" }} }}")),
        "MSH0006",
        "\"/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/",
    );
}

#[test]
fn a_weight_has_a_bound_that_no_number_gets_around() {
    for weight in ["18446744073709551616", "-1", "1000001"] {
        let routes = format!("subset v1 {{ labels v=\"1\" }}; route r {{ to v1 weight={weight} }}");
        check(&service(&routes), "MSH0006", weight);
    }
    check(
        &service(
            "subset v1 { labels v=\"1\" }; route r { to v1 weight=999999999999999999999999999999999999999 }",
        ),
        "MSH0001",
        "999999999999999999999999999999999999999",
    );
}

#[test]
fn names_hold_nothing_that_reorders_them() {
    check(
        "service \"a\u{202e}b\" { port 80 }\n",
        "MSH0001",
        "\u{202e}",
    );
    // An escape gets past the parser, but not past what a name is.
    let sources = sources(&[
        ("a.kdl", "service \"a\\u{202e}b\" { port 80 }\n"),
        ("mesh.kdl", MESH),
    ]);
    let found = load(&sources).diagnostics;
    assert!(
        found
            .iter()
            .any(|found| sources.slice(found.span) == Some("\"a\\u{202e}b\"")),
        "{found:#?}"
    );
}

#[test]
fn a_file_in_another_encoding_is_one_finding() {
    for bytes in [
        "service a { port 80 }\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<u8>>(),
        [0xFE, 0xFF]
            .into_iter()
            .chain(
                "service a { port 80 }\n"
                    .encode_utf16()
                    .flat_map(u16::to_be_bytes),
            )
            .collect(),
    ] {
        let mut sources = SourceSet::new();
        sources.add("a.kdl", bytes);
        sources.add("mesh.kdl", MESH.as_bytes().to_vec());
        let found = load(&sources).diagnostics;
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].message.contains("UTF-16"), "{found:#?}");
    }
}

#[test]
fn lone_carriage_returns_end_lines() {
    let text = service("timeout \"1s\"").replace('\n', "\r");
    let sources = sources(&[("a.kdl", &text), ("mesh.kdl", MESH)]);
    let analysed = load(&sources);
    assert!(
        analysed.diagnostics.is_empty(),
        "{:#?}",
        analysed.diagnostics
    );
    assert_eq!(analysed.mesh.unwrap().services.len(), 1);
}

#[test]
fn thousands_of_mistakes_stay_a_bounded_list_that_says_so() {
    // Of syntax, of words, of references: in one file, and in many.
    let many = |line: &dyn Fn(usize) -> String| (0..5_000).map(line).collect::<String>();
    let texts = [
        (
            many(&|n| format!("a{n} 10s\n")),
            syntax_limits::FINDINGS_MAX + 2,
        ),
        (many(&|n| format!("banana{n}\n")), limits::FINDINGS_MAX),
        (
            many(&|n| {
                format!(
                    "service a{n} {{ port 80; endpoints {{ static \"10.0.0.1:80\" }}; calls nobody{n} }}\n"
                )
            }),
            limits::FINDINGS_MAX,
        ),
    ];
    for (text, most) in texts {
        let sources = sources(&[("a.kdl", &text), ("mesh.kdl", MESH)]);
        let analysed = load(&sources);
        let found = &analysed.diagnostics;
        assert!(found.len() <= most, "{} findings", found.len());
        assert!(analysed.mesh.is_none());
        assert!(
            found.iter().any(|found| found.code == "MSH0010"),
            "{:#?}",
            found.last()
        );
    }
}
