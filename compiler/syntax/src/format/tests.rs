//! What formatting makes of texts, and that it keeps their comments, literals and meaning.

use proptest::prelude::*;

use super::*;

/// What comes of a text, having held it to what formatting promises.
fn formatted(text: &str) -> Result<String, FormatError> {
    let once = once(text)?;
    match format_text(&once) {
        Ok(None) => Ok(once),
        other => panic!("formatting {once:?} again gives {other:?}"),
    }
}

fn once(text: &str) -> Result<String, FormatError> {
    Ok(format_text(text)?.unwrap_or_else(|| text.to_owned()))
}

#[track_caller]
fn check(before: &str, after: &str) {
    match formatted(before) {
        Ok(text) => assert_eq!(text, after, "of\n{before}"),
        Err(error) => panic!("{error:?} of\n{before}"),
    }
}

#[test]
fn a_setting_stands_on_a_line_and_is_indented_by_its_level() {
    check(
        "service a {port 9080  protocol = http;\n\tallow b {\nmethod GET ; path \"/x\"}\n}",
        "service a {\n    port 9080 protocol=http\n    allow b {\n        method GET\n        path \"/x\"\n    }\n}\n",
    );
    check("mesh m {\n\n}\n", "mesh m {}\n");
    check("\n\n", "");
    check("", "");
}

#[test]
fn a_block_that_was_written_on_one_line_stays_on_it_while_it_fits() {
    check(
        "subset v1{labels version=v1;}\n",
        "subset v1 { labels version=v1 }\n",
    );
    let long = "x".repeat(88);
    check(
        &format!("a {{ b {long}; c {{ d; e }} }}\n"),
        &format!("a {{\n    b {long}\n    c {{ d; e }}\n}}\n"),
    );
}

#[test]
fn definitions_of_several_lines_are_kept_apart_with_the_comments_on_them() {
    check(
        "// about a\na {\n b\n}\n// about c\nc {\n d\n}\ne 1\nf 2\ng {\nh\n}",
        "// about a\na {\n    b\n}\n\n// about c\nc {\n    d\n}\n\ne 1\nf 2\n\ng {\n    h\n}\n",
    );
    check("a\n\n\n\nb\n", "a\n\nb\n");
    check("a {\n\n\n  b\n\n\n  c\n\n}\n", "a {\n    b\n\n    c\n}\n");
}

#[test]
fn comments_stay_where_they_are() {
    check(
        "a { // opens  \n// own\nb // trails\n/* block */ c /* within */ 1 // both\n} // closes\n// last",
        "a { // opens\n    // own\n    b                            // trails\n    /* block */ c /* within */ 1 // both\n} // closes\n\n// last\n",
    );
    check("a; /* x */ b; /* y */\n", "a\n/* x */ b /* y */\n");
    check(
        "/* a\n  b */\nc /* d\n e */ f\n",
        "/* a\n  b */\nc /* d\n e */ f\n",
    );
}

#[test]
fn comments_of_neighbouring_lines_are_aligned() {
    check(
        "a 1 // x\nlonger 2 // y\n\nb // z\nc\n",
        "a 1      // x\nlonger 2 // y\n\nb // z\nc\n",
    );
    let long = "x".repeat(40);
    check(
        &format!("a // x\n{long} // y\n"),
        &format!("a // x\n{long} // y\n"),
    );
}

#[test]
fn what_is_commented_out_is_formatted_where_it_can_be_read() {
    check(
        "/-  a   b {c\n}\nd /-  e /- f = 1 /-  {g;h} {i}\n",
        "/-a b {\n    c\n}\n\nd /-e /-f=1 /-{ g; h } { i }\n",
    );
    check(
        "a {\n/- b  http:x  (((\n  c }\n",
        "a {\n    /-b  http:x  (((\n    c\n}\n",
    );
}

#[test]
fn comments_and_strings_in_what_is_commented_out_stay_as_they_are() {
    for (before, after) in [
        ("/- // why\na  1\nb\n", "/- // why\na  1\nb\n"),
        ("a  1 /- /* c */ { b }\n", "a 1 /- /* c */ { b }\n"),
        ("a 1  /- // c\n2  3\n", "a 1 /- // c\n2 3\n"),
        (
            "a /- \"\"\"\n b\n  \"\"\"  3\n",
            "a /-\"\"\"\n b\n  \"\"\" 3\n",
        ),
        ("a  /-k=\"\\q\"\n", "a /-k=\"\\q\"\n"),
        (
            "a  /- { b \"\"\"c\n  \"\"\" }\n",
            "a /-{ b \"\"\"c\n  \"\"\" }\n",
        ),
    ] {
        check(before, after);
    }
}

#[test]
fn literals_keep_their_spelling() {
    let text = "a \"\\u{41}\\t\" #\"raw \\ \"#  0x1F 1_000 1.50e3 #true #-inf \"quoted name\"=1\n";
    let text = text.replace("1.50e3", "1.5e3");
    check(&text, &text.replace("  ", " "));
    let lines = "a \"\"\"\n      x\n    y\n    \"\"\" b\n";
    check(lines, lines);
}

#[test]
fn lines_break_where_their_author_or_their_length_breaks_them() {
    check(
        "a b \\\n   c \\ // why\n d\n",
        "a b \\\n    c \\ // why\n    d\n",
    );
    check("a b \\\n\nc\n", "a b\nc\n");
    check("a b \\\n {\nc\n}\n", "a b {\n    c\n}\n");
    let words = ["word"; 30].join(" ");
    let first = ["word"; 19].join(" ");
    let rest = ["word"; 11].join(" ");
    check(
        &format!("a {words}\n"),
        &format!("a {first} \\\n    {rest}\n"),
    );
}

#[test]
fn lines_end_as_the_last_one_does() {
    check("a {\r\n b\r\n}\r\n", "a {\r\n    b\r\n}\r\n");
    check("a\r\nb\n", "a\nb\n");
    check("\u{FEFF}a\n", "a\n");
}

#[test]
fn what_has_mistakes_is_left_alone() {
    for text in [
        "a {",
        "a http://x",
        "a 5xx",
        "a /-\n;",
        "<<<<<<< a\nb\n=======\nc\n>>>>>>> d\n",
    ] {
        assert!(
            matches!(once(text), Err(FormatError::Mistakes(found)) if found.len() == 1),
            "{text}"
        );
    }
}

#[test]
fn that_a_file_is_not_formatted_is_said_with_the_lines_to_change() {
    for (text, edited) in [
        ("b {\n  c\n}\n\nd\n", Some("    c\n")),
        ("a", Some("a\n")),
        ("a\n\n", Some("")),
        ("é  1\né 2\n", Some("é 1\n")),
        ("a\n", None),
        ("a {", None),
    ] {
        let mut sources = SourceSet::new();
        let file = sources.add("a.kdl", text.as_bytes().to_vec());
        let found = not_formatted(&sources, file);
        let edit = found.as_ref().map(|found| &found.fixes[0].edits[0]);
        assert_eq!(edit.map(|edit| edit.text.as_str()), edited, "{text}");
        if let Some(edit) = edit {
            let mut fixed = text.to_owned();
            fixed.replace_range(edit.span.range(), &edit.text);
            assert_eq!(fixed, once(text).unwrap());
        }
    }
}

#[test]
fn formatting_takes_linear_time() {
    // Each would take hours otherwise.
    let n = 10_000;
    for text in [
        "/**/".repeat(n) + "a\n",
        "a {}".to_owned() + &"/**/".repeat(n),
        "a ".to_owned() + &"b ".repeat(n),
        "a // b\n".repeat(n),
        "a {b}\n".repeat(n),
        "// a\n".repeat(n),
        "a /-{".repeat(n) + &"}".repeat(n),
        "a\n\n".repeat(n),
    ] {
        assert!(formatted(&text).is_ok());
    }
}

fn space() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        " ",
        " ",
        " ",
        "  ",
        "\t",
        "\u{A0}",
        " /* c */ ",
        " /* c\n d */ ",
        " \\\n",
        " \\ // c\r\n",
        " \\\n \\\n",
    ])
}

fn end() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "\n",
        "\n",
        "\n",
        "\r\n",
        "\n\n\n",
        ";",
        "; ",
        " // c\n",
        "; // c  \n",
        "; /* c */ ",
        " \\\n\n",
        "\u{2028}",
        "\n// c\n",
        "\n/* c */\n",
        ";;\n",
        " \\ // c\n\n",
        "; /* c */ // d\n",
        "\n/* c */ // d\n",
        "\n/- x (\n",
        "\n/- x y { z\n }\n",
        "; /- x; ",
        " \\ // c\n ; // d\n",
    ])
}

fn entry() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![
        "b",
        "\"x y\"",
        "12",
        "-1.5",
        "#true",
        "#nan",
        "#\"r\\w\"#",
        "\"\"\"\n  a\n   b\n  \"\"\"",
        "\"a\\\n   b\"",
        "\"é\u{3000}\"",
        "a-rather-long-word-that-fills-a-good-part-of-a-line",
        "0x1F",
        "\"\"\"\r\n  a\r\n  \"\"\"",
    ]);
    let name = prop::sample::select(vec!["", "", "", "k=", "key = ", "\"q\"="]);
    let mark = prop::sample::select(vec![
        "",
        "",
        "",
        "",
        "/-",
        "/- ",
        "/-\n",
        "/- // c\n",
        "/-/* c */ ",
    ]);
    (mark, name, value).prop_map(|(mark, name, value)| format!("{mark}{name}{value}"))
}

fn joined(entries: &[(&str, String)]) -> String {
    let each = entries.iter().flat_map(|(space, entry)| [*space, entry]);
    each.collect()
}

fn nodes() -> impl Strategy<Value = String> {
    let leaf = (
        prop::sample::select(vec![
            "",
            "",
            "",
            "/-",
            "/* c */ ",
            "/- \n",
            "/- // c\n",
            "/-/* c */",
        ]),
        prop::sample::select(vec!["a", "service", "\"n\""]),
        prop::collection::vec((space(), entry()), 0..5),
        end(),
    )
        .prop_map(|(mark, name, entries, end)| {
            let entries = joined(&entries);
            format!("{mark}{name}{entries}{end}")
        });
    leaf.prop_recursive(4, 24, 4, |inner| {
        (
            prop::sample::select(vec!["", "", "/-", "/* c */"]),
            prop::collection::vec((space(), entry()), 0..3),
            space(),
            prop::sample::select(vec!["{", "{", "{ // c\n", "{\n\n", "/-{", "{ /* c */"]),
            prop::collection::vec(inner, 0..4),
            end(),
        )
            .prop_map(|(mark, entries, space, open, inner, end)| {
                let entries = joined(&entries);
                format!("{mark}a{entries}{space}{open}{}}}{end}", inner.concat())
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_can_be_read_is_formatted_once_and_means_the_same(
        nodes in prop::collection::vec(nodes(), 0..6),
        mark in prop::sample::select(vec!["", "", "\u{FEFF}"]),
    ) {
        let text = mark.to_owned() + &nodes.concat();
        match formatted(&text) {
            Ok(_) | Err(FormatError::Mistakes(_)) => {}
            Err(FormatError::Fault) => prop_assert!(false, "fault of {text:?}"),
        }
    }
}
