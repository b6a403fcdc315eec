//! Support for tests: files from text, and findings as a plain text that snapshots can hold. The
//! text that users see is rendered by the programs.

use std::fmt::Write as _;

use mesh_syntax::{Diagnostic, SourceSet, Span};

use crate::{Analysed, Input};

/// A source set of paths and texts.
pub fn sources(files: &[(&str, &str)]) -> SourceSet {
    let mut sources = SourceSet::new();
    for (path, text) in files {
        sources.add(*path, text.as_bytes().to_vec());
    }
    sources
}

/// Loads a source set for the environment `default`.
pub fn load(sources: &SourceSet) -> Analysed {
    crate::load(Input {
        sources,
        environment: crate::DEFAULT_ENVIRONMENT,
        root_path: "",
    })
}

/// Findings about some policies of an otherwise empty mesh.
pub fn findings(policies: &str) -> String {
    findings_in(&[("a.kdl", policies), ("mesh.kdl", MESH)])
}

/// Findings about a mesh, as text.
pub fn findings_in(files: &[(&str, &str)]) -> String {
    let sources = sources(files);
    render(&sources, &load(&sources).diagnostics)
}

/// Findings of each policy, one under the other.
pub fn all(policies: &[&str]) -> String {
    let mut text = String::new();
    for policy in policies {
        let found = findings(policy);
        let found = if found.is_empty() {
            "nothing\n"
        } else {
            &found
        };
        line(&mut text, format_args!("## {policy}\n{found}"));
    }
    text
}

/// A service with these lines in it, beside two others.
pub fn service(lines: &str) -> String {
    format!(
        "service a {{\n    port 80\n    {lines}\n}}\nservice b {{ port 80 }}\npolicy p {{ timeout \"2s\" }}\n"
    )
}

/// [`all`] of services with these lines.
pub fn in_service(lines: &[&str]) -> String {
    let policies: Vec<String> = lines.iter().map(|lines| service(lines)).collect();
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    all(&policies)
}

/// The smallest mesh.
pub const MESH: &str = "mesh m { trust-domain \"m.example\" }\n";

/// Findings as text, each with the source lines that it points at.
pub fn render(sources: &SourceSet, findings: &[Diagnostic]) -> String {
    let mut text = String::new();
    for finding in findings {
        let Diagnostic {
            code,
            name,
            level,
            message,
            ..
        } = finding;
        line(
            &mut text,
            format_args!("{}[{code}] {name}: {message}", level.as_str()),
        );
        excerpt(
            &mut text,
            sources,
            finding.span,
            finding.span_label.as_deref().unwrap_or(""),
        );
        for label in &finding.labels {
            excerpt(&mut text, sources, label.span, &label.message);
        }
        if let Some(help) = &finding.help {
            line(&mut text, format_args!("  help: {help}"));
        }
        for fix in &finding.fixes {
            let kind = if fix.safe { "fix" } else { "unsafe fix" };
            line(&mut text, format_args!("  {kind}: {}", fix.title));
        }
    }
    text
}

fn excerpt(text: &mut String, sources: &SourceSet, span: Span, label: &str) {
    let (number, column) = sources.line_column(span);
    let whole = sources.text(span.file).unwrap_or_default();
    let source = whole.lines().nth(number as usize - 1).unwrap_or_default();
    let width = sources.slice(span).map_or(1, |slice| {
        slice
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            .max(1)
    });
    line(
        text,
        format_args!("  {}:{number}:{column}", sources.path(span.file)),
    );
    line(text, format_args!("  | {source}"));
    let pointer = format!("{}{}", " ".repeat(column as usize - 1), "^".repeat(width));
    line(
        text,
        format_args!("  | {}", format!("{pointer} {label}").trim_end()),
    );
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a string takes everything that is written to it");
}
