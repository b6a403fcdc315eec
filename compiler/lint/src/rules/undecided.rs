//! Questions that were too large to answer, said aloud: who reads no finding must know what was not looked at.

use mesh_compiler::analysis::passage::Undecided;
use mesh_compiler::analysis::request_space::CapExceeded;
use mesh_syntax::{Level, Span};

use crate::rule::{Rule, RuleContext};

/// A question without an answer.
pub(crate) struct Open {
    /// Where what is too large is written.
    pub(crate) span: Span,
    /// What is not known: `whether …`.
    pub(crate) question: String,
    /// The bound.
    pub(crate) why: CapExceeded,
}

/// Reports the questions about passages that were too large: `question` says, of a service and its route, what is not
/// known.
pub(crate) fn report_routes(
    cx: &mut RuleContext<'_>,
    rule: &Rule,
    undecided: impl IntoIterator<Item = Undecided>,
    question: impl Fn(&str, &str) -> String,
) {
    let mesh = cx.facts().mesh();
    let open = undecided.into_iter().map(|each| {
        let service = mesh.service(each.route.service);
        let route = mesh.route(each.route);
        Open {
            span: route.name.span,
            question: question(&service.name.value, &route.name.value),
            why: each.why,
        }
    });
    report(cx, rule, open);
}

/// Notes about one thing: who has that many has one reason, and mends it once.
const NOTES_MAX: usize = 8;

/// One note for each, up to a bound, and one for all others; once everything together is too large, one for all that
/// was not looked at any more.
pub(crate) fn report(
    cx: &mut RuleContext<'_>,
    rule: &Rule,
    questions: impl IntoIterator<Item = Open>,
) {
    let is_of_all = |open: &Open| matches!(open.why, CapExceeded::Effort | CapExceeded::Findings);
    let (of_all, single): (Vec<Open>, Vec<Open>) = questions.into_iter().partition(is_of_all);
    let shown = single.len().min(NOTES_MAX);
    let (single, rest) = single.split_at(shown);
    for open in single {
        note(cx, rule, open, "");
    }
    summary(cx, rule, rest);
    summary(cx, rule, &of_all);
}

fn summary(cx: &mut RuleContext<'_>, rule: &Rule, all: &[Open]) {
    let others = match all.len() {
        0 | 1 => String::new(),
        2 => ", and one more like it,".to_owned(),
        many => format!(", and {} more like it,", many - 1),
    };
    if let Some(first) = all.first() {
        note(cx, rule, first, &others);
    }
}

fn note(cx: &mut RuleContext<'_>, rule: &Rule, open: &Open, others: &str) {
    let Open {
        span,
        question,
        why,
    } = open;
    let mut finding = rule
        .at(*span, format!("{question}{others} is not known: {why}"))
        .at("not decided")
        .help("path templates and shorter regular expressions can be compared")
        .possible();
    finding.level = Level::Note;
    cx.report(finding);
}
