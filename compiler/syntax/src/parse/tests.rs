//! What the reader of a broken file sees, and that no input hurts.

use std::fmt::Write as _;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::agreement::disagreement;
use super::lower;
use super::plain::plain;
use super::scan::scan;
use crate::{Diagnostic, Node, SourceSet, Tree, Value, limits, parse};

fn sources(text: &[u8]) -> SourceSet {
    let mut sources = SourceSet::new();
    sources.add("a.kdl", text.to_vec());
    sources
}

fn parse_one(text: &str) -> (Vec<Node>, Vec<Diagnostic>) {
    let (mut trees, diagnostics) = parse(&sources(text.as_bytes()));
    (trees.remove(0).nodes, diagnostics)
}

/// The findings of a text, then the tree that is left.
fn report(text: &str) -> String {
    let sources = sources(text.as_bytes());
    let (trees, diagnostics) = parse(&sources);
    let mut out = String::new();
    for found in &diagnostics {
        let (line, column) = sources.line_column(found.span);
        let slice = sources.slice(found.span).unwrap_or_default();
        writeln!(
            out,
            "{} {line}:{column} [{slice}] {}",
            found.code, found.message
        )
        .unwrap();
        for label in found
            .span_label
            .iter()
            .chain(found.labels.iter().map(|label| &label.message))
        {
            writeln!(out, "    - {label}").unwrap();
        }
        if let Some(help) = &found.help {
            writeln!(out, "    help: {help}").unwrap();
        }
        for fix in &found.fixes {
            let mut fixed = sources.text(found.span.file).unwrap().to_owned();
            for edit in fix.edits.iter().rev() {
                fixed.replace_range(edit.span.range(), &edit.text);
            }
            let line = fixed.lines().nth(line as usize - 1).unwrap_or_default();
            writeln!(
                out,
                "    {}: {}: {}",
                if fix.safe { "fix" } else { "maybe" },
                fix.title,
                line.trim()
            )
            .unwrap();
        }
    }
    for Tree { nodes, .. } in &trees {
        for node in nodes {
            print(node, 0, &mut out);
        }
    }
    out
}

fn reports(texts: &[&str]) -> String {
    let mut out = String::new();
    for text in texts {
        writeln!(
            out,
            "{text}---
{}",
            report(text)
        )
        .unwrap();
    }
    out
}

fn print(node: &Node, depth: usize, out: &mut String) {
    let value = |value: &Value| match value {
        Value::Word(word) => word.clone(),
        Value::Text(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    write!(out, "{}> {}", "  ".repeat(depth), node.name.text).unwrap();
    for arg in &node.args {
        write!(out, " {}", value(&arg.value)).unwrap();
    }
    for prop in &node.props {
        write!(out, " {}={}", prop.name.text, value(&prop.value)).unwrap();
    }
    out.push('\n');
    node.children
        .iter()
        .for_each(|child| print(child, depth + 1, out));
}

#[test]
fn a_good_file_has_no_findings_and_true_spans() {
    let text = "// é comment\nservice reviews {\n    port 9080 protocol=http // end\n    route a { match { header user \"t√\" }; to v2 }\n    /- gone { x /-{ y } }\n    static \"10.0.0.7:9080\" /- gone version = v1 zone=\"b\"\n}\n";
    let sources = sources(text.as_bytes());
    let (trees, diagnostics) = parse(&sources);
    assert_eq!(diagnostics, []);
    let service = &trees[0].nodes[0];
    let of = |span| sources.slice(span).unwrap();
    assert!(of(service.span).starts_with("service reviews {") && of(service.span).ends_with('}'));
    assert_eq!(of(service.name.span), "service");
    let port = &service.children[0];
    assert_eq!(of(port.span), "port 9080 protocol=http");
    assert_eq!(
        (of(port.args[0].span), of(port.props[0].span)),
        ("9080", "protocol=http")
    );
    assert_eq!(
        (of(port.props[0].name.span), of(port.props[0].value_span)),
        ("protocol", "http")
    );
    assert_eq!(
        of(service.children[1].children[0].children[0].args[1].span),
        "\"t√\""
    );
    let endpoints = &service.children[2];
    assert_eq!(
        (
            of(endpoints.props[0].span),
            of(endpoints.props[0].value_span)
        ),
        ("version = v1", "v1")
    );
    assert_eq!(of(endpoints.props[1].value_span), "\"b\"");
}

#[test]
fn strings_of_all_kinds_are_read() {
    let (nodes, diagnostics) = parse_one(
        "a \"x\\ty\" #\"\\d\"# ##\"a\"#b\"##\nb \"\"\"\n  one\n   two\n  \"\"\"\nc #\"\"\"\n  \\d\n  \"\"\"#\n",
    );
    assert_eq!(diagnostics, []);
    let texts: Vec<_> = nodes
        .iter()
        .flat_map(|node| &node.args)
        .filter_map(|arg| arg.value.as_str())
        .collect();
    assert_eq!(texts, ["x\ty", "\\d", "a\"#b", "one\n two", "\\d"]);
}

#[test]
fn what_kdl_reads_as_something_else() {
    assert_snapshot!(reports(&[
        "otlp http://x.y:4317/a?b=c // note\n",
        "method GET,POST, PUT\n",
        "method \"GET\", \"POST\",\"PUT\"\n",
        "header version 007\nlabels v=1.10\n",
        "timeout a=1 b=2 a=3\n",
        "path /reviews/**\nmethod GET\n",
    ]));
}

#[test]
fn what_kdl_refuses_without_saying_why() {
    assert_snapshot!(reports(&[
        "retry 5xx reset per-try=10s attempts=3\n",
        "retry-budget 20%\n",
        "path /a /b/{id} text/html\n",
        "client-ip 10.0.0.0/8\n",
        "path regex=[a-z]+(x)\n",
        "cors credentials=true\nheader x null\n",
        "path regex=\"\\d+\" x=\"a\\/b\"\n",
        "path regex=r\"\\d+\" y=r#\"a\"b\"#\n",
        "# a comment\nport 80 # another\n",
        "timeout = \"5s\"\nbalance=random\n",
        "a \"b\"\"c\" d\"e\"\n",
        "a (u8)1\n(x)b 2\n",
        "a b= c=1\n",
        "a \"open\nb \"\"\"x\"\"\"\nc\n",
        "only { a } only { b }\nx { only { a } only { b } }\n",
        "a \\b\nc \\ // fine\n  d\n",
        "{ a }\nb { c } { d }\n80 e\n",
        "a\0b \u{202E}c \"\u{7}\"\n",
    ]));
}

#[test]
fn unbalanced_braces_cost_one_message() {
    assert_snapshot!(reports(&[
        "a {\n    b {\n        c\n    d\n}\nservice e {\n    f\n}\n",
        "a {\n    b\n\nservice e {\n    f 5s\n}\nservice g {\n    h\n}\n",
        "a {\n    b\n}\n}\n}\nc\n",
        "a {\n    b { c\n",
        "a\n/* open\nb\n",
        "a {\n  /- b {\n",
    ]));
}

#[test]
fn bytes_that_are_no_text_are_one_finding() {
    let (trees, diagnostics) = parse(&sources(b"a \xff\xfe\nb \xc3c\n"));
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].message, "3 bytes from here on are not UTF-8");
    assert_eq!(trees[0].nodes.len(), 2);
}

/// What took exponential time would not come back.
fn quick(text: &[u8]) -> Vec<Diagnostic> {
    parse(&sources(text)).1
}

#[test]
fn hostile_files_get_one_clear_finding() {
    let message = |text: &[u8]| {
        let diagnostics = quick(text);
        assert_eq!(diagnostics.len(), 1, "{diagnostics:#?}");
        (diagnostics[0].code, diagnostics[0].message.clone())
    };
    let unclosed = ("MSH0001", "this block is never closed".to_owned());
    let deep = ("MSH0010", "blocks are nested more than 32 deep".to_owned());
    assert_eq!(message("a /-{".repeat(27).as_bytes()), unclosed);
    assert_eq!(message("/- a {;c;".repeat(40).as_bytes()), unclosed);
    assert_eq!(
        message(&[b"a {".repeat(100_000), b"}".repeat(100_000)].concat()),
        deep
    );
    assert_eq!(message(&b"a {\n".repeat(100_000)), deep);
    assert_eq!(
        message(&b"{".repeat(100_000)),
        ("MSH0001", "this block has no name".to_owned())
    );
    assert_eq!(
        message(&b"}".repeat(100_000)),
        ("MSH0001", "this `}` closes nothing".to_owned())
    );
    assert_eq!(
        message(&b"/*".repeat(100_000)),
        ("MSH0001", "this comment is never closed".to_owned())
    );
    assert_eq!(
        message(&vec![b'a'; limits::FILE_BYTES_MAX + 1]),
        (
            "MSH0010",
            "this file has 4194305 bytes; a policy file may have 4194304".to_owned()
        )
    );
    assert_eq!(
        quick(&[b"/*".repeat(100_000), b"*/".repeat(100_000)].concat()),
        []
    );
    assert_eq!(
        quick(&[b"a /-{".repeat(1000), b"}".repeat(1000)].concat()),
        []
    );
    assert_eq!(
        quick(&[b"/- a {;c;".repeat(1000), b"}".repeat(1000)].concat()),
        []
    );
    assert!(quick(&b"} a\n".repeat(100_000)).len() <= limits::FINDINGS_MAX + 2);
    assert!(quick(&b"a )) ((\n".repeat(100_000)).len() <= limits::FINDINGS_MAX + 2);
    assert!(quick(&b"a {\n b\nc {\n".repeat(10_000)).len() <= limits::FINDINGS_MAX + 2);
    quick(&b"a;".repeat(3_000));
    quick(&b"\"".repeat(100_000));
    quick(&b"#".repeat(100_000));
    quick(&b"a=".repeat(10_000));
    quick(&b"a \\\n".repeat(5_000));
    quick(&[b"a ".to_vec(), b"1 ".repeat(5_000)].concat());
}

#[test]
fn too_many_items_are_refused() {
    let diagnostics = quick(&b"a;".repeat(limits::ITEMS_MAX + 10));
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].code, "MSH0010");
}

#[test]
fn the_deepest_allowed_nest_parses() {
    let text = [
        b"a {".repeat(limits::NESTING_MAX),
        b"}".repeat(limits::NESTING_MAX),
    ]
    .concat();
    assert_eq!(quick(&text), []);
}

/// Text made of what the walk looks at.
fn kdl_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z]{1,3}",
        "[0-9.]{1,3}",
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("\n".to_owned()),
        Just(" ".to_owned()),
        Just(";".to_owned()),
        Just("\"".to_owned()),
        Just("#".to_owned()),
        Just("/-".to_owned()),
        Just("/*".to_owned()),
        Just("*/".to_owned()),
        Just("//".to_owned()),
        Just("\\".to_owned()),
        Just("=".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just("r\"".to_owned()),
        Just(",".to_owned()),
        Just("é\u{2028}".to_owned()),
        Just("\u{FEFF}".to_owned()),
        Just("a {\n    b\n".to_owned()),
        Just("\\n".to_owned()),
        Just("true".to_owned()),
        Just("#true".to_owned()),
        Just("[".to_owned()),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn spans_nest(sources: &SourceSet, node: &Node) {
    assert!(sources.slice(node.span).is_some());
    for child in &node.children {
        assert!(node.span.start <= child.span.start && child.span.end <= node.span.end);
        spans_nest(sources, child);
    }
}

fn holds_up(bytes: &[u8]) {
    let sources = sources(bytes);
    let (trees, diagnostics) = parse(&sources);
    for found in &diagnostics {
        assert!(
            sources.slice(found.span).is_some(),
            "a span inside a character: {found:?}"
        );
        for edit in found.fixes.iter().flat_map(|fix| &fix.edits) {
            assert!(
                sources.slice(edit.span).is_some(),
                "an edit inside a character: {found:?}"
            );
        }
        assert_ne!(
            found.message, "this can't be read",
            "the parser panicked on {bytes:?}"
        );
    }
    trees
        .iter()
        .flat_map(|tree| &tree.nodes)
        .for_each(|node| spans_nest(&sources, node));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        holds_up(&bytes);
    }

    #[test]
    fn arbitrary_kdl_never_panics(text in kdl_like()) {
        holds_up(text.as_bytes());
    }

    /// The walk names every mistake itself: what it passes without a finding, the parser reads.
    #[test]
    fn the_parser_refuses_nothing_that_the_walk_passed(text in kdl_like()) {
        let sources = sources(text.as_bytes());
        let file = sources.files().next().unwrap();
        let scan = scan(file, &text, &[]);
        for chunk in &scan.chunks {
            let (_, diagnostics) = lower::lower_exactly(file, &scan, chunk);
            prop_assert!(diagnostics.iter().all(|found| found.code == "MSH0005"), "{:?}: {:#?}", text, diagnostics);
        }
    }

    #[test]
    fn the_short_way_reads_kdl_as_the_long_way(text in kdl_like()) {
        prop_assert_eq!(disagreement(&text), None, "{:?}", text);
    }

    #[test]
    fn the_short_way_reads_policies_as_the_long_way(text in policy_like()) {
        prop_assert_eq!(disagreement(&text), None, "{:?}", text);
    }
}

/// Text that is mostly what policies are made of, in mostly the right order.
fn policy_like() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        8 => "[a-z][a-z0-9.-]{0,4}",
        2 => "[a-z]{1,2}=",
        4 => Just("\"a/{x}/**\"".to_owned()),
        1 => Just("\"a\\\\d\\n\\\"\"".to_owned()),
        1 => Just("\"\"".to_owned()),
        1 => Just("#\"^/(a|b)\\d\"$\"#".to_owned()),
        1 => Just("\"é–\"".to_owned()),
        2 => "-?[0-9]{1,3}",
        1 => "-?[0-9]{1,2}[.][0-9]{1,2}",
        1 => Just("#true".to_owned()),
        1 => Just("nan".to_owned()),
        1 => Just("_a".to_owned()),
    ];
    let glue = prop_oneof![
        12 => Just(" ".to_owned()),
        1 => Just("\t  ".to_owned()),
        3 => Just("\n".to_owned()),
        1 => Just("\r\n".to_owned()),
        2 => Just("; ".to_owned()),
        1 => Just(";".to_owned()),
        4 => Just(" {\n".to_owned()),
        2 => Just(" { ".to_owned()),
        1 => Just(" {}\n".to_owned()),
        4 => Just("\n}\n".to_owned()),
        2 => Just(" }".to_owned()),
        1 => Just("}".to_owned()),
        1 => Just(" // é \"x {\n".to_owned()),
        1 => Just(" /* x */ ".to_owned()),
        1 => Just(" \\\n".to_owned()),
        1 => Just(String::new()),
        1 => Just("=".to_owned()),
        1 => Just("\n/- ".to_owned()),
    ];
    proptest::collection::vec((token, glue), 0..40).prop_map(|pieces| {
        pieces
            .into_iter()
            .flat_map(|(token, glue)| [token, glue])
            .collect()
    })
}

#[test]
fn properties_given_again_and_again_are_a_few_findings() {
    let (_, found) = parse_one(&format!("a{}\n", " x=1".repeat(5_000)));
    assert_eq!(found.len(), limits::FINDINGS_MAX + 1);
    assert_eq!(found.last().unwrap().code, "MSH0010");
}

#[test]
fn what_did_not_change_is_not_read_again_and_reads_the_same() {
    let set = |files: &[(&str, &str)]| {
        let mut sources = SourceSet::new();
        for (path, text) in files {
            sources.add(*path, text.as_bytes().to_vec());
        }
        sources
    };
    let good = "service a { port 80 }\n";
    let steps = [
        vec![("a.kdl", good), ("b.kdl", "b 10s"), ("c.kdl", "c #true")],
        vec![("a.kdl", good), ("b.kdl", "b 10s"), ("c.kdl", "c #false")],
        vec![("b.kdl", good), ("c.kdl", "c #false"), ("d.kdl", "d {")],
        vec![("b.kdl", good), ("c.kdl", "c #false"), ("d.kdl", "d {}")],
        vec![("d.kdl", "d {}")],
    ];
    let mut earlier: Option<(SourceSet, super::Parsed)> = None;
    for files in steps {
        let sources = set(&files);
        let parsed = super::parse_again(
            &sources,
            earlier.as_ref().map(|(old, parsed)| (old, parsed.clone())),
        );
        let (trees, diagnostics) = parse(&sources);
        assert_eq!(parsed.trees, trees);
        assert_eq!(parsed.diagnostics.len(), diagnostics.len());
        assert!(
            parsed
                .diagnostics
                .iter()
                .zip(&diagnostics)
                .all(|(a, b)| a.sort_key() == b.sort_key())
        );
        earlier = Some((sources, parsed));
    }
    // A tree that could not come from the text shows that the text was not read.
    let (sources, mut parsed) = earlier.unwrap();
    parsed.trees[0].nodes.clear();
    assert!(
        super::parse_again(&sources, Some((&sources, parsed))).trees[0]
            .nodes
            .is_empty()
    );
}

/// What the short way is for must not slip into the long way unnoticed.
#[test]
fn ordinary_policies_are_read_the_short_way() {
    for text in [
        "service a {\n    port 80 protocol=http\r\n    route x { match { header n \"v\" }; to v1 weight=90 }\n}\n",
        "a \"\\\\d+\" #\"\\d+\"# 1.5 -3\nb { }\nc {}\n// end",
        include_str!("../../../../policies/examples/bookshop/mesh.kdl"),
        include_str!("../../../../policies/examples/bookshop/teams/reviews/reviews.kdl"),
    ] {
        let file = sources(text.as_bytes()).files().next().unwrap();
        assert!(plain(file, text, 0..text.len()).is_some(), "{text}");
        assert_eq!(disagreement(text), None);
    }
}

#[test]
fn comments_may_stand_between_the_mark_and_what_it_comments_out() {
    let names = |text: &str| {
        let (nodes, findings) = parse_one(text);
        assert!(findings.is_empty(), "{text}: {findings:?}");
        let shown = nodes.iter().map(|node| {
            let args = node.args.len() + node.props.len() + node.children.len();
            format!("{}{args}", node.name.text)
        });
        shown.collect::<Vec<_>>().join(" ")
    };
    for (text, expected) in [
        ("/- // why\na 1\nb", "b0"),
        ("/- /* c */ a { c }; b", "b0"),
        ("/-\n\n// c\n/* d */\na\nb", "b0"),
        ("a 1 /- // c\n2 3", "a2"),
        ("a 1 /- /* c */ k=2 3", "a2"),
        ("a /- // c\n{ b }", "a0"),
        ("a { b; /- // c\nd }", "a1"),
        // What is commented out may itself hold a mark and go on behind it.
        ("/- a /- // c\nb { c }\nd", "d0"),
    ] {
        assert_eq!(names(text), expected, "{text}");
    }
}
