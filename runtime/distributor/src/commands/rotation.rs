//! `meshd rotation`

use crate::args::{Format, StatusArguments};
use crate::commands::ask::{self, AskError};
use crate::exit_code::ExitCode;
use crate::issue::ledger::Waiting;
use crate::rotation::Rotation;
use crate::status::timestamp;

/// Proxies that are named to people; formats for programs have all.
const NAMED_MAX: usize = 20;

/// Prints where a rotation stands.
pub(crate) fn run(arguments: &StatusArguments) -> ExitCode {
    ask::print(text(arguments))
}

fn text(arguments: &StatusArguments) -> Result<String, AskError> {
    let (report, json) = ask::get::<Rotation>(&arguments.socket.socket, "/rotation")?;
    Ok(match arguments.format {
        Format::Json => String::from_utf8_lossy(&json).into_owned(),
        Format::Human => human(&report),
    })
}

fn human(report: &Rotation) -> String {
    let short = |digest: &String| digest.chars().take(12).collect::<String>();
    let roots: Vec<_> = report.roots.iter().map(short).collect();
    let mut lines = vec![
        format!(
            "trust bundle {}: authorities {}",
            report.trust_bundle,
            roots.join(", ")
        ),
        format!(
            "issuing with intermediate {} below authority {}",
            short(&report.intermediate),
            short(&report.root)
        ),
        format!("{} good certificates", report.certificates),
    ];
    lines.extend(waiting(
        "have not reported this trust bundle",
        &report.without_bundle,
    ));
    lines.extend(waiting("are below another authority", &report.below_other));
    if report.held.is_empty() {
        lines.push("nothing in the trust folder waits".to_owned());
    }
    lines.extend(report.held.iter().map(|why| format!("waits: {why}")));
    lines.join("\n")
}

fn waiting(what: &str, all: &[Waiting]) -> Vec<String> {
    let mut lines = vec![format!("{} of them {what}", all.len())];
    for one in all.iter().take(NAMED_MAX) {
        lines.push(format!(
            "  {} enrolment {}, until {}",
            one.identity,
            one.enrolment,
            timestamp(one.until.saturating_mul(1000))
        ));
    }
    if all.len() > NAMED_MAX {
        lines.push(format!("  and {} more", all.len() - NAMED_MAX));
    }
    lines
}
