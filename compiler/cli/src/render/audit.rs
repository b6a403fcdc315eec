//! An audit as text, and as a document in Markdown.

use crate::commands::audit::{Audited, Report, Rule};
use crate::render::shown::escaped;

/// For people at a terminal.
pub(crate) fn human(report: &Report) -> String {
    let mut lines = vec![heading(report)];
    lines.extend(notes(report).into_iter().map(|note| format!("  {note}")));
    for service in &report.services {
        lines.push(String::new());
        lines.push(title(service));
        lines.extend(encryption(service).map(|text| format!("  encryption   {text}")));
        if let Some(path) = &service.from_outside {
            lines.push(format!("  from outside {}", path.join(" → ")));
        }
        if service.grants.is_empty() {
            lines.push("  nobody can reach it".to_owned());
        }
        let longest = service.grants.iter().map(|grant| grant.who.chars().count());
        let width = longest.max().unwrap_or_default().min(40);
        for grant in &service.grants {
            let note = match grant.effect {
                "whole" => "",
                "part" => "  (but for what is refused below)",
                "nothing" => "  (without effect)",
                _ => "  (unknown what is refused of it)",
            };
            lines.push(format!(
                "  {:width$}  {}  {}{note}",
                grant.who,
                grant.rule.written,
                place(&grant.rule)
            ));
        }
        for (word, rules) in [
            ("refused", &service.denials),
            ("required", &service.requirements),
        ] {
            lines.extend(
                rules
                    .iter()
                    .map(|rule| format!("  {word}: {}  {}", rule.written, place(rule))),
            );
        }
    }
    if !report.invariants.is_empty() {
        lines.push(String::new());
        lines.push("invariants".to_owned());
    }
    for held in &report.invariants {
        let text = format!(
            "  {}  \"{}\"  {}",
            holds(held.holds),
            held.invariant,
            held.rule.written
        );
        lines.push(format!("{text}  {}", place(&held.rule)));
    }
    if !report.suppressions.is_empty() {
        lines.push(String::new());
        lines.push("suppressed findings".to_owned());
    }
    for suppressed in &report.suppressions {
        lines.push(format!(
            "  {}  {} until {}: {}  {}",
            suppressed.code,
            suppressed.owner,
            suppressed.until,
            suppressed.reason,
            place(&suppressed.rule)
        ));
    }
    escaped(&(lines.join("\n") + "\n")).into_owned()
}

/// For a document.
pub(crate) fn markdown(report: &Report) -> String {
    let mut lines = vec![format!("# {}", cell(&heading(report))), String::new()];
    for note in notes(report) {
        lines.push(format!("> {}", cell(&note)));
        lines.push(String::new());
    }
    for service in &report.services {
        lines.push(format!("## {}", cell(&title(service))));
        lines.push(String::new());
        if let Some(text) = encryption(service) {
            lines.push(format!("Encryption: {text}."));
            lines.push(String::new());
        }
        if let Some(path) = &service.from_outside {
            lines.push(format!(
                "Reachable from outside: {}.",
                cell(&path.join(" → "))
            ));
            lines.push(String::new());
        }
        if service.grants.is_empty() {
            lines.push("Nobody can reach it.".to_owned());
        } else {
            lines.push("| Who | Through | Effect | Where | Since |".to_owned());
            lines.push("|---|---|---|---|---|".to_owned());
        }
        for grant in &service.grants {
            let (rule, at, since) = cells(&grant.rule);
            let who = cell(&grant.who);
            lines.push(format!(
                "| {who} | {rule} | {} | {at} | {since} |",
                grant.effect
            ));
        }
        lines.push(String::new());
        for (word, rules) in [
            ("Refused", &service.denials),
            ("Required", &service.requirements),
        ] {
            for rule in rules {
                let (text, at, since) = cells(rule);
                lines.push(format!("- {word}: {text}, {at}, {since}"));
            }
            if !rules.is_empty() {
                lines.push(String::new());
            }
        }
    }
    if !report.invariants.is_empty() {
        lines.push("## Invariants".to_owned());
        lines.push(String::new());
        lines.push("| Invariant | Claim | Holds | Where | Since |".to_owned());
        lines.push("|---|---|---|---|---|".to_owned());
        for held in &report.invariants {
            let (rule, at, since) = cells(&held.rule);
            let (text, holds) = (cell(&held.invariant), holds(held.holds));
            lines.push(format!("| {text} | {rule} | {holds} | {at} | {since} |"));
        }
        lines.push(String::new());
    }
    if !report.suppressions.is_empty() {
        lines.push("## Suppressed findings".to_owned());
        lines.push(String::new());
        lines.push("| Code | Reason | Owner | Until | Where | Since |".to_owned());
        lines.push("|---|---|---|---|---|---|".to_owned());
        for it in &report.suppressions {
            let (_, at, since) = cells(&it.rule);
            let (code, reason, owner) = (cell(&it.code), cell(&it.reason), cell(&it.owner));
            lines.push(format!(
                "| {code} | {reason} | {owner} | {} | {at} | {since} |",
                it.until
            ));
        }
        lines.push(String::new());
    }
    lines.join("\n")
}

fn heading(report: &Report) -> String {
    let at = report.commit.as_deref().map_or_else(
        || "not in a repository".to_owned(),
        |commit| format!("commit {}", short(commit)),
    );
    format!(
        "Access to mesh {}, environment {}, trust domain {}, {at}",
        report.mesh, report.environment, report.trust_domain
    )
}

fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if !report.uncommitted.is_empty() {
        let files = report.uncommitted.join(", ");
        notes.push(format!(
            "Not as committed: {files}. What is shown is the work tree."
        ));
    }
    if let Some(why) = &report.no_history {
        notes.push(format!("No commits are named: {why}."));
    }
    notes
}

fn title(service: &Audited) -> String {
    let owner = service.owner.as_ref();
    let owner = owner.map_or_else(String::new, |team| format!(" of team {team}"));
    format!(
        "{} {}{owner}: {}",
        service.kind,
        service.name,
        service.identities.join(", ")
    )
    .trim_end_matches([':', ' '])
    .to_owned()
}

fn encryption(service: &Audited) -> Option<String> {
    let ports = service.encryption.iter();
    let ports: Vec<_> = ports.map(|(port, mode)| format!("{port} {mode}")).collect();
    (!ports.is_empty()).then(|| ports.join(", "))
}

const fn holds(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "holds",
        Some(false) => "VIOLATED",
        None => "unknown",
    }
}

fn place(rule: &Rule) -> String {
    let (Some(file), Some(line)) = (&rule.file, rule.line) else {
        return String::new();
    };
    let since = since(rule);
    let level = match rule.level {
        "defaults" | "policy" => format!("{}, ", rule.level),
        _ => String::new(),
    };
    format!("[{level}{file}:{line}, {since}]")
}

fn since(rule: &Rule) -> String {
    match &rule.since {
        Some(since) => format!(
            "since {} {} {}",
            short(&since.commit),
            since.date,
            since.author
        ),
        None => "not committed".to_owned(),
    }
}

fn cells(rule: &Rule) -> (String, String, String) {
    let at = match (&rule.file, rule.line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        _ => rule.level.to_owned(),
    };
    (
        format!("`{}`", cell(&rule.written).replace('`', "'")),
        cell(&at),
        cell(&since(rule)),
    )
}

/// Text of strangers in a table of Markdown: it ends no cell and begins no tag.
fn cell(text: &str) -> String {
    escaped(text)
        .replace('|', "\\|")
        .replace('<', "&lt;")
        .replace('\n', " ")
}

fn short(commit: &str) -> String {
    commit.chars().take(12).collect()
}
