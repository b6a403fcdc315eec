//! Runs snippets of policy through the compiler and the rules, and draws findings as plain text.

use std::fmt::Write as _;

use mesh_compiler::date::Date;
use mesh_compiler::{Analysed, DEFAULT_ENVIRONMENT, Input};
use mesh_syntax::{Diagnostic, SourceSet, Span};

/// Files of keys that snippets may name.
const KEY_SETS: &[(&str, &str)] = &[
    (
        "keys/public.jwks.json",
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
    ),
    (
        "keys/private.jwks.json",
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"a","d":"b"}]}"#,
    ),
];

/// Sources of one file. A snippet without a mesh gets one, below it so that no position changes.
pub(crate) fn sources(policy: &str) -> SourceSet {
    let mut sources = SourceSet::new();
    let has_mesh = policy
        .lines()
        .any(|line| line.trim_start().starts_with("mesh "));
    let mesh = "\nmesh example { trust-domain \"example.test\" }\n";
    let text = if has_mesh {
        policy.to_owned()
    } else {
        format!("{policy}{mesh}")
    };
    let mut name = "mesh.kdl".to_owned();
    let (mut part, mut tests) = (String::new(), String::new());
    for line in text.split_inclusive('\n') {
        if let Some(next) = line.strip_prefix(FILE) {
            let before = std::mem::replace(&mut name, next.trim_end().to_owned());
            sources.add(before, std::mem::take(&mut part).into_bytes());
        } else if line.trim_start().starts_with("test \"") && !name.ends_with(".test.kdl") {
            // Tests stand in files of their own; each is a line of a snippet.
            tests.push_str(line);
            part.push('\n');
        } else {
            part.push_str(line);
        }
    }
    sources.add(name, part.into_bytes());
    if !tests.is_empty() {
        sources.add("mesh.test.kdl", tests.into_bytes());
    }
    for (path, keys) in KEY_SETS {
        sources.add(*path, keys.as_bytes().to_vec());
    }
    sources
}

/// What follows such a line of a snippet stands in a file of its own.
const FILE: &str = "// file: ";

/// The day on which snippets are judged.
pub(crate) fn today() -> Date {
    Date::parse("2026-01-01").expect("there is such a day")
}

/// What counts, drawn, and how many findings are suppressed.
#[track_caller]
pub(crate) fn judged(policy: &str) -> (String, usize) {
    let sources = sources(policy);
    let judgement = crate::judge(&mut load(&sources), None, today());
    let drawn = judgement
        .findings
        .iter()
        .map(|finding| draw(&sources, std::slice::from_ref(finding)));
    (
        drawn.collect::<Vec<_>>().join("\n"),
        judgement.suppressed.len(),
    )
}

pub(crate) fn load(sources: &SourceSet) -> Analysed {
    mesh_compiler::load(Input {
        sources,
        environment: DEFAULT_ENVIRONMENT,
        root_path: "",
    })
}

/// Every finding of every stage.
pub(crate) fn all_findings(sources: &SourceSet) -> Vec<Diagnostic> {
    crate::judge(&mut load(sources), None, today()).findings
}

/// The findings of one code, drawn.
#[track_caller]
pub(crate) fn findings(code: &str, policy: &str) -> String {
    let sources = sources(policy);
    let analysed = load(&sources);
    let mesh = analysed.mesh.unwrap_or_else(|| {
        panic!(
            "the snippet has mistakes of its own:\n{}",
            draw(&sources, &analysed.diagnostics)
        )
    });
    let mut findings = crate::lint(&mesh);
    findings.retain(|finding| finding.code == code);
    assert!(!findings.is_empty(), "no {code}");
    draw(&sources, &findings)
}

/// Asserts that a snippet has no finding of one code.
#[track_caller]
pub(crate) fn none(code: &str, policy: &str) {
    let sources = sources(policy);
    let analysed = load(&sources);
    let mesh = analysed.mesh.unwrap_or_else(|| {
        panic!(
            "the snippet has mistakes of its own:\n{}",
            draw(&sources, &analysed.diagnostics)
        )
    });
    let mut findings = crate::lint(&mesh);
    findings.retain(|finding| finding.code == code);
    assert!(findings.is_empty(), "{}", draw(&sources, &findings));
}

/// A policy with the first fix of each finding of one code applied.
#[track_caller]
pub(crate) fn fixed(code: &str, policy: &str) -> String {
    let sources = sources(policy);
    let mut edits: Vec<mesh_syntax::Edit> = all_findings(&sources)
        .into_iter()
        .filter(|finding| finding.code == code)
        .filter_map(|finding| finding.fixes.into_iter().next())
        .flat_map(|fix| fix.edits)
        .collect();
    assert!(!edits.is_empty(), "no fix of {code}");
    edits.sort_by_key(|edit| std::cmp::Reverse(edit.span));
    let mut text = policy.to_owned();
    for edit in edits {
        let range = edit.span.start as usize..edit.span.end as usize;
        text.replace_range(range, &edit.text);
    }
    text
}

/// What changes from one policy to another, neither of which may have mistakes of its own.
#[track_caller]
pub(crate) fn compared(base: &str, head: &str) -> Vec<Diagnostic> {
    let mesh = |policy: &str| {
        let sources = sources(policy);
        let analysed = load(&sources);
        let found = draw(&sources, &analysed.diagnostics);
        analysed
            .mesh
            .unwrap_or_else(|| panic!("the snippet has mistakes of its own:\n{found}"))
    };
    crate::compare(&mesh(base), &mesh(head))
}

/// The findings of one code about a change, drawn; empty if there are none.
#[track_caller]
pub(crate) fn changes(code: &str, base: &str, head: &str) -> String {
    let mut findings = compared(base, head);
    findings.retain(|finding| finding.code == code);
    draw(&sources(head), &findings)
}

/// Findings as text, with everything in them.
pub(crate) fn draw(sources: &SourceSet, findings: &[Diagnostic]) -> String {
    let mut text = String::new();
    for finding in findings {
        draw_one(&mut text, sources, finding).expect("writing to a String cannot fail");
    }
    text
}

fn draw_one(text: &mut String, sources: &SourceSet, finding: &Diagnostic) -> std::fmt::Result {
    let place = |span: Span| {
        let (line, column) = sources.line_column(span);
        let source = sources.slice(span).unwrap_or_default();
        let mut source: String = source.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = source.char_indices().nth(60) {
            source.replace_range(end.., "…");
        }
        format!("{line}:{column} `{source}`")
    };
    let (level, confidence) = (finding.level.as_str(), finding.confidence.as_str());
    writeln!(
        text,
        "{level} {} {} ({confidence})",
        finding.code, finding.name
    )?;
    writeln!(text, "  {}", finding.message)?;
    let label = finding.span_label.as_deref().unwrap_or_default();
    writeln!(text, "  at {} {label}", place(finding.span))?;
    for label in &finding.labels {
        writeln!(text, "  and {} {}", place(label.span), label.message)?;
    }
    if let Some(help) = &finding.help {
        writeln!(text, "  help: {help}")?;
    }
    if let Some(witness) = &finding.witness {
        let from = witness.from.as_deref().unwrap_or("unauthenticated");
        write!(
            text,
            "  witness: {from} → {}: {} {}{}",
            witness.to, witness.method, witness.host, witness.path
        )?;
        if let Some(port) = witness.port {
            write!(text, " port={port}")?;
        }
        for (name, value) in witness.headers.iter().chain(&witness.query) {
            write!(text, " {name}={value:?}")?;
        }
        writeln!(text)?;
    }
    if !finding.numbers.is_empty() {
        let numbers = finding.numbers.iter();
        let numbers: Vec<String> = numbers
            .map(|(name, value)| format!("{name}={value:.4}"))
            .collect();
        writeln!(text, "  numbers: {}", numbers.join(" "))?;
    }
    Ok(())
}
