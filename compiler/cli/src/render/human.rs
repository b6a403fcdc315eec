//! Output for people. The only place that knows miette.

mod summary;

use std::borrow::Cow;
use std::fmt;

use mesh_compiler::trial::{Outcome, request_text};
use mesh_lint::Page;
use mesh_syntax::{Diagnostic, FileId, Level, SourceSet, Span};
use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, Severity,
    SourceCode, SourceSpan, SpanContents,
};

use self::summary::summary;
use super::shown::{Masked, escaped};
use super::{counted, effective};
use crate::commands::build::Built;
use crate::compile::Compiled;
use crate::limits;
use crate::terminal;

/// One finding, as miette wants it: labels in one file; and a further one for each other file, of which only the frame
/// is shown.
#[derive(Debug)]
struct Report<'s> {
    message: String,
    code: Option<String>,
    severity: Severity,
    help: Option<String>,
    source: Option<Excerpt<'s>>,
    labels: Vec<LabeledSpan>,
    elsewhere: Vec<Self>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.code
            .as_ref()
            .map(|code| Box::new(code) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

/// The findings with their code frames, and a line that counts. Of many, the gravest: each is half a page.
pub(crate) fn check(sources: &SourceSet, compiled: &Compiled) -> String {
    check_at_most(sources, compiled, limits::FINDINGS_SHOWN_MAX)
}

/// The same, with at most so many findings.
pub(crate) fn check_at_most(sources: &SourceSet, compiled: &Compiled, most: usize) -> String {
    let all: Vec<Cow<'_, Diagnostic>> = compiled.shown().collect();
    let mut gravest: Vec<usize> = (0..all.len()).collect();
    gravest.sort_by_key(|index| all.get(*index).map(|found| found.level));
    gravest.truncate(most);
    let shown = gravest.iter().filter_map(|index| all.get(*index));
    let mut text = framed(sources, shown.map(AsRef::as_ref));
    if all.len() > gravest.len() {
        let (shown, more) = (gravest.len(), counted(all.len() - gravest.len(), "finding"));
        text.extend([
            format!("These are the gravest {shown}; {more} more: "),
            "`meshc check --all` shows every one, `--format json` lists them.\n".to_owned(),
        ]);
    }
    text + &summary(sources, compiled)
}

/// Findings with their code frames.
pub(crate) fn findings(sources: &SourceSet, findings: &[Diagnostic]) -> String {
    framed(sources, findings.iter())
}

fn framed<'d>(
    sources: &SourceSet,
    findings: impl Iterator<Item = &'d Diagnostic> + Clone,
) -> String {
    let handler = handler();
    let mut text = String::new();
    let masked = Masked::of(sources, findings.clone());
    for found in findings {
        let mut report = report(sources, &masked, found);
        // What there is to do comes last, below the frames of all files.
        if let Some(last) = report.elsewhere.last_mut() {
            last.help = report.help.take();
        }
        let shown = handler.render_report(&mut text, &report);
        let elsewhere = report.elsewhere.iter();
        let frames: Option<Vec<String>> =
            elsewhere.map(|report| frame_of(&handler, report)).collect();
        if let (Ok(()), Some(frames)) = (shown, frames) {
            text.extend(frames);
        } else {
            // Without its frame it still says what and which.
            text.extend([found.code, " ", &escaped(&found.message), "\n"]);
        }
        text.push('\n');
    }
    text
}

fn handler() -> GraphicalReportHandler {
    let theme = match (terminal::wants_colour(), terminal::is_dumb()) {
        (true, _) => GraphicalTheme::unicode(),
        (false, true) => GraphicalTheme::none(),
        (false, false) => GraphicalTheme::unicode_nocolor(),
    };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false);
    // Elsewhere lines stay whole, so that they can be searched.
    match terminal::columns() {
        Some(columns) => handler.with_width(columns),
        None => handler
            .with_width(usize::from(u16::MAX))
            .with_wrap_lines(false),
    }
}

fn report<'s>(sources: &'s SourceSet, masked: &'s Masked, found: &Diagnostic) -> Report<'s> {
    let mut here = vec![labelled(
        sources,
        found.span,
        found.span_label.clone(),
        true,
    )];
    let mut elsewhere: Vec<Report<'_>> = Vec::new();
    for label in &found.labels {
        if label.span.file == found.span.file {
            here.push(labelled(
                sources,
                label.span,
                Some(label.message.clone()),
                false,
            ));
            continue;
        }
        let path = sources.path(label.span.file);
        let spanned = labelled(sources, label.span, Some(label.message.clone()), false);
        match elsewhere
            .iter_mut()
            .find(|report| report.message == escaped(path))
        {
            Some(report) => report.labels.push(spanned),
            None => elsewhere.push(Report {
                message: escaped(path).into_owned(),
                code: None,
                severity: Severity::Advice,
                help: None,
                source: source(sources, masked, label.span),
                labels: vec![spanned],
                elsewhere: Vec::new(),
            }),
        }
    }
    let source = source(sources, masked, found.span);
    let path = sources.path(found.span.file);
    Report {
        // Without text there is no frame to say which file it is.
        message: if source.is_some() {
            escaped(&found.message).into_owned()
        } else {
            escaped(&format!("{path}: {}", found.message)).into_owned()
        },
        code: Some(format!("{} {}", found.code, found.name)),
        severity: match found.level {
            Level::Error => Severity::Error,
            Level::Warning => Severity::Warning,
            Level::Note => Severity::Advice,
        },
        help: help(found),
        labels: if source.is_some() { here } else { Vec::new() },
        source,
        elsewhere,
    }
}

fn help(found: &Diagnostic) -> Option<String> {
    let witness = found
        .witness
        .as_ref()
        .map(|witness| format!("for example: {}", request_text(witness)));
    let parts: Vec<String> = found.help.clone().into_iter().chain(witness).collect();
    (!parts.is_empty()).then(|| escaped(&parts.join("\n")).into_owned())
}

fn labelled(sources: &SourceSet, span: Span, text: Option<String>, primary: bool) -> LabeledSpan {
    let text = text.map(|text| escaped(&text).into_owned());
    let mut range = span.range();
    if range.len() > limits::MARKED_BYTES_MAX {
        let file = sources.text(span.file).unwrap_or_default();
        range.end = file.floor_char_boundary(range.start + limits::MARKED_BYTES_MAX);
    }
    if primary {
        LabeledSpan::new_primary_with_span(text, range)
    } else {
        LabeledSpan::new_with_span(text, range)
    }
}

fn source<'s>(sources: &'s SourceSet, masked: &'s Masked, span: Span) -> Option<Excerpt<'s>> {
    let text = masked.text(sources, span.file)?;
    Some(Excerpt {
        sources,
        file: span.file,
        text,
    })
}

/// A file that is shown around its labels. Unlike miette's own, it does not read the file from the
/// beginning for each of them, and of a very long line shows what is near.
#[derive(Debug)]
struct Excerpt<'s> {
    sources: &'s SourceSet,
    file: FileId,
    text: &'s str,
}

impl SourceCode for Excerpt<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let text = self.text;
        let start = text.floor_char_boundary(span.offset());
        let end = text.ceil_char_boundary(span.offset().saturating_add(span.len()));
        let line_start = |end: usize| {
            let before = text.get(..end).unwrap_or_default();
            before.rfind('\n').map_or(0, |at| at + 1)
        };
        let line_end = |start: usize| {
            let after = text.get(start..).unwrap_or_default();
            after.find('\n').map_or(text.len(), |at| start + at)
        };
        // Without context miette asks for the position of the span itself.
        let mut from = start;
        if lines_before > 0 {
            from = line_start(start);
        }
        for _ in 0..lines_before {
            from = line_start(from.saturating_sub(1));
        }
        let mut to = line_end(end);
        for _ in 0..lines_after {
            to = line_end((to + 1).min(text.len()));
        }
        if to - from > (end - start) + limits::SHOWN_BYTES_MAX {
            let around = limits::SHOWN_BYTES_MAX / 2;
            from = from.max(text.ceil_char_boundary(start.saturating_sub(around)));
            to = to.min(text.floor_char_boundary(end + around));
        }
        let shown = text.get(from..to).unwrap_or_default();
        let (line, column) = self.sources.line_column(Span::new(self.file, from, from));
        let path = self.sources.path(self.file);
        let contents = MietteSpanContents::new_named(
            terminal::linked(&escaped(path), path),
            shown.as_bytes(),
            (from, shown.len()).into(),
            line.saturating_sub(1) as usize,
            column.saturating_sub(1) as usize,
            shown.lines().count(),
        );
        Ok(Box::new(contents))
    }
}

pub(super) fn verdict(sources: &SourceSet, outcome: &Outcome) -> String {
    if let Some(answer) = &outcome.answer {
        let status = answer.status;
        return match &answer.location {
            Some(location) => format!("redirected with {status} to {location}"),
            None => format!("answered with {status} by the route itself"),
        };
    }
    let word = outcome.decision.as_str().replace('_', " ");
    let answer = outcome
        .refusal
        .as_ref()
        .map_or_else(String::new, |refusal| match refusal.status {
            Some(status) => format!(" with {status} {}", refusal.reason),
            None => format!(" with {}", refusal.reason),
        });
    match &outcome.rule {
        Some(rule) => format!(
            "{word}{answer} by `{}` ({})",
            rule.name,
            effective::place(sources, rule.source)
        ),
        None => format!("{word}{answer}"),
    }
}

/// Places in the files with what there is to say about each.
pub(super) fn frame(sources: &SourceSet, labels: &[(Span, String)]) -> Option<String> {
    let (first, _) = labels.first()?;
    let masked = Masked::of(sources, &[]);
    let text = masked.text(sources, first.file)?;
    let excerpt = Excerpt {
        sources,
        file: first.file,
        text,
    };
    let here = labels.iter().filter(|(span, _)| span.file == first.file);
    let report = Report {
        message: String::new(),
        code: None,
        severity: Severity::Error,
        help: None,
        source: Some(excerpt),
        labels: here
            .map(|(span, text)| labelled(sources, *span, Some(text.clone()), true))
            .collect(),
        elsewhere: Vec::new(),
    };
    frame_of(&handler(), &report)
}

/// A report from its first frame on: what is wrong is said already.
fn frame_of(handler: &GraphicalReportHandler, report: &Report<'_>) -> Option<String> {
    let mut shown = String::new();
    handler.render_report(&mut shown, report).ok()?;
    let is_frame = |line: &str| line.contains('╭') || line.contains(",-[");
    let frame = shown.lines().skip_while(|line| !is_frame(line));
    let frame: Vec<&str> = frame.collect();
    Some(frame.join("\n") + "\n")
}

/// What was built.
pub(crate) fn built(built: &Built) -> String {
    format!(
        "generation {} ({})\n  commit     {}\n  root       {}\n  slices     {} ({} bytes)\n  signatures {}\n",
        built.generation,
        built.order,
        built.commit,
        built.root,
        built.slices,
        built.bytes,
        built.signatures
    )
}

/// The page of a code.
pub(crate) fn page(page: &Page) -> String {
    page.text().trim_end().to_owned() + "\n"
}
