//! Findings as annotations of a GitHub workflow.

use mesh_compiler::trial::request_text;
use mesh_syntax::{Diagnostic, Level, SourceSet, Span};

use super::counted;
use crate::compile::Compiled;

/// Places in other files that one annotation names.
const PLACES_MAX: usize = 4;

/// One line per finding, and one that counts what is not shown because somebody answers for it.
pub(crate) fn check(sources: &SourceSet, compiled: &Compiled) -> String {
    let mut findings: Vec<_> = compiled.shown().collect();
    // GitHub shows no more than a few of a step.
    findings.sort_by_key(|found| found.level);
    let findings = findings.iter().map(|found| annotation(sources, found));
    let not_compared = compiled.not_compared().map(|why| {
        let text = data(&format!("what the change does can't be said: {why}"));
        format!("::warning title=meshc::{text}\n")
    });
    findings
        .chain(not_compared)
        .chain(unshown(sources, compiled))
        .collect()
}

fn unshown(sources: &SourceSet, compiled: &Compiled) -> Option<String> {
    let suppressed = compiled.suppressed.iter().map(|one| {
        let (line, _) = sources.line_column(one.finding.span);
        let path = sources.path(one.finding.span.file);
        let code = one.finding.code;
        format!(
            "{code} {path}:{line} is suppressed until {}: {}",
            one.until, one.reason
        )
    });
    let accepted = compiled.compared.as_ref().map(|compared| {
        let count = counted(compared.accepted.len(), "finding");
        format!("{count} accepted by {}", compared.file)
    });
    let lines: Vec<String> = suppressed.chain(accepted).collect();
    let text = data(&lines.join("\n"));
    (!lines.is_empty()).then(|| format!("::notice title=meshc::{text}\n"))
}

fn annotation(sources: &SourceSet, found: &Diagnostic) -> String {
    let (line, column) = sources.line_column(found.span);
    let end = Span {
        start: found.span.end,
        ..found.span
    };
    let (end_line, end_column) = sources.line_column(end);
    let kind = match found.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "notice",
    };
    let mut lines = vec![found.message.clone()];
    let elsewhere = found
        .labels
        .iter()
        .filter(|label| label.span.file != found.span.file);
    lines.extend(elsewhere.take(PLACES_MAX).map(|label| {
        let (path, (line, _)) = (
            sources.path(label.span.file),
            sources.line_column(label.span),
        );
        format!("{path}:{line}: {}", label.message)
    }));
    lines.extend(found.help.clone());
    // As the line of a test, ready to paste.
    lines.extend(found.witness.as_ref().map(request_text));
    let message = lines.join("\n");
    format!(
        "::{kind} file={},line={line},col={column},endLine={end_line},endColumn={end_column},title={}::{}\n",
        property(sources.path(found.span.file)),
        property(&format!("{} {}", found.code, found.name)),
        data(&message),
    )
}

fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use mesh_syntax::Witness;
    use mesh_syntax::code::SYNTAX_ERROR;

    use super::*;

    #[test]
    fn nothing_of_a_finding_can_end_its_line_or_begin_another_command() {
        let mut sources = SourceSet::new();
        let file = sources.add("a,b:c.kdl", b"x\ny\n".to_vec());
        let found =
            Diagnostic::error(SYNTAX_ERROR, Span::new(file, 2, 3), "50%\n::error::").help("b");
        assert_eq!(
            annotation(&sources, &found),
            "::error file=a%2Cb%3Ac.kdl,line=2,col=1,endLine=2,endColumn=2,title=MSH0001 source/syntax-error::50%25%0A::error::%0Ab\n"
        );
    }

    #[test]
    fn other_files_are_named_and_a_witness_is_the_line_of_a_test() {
        let mut sources = SourceSet::new();
        let file = sources.add("a.kdl", b"x\n".to_vec());
        let witness = Witness {
            method: "GET".to_owned(),
            path: "/a".to_owned(),
            from: Some("web".to_owned()),
            to: "a".to_owned(),
            ..Witness::default()
        };
        let other = sources.add("c.kdl", b"x\ny\n".to_vec());
        let found = Diagnostic::error(SYNTAX_ERROR, Span::new(file, 0, 1), "b")
            .witness(witness)
            .label(Span::new(other, 2, 3), "the first one");
        let text = annotation(&sources, &found);
        let end = "::b%0Ac.kdl:2: the first one%0Arequest GET \"/a\" from=web to=a\n";
        assert!(text.ends_with(end), "{text}");
    }
}
