//! Status and whereabouts as tables for people.

use comfy_table::{ContentArrangement, Table, presets};

use crate::revoke::Listed;
use crate::status::{HeadReport, ProxyReport, StatusReport, WhereReport};

/// The text of `meshd status`.
pub(crate) fn status(report: &StatusReport) -> String {
    let mut lines = vec![head(report.head.as_ref())];
    let reference = &report.reference;
    let tip = reference
        .tip
        .as_deref()
        .map_or_else(|| "nothing".to_owned(), short);
    lines.push(format!(
        "ref   {} at {tip}: {}",
        reference.name,
        reference.state.as_str()
    ));
    lines.extend(
        reference
            .detail
            .iter()
            .map(|detail| format!("      {}", plain(detail))),
    );
    lines.extend(
        report
            .findings
            .iter()
            .map(|finding| format!("      {}", plain(&finding.line()))),
    );
    if report.findings_omitted > 0 {
        lines.push(format!(
            "      and {} more findings",
            report.findings_omitted
        ));
    }
    lines.push(proxies(&report.proxies, false));
    lines.join("\n")
}

/// The text of `meshd where`.
pub(crate) fn whereabouts(report: &WhereReport) -> String {
    let known = match (&report.refused, report.known) {
        (_, true) => String::new(),
        (Some(why), false) => format!(" (refused: {})", plain(why)),
        (None, false) => " (not among the kept generations)".to_owned(),
    };
    let serving = report
        .proxies
        .iter()
        .filter(|proxy| proxy.serves == Some(true))
        .count();
    let total = report.proxies.len();
    format!(
        "{}\ncommit {}{known}: reported served by {serving} of {total} proxies\n{}",
        head(report.head.as_ref()),
        short(&report.commit),
        proxies(&report.proxies, true)
    )
}

/// The text of `meshd revoke --list`.
pub(crate) fn revocations(all: &[Listed]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["BY", "KIND", "SUBJECT", "ISSUED BEFORE", "SINCE", "REASON"]);
    for listed in all {
        table.add_row([
            listed.by.clone(),
            listed.kind.as_str().to_owned(),
            plain(&listed.value),
            listed
                .issued_before
                .clone()
                .unwrap_or_else(|| "ever".to_owned()),
            or_dash(listed.since.clone()),
            plain(&listed.reason),
        ]);
    }
    table.to_string()
}

fn head(head: Option<&HeadReport>) -> String {
    match head {
        Some(head) => format!(
            "head  {}.{}.{} commit {} {}, until {}",
            head.epoch,
            head.sequence,
            head.emit,
            short(&head.commit),
            short(&head.generation),
            head.expires
        ),
        None => "head  none: no commit was accepted yet".to_owned(),
    }
}

fn proxies(proxies: &[ProxyReport], with_serves: bool) -> String {
    if proxies.is_empty() {
        return "no proxy has connected".to_owned();
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    let mut header = vec![
        "WORKLOAD",
        "INSTANCE",
        "VERSION",
        "CONNECTED",
        "PHASE",
        "SEQUENCE",
        "SERVING",
        "REASON",
        "SINCE",
    ];
    if with_serves {
        header.push("SERVES");
    }
    table.set_header(header);
    for proxy in proxies {
        let mut row = vec![
            proxy.workload.clone(),
            proxy.instance.clone(),
            or_dash(proxy.version.clone()),
            yes_no(proxy.connected),
            or_dash(proxy.phase.clone()),
            or_dash(proxy.sequence.map(|sequence| sequence.to_string())),
            or_dash(proxy.serving.as_ref().map(|serving| {
                serving
                    .commit
                    .as_deref()
                    .map_or_else(|| short(&serving.generation), short)
            })),
            or_dash(proxy.reason.clone()),
            or_dash(proxy.since.clone()),
        ];
        if with_serves {
            row.push(yes_no(proxy.serves == Some(true)));
        }
        table.add_row(row);
    }
    table.to_string()
}

/// Findings name files and quote policies: whoever may push must not write to the terminal of whoever
/// looks. (What proxies say is cleaned when it arrives.)
fn plain(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            // They turn the direction of what follows.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            control if control.is_control() => '\u{fffd}',
            other => other,
        })
        .collect()
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_owned())
}

/// Commits and digests, as short as people read them out.
fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_writes_nothing_to_the_terminal() {
        let mut report = report();
        report.findings[0].file = Some("a\u{1b}[2J\n\u{202e}.kdl".to_owned());
        report.reference.detail = Some("read \u{7}".to_owned());
        let text = status(&report);
        assert!(text.contains("a\u{fffd}[2J\u{fffd}\u{fffd}.kdl"), "{text}");
        assert!(text.contains("read \u{fffd}"), "{text}");
    }
    use crate::finding::Finding;
    use crate::status::{RefReport, RefState, ServingReport};

    fn report() -> StatusReport {
        let mut finding = Finding::whole("MSH0102", "unknown word \"tiemout\"");
        finding.file = Some("mesh.kdl".to_owned());
        finding.line = Some(4);
        StatusReport {
            head: Some(HeadReport {
                sequence: 42,
                generation: "sha256:00112233445566778899".to_owned(),
                commit: "deadbeefdeadbeefdeadbeef".to_owned(),
                epoch: 0,
                emit: 1,
                issued: "2026-11-20T09:30:00Z".to_owned(),
                expires: "2026-11-20T09:40:00Z".to_owned(),
            }),
            reference: RefReport {
                name: "refs/heads/main".to_owned(),
                state: RefState::PolicyInvalid,
                tip: Some("badbadbadbadbadbad".to_owned()),
                detail: Some("the last good generation stays".to_owned()),
                since: "2026-11-20T09:31:00Z".to_owned(),
            },
            findings: vec![finding],
            findings_omitted: 2,
            proxies: vec![ProxyReport {
                workload: "reviews".to_owned(),
                identity: "spiffe://bookshop.example/service/reviews".to_owned(),
                instance: "reviews-v1".to_owned(),
                labels: vec!["version=v1".to_owned()],
                version: Some("0.1.0".to_owned()),
                connected: true,
                phase: Some("serving".to_owned()),
                sequence: Some(42),
                slice: None,
                reason: None,
                detail: None,
                since: Some("2026-11-20T09:30:01Z".to_owned()),
                serving: Some(ServingReport {
                    generation: "sha256:00112233445566778899".to_owned(),
                    sequence: Some(42),
                    commit: Some("deadbeefdeadbeefdeadbeef".to_owned()),
                    swap_ns: Some(900),
                }),
                serves: None,
            }],
        }
    }

    #[test]
    fn a_refused_commit_shows_its_findings() {
        let text = status(&report());
        let expected = [
            "head  0.42.1 commit deadbeefdead 001122334455, until 2026-11-20T09:40:00Z",
            "ref   refs/heads/main at badbadbadbad: policy_invalid",
            "      the last good generation stays",
            "      mesh.kdl:4: unknown word \"tiemout\" [MSH0102]",
            "      and 2 more findings",
        ];
        assert!(text.starts_with(&expected.join("\n")), "{text}");
        assert!(text.contains("reviews-v1"), "{text}");
    }

    #[test]
    fn whereabouts_count_the_proxies() {
        let mut status = report();
        for proxy in &mut status.proxies {
            proxy.serves = Some(false);
            proxy.reason = Some("unsigned".to_owned());
        }
        let text = whereabouts(&WhereReport {
            head: None,
            commit: "cafe".to_owned(),
            known: false,
            refused: None,
            proxies: status.proxies.clone(),
        });
        assert!(
            text.contains(
                "commit cafe (not among the kept generations): reported served by 0 of 1 proxies"
            ),
            "{text}"
        );
        assert!(text.contains("unsigned"), "{text}");
        let text = whereabouts(&WhereReport {
            head: None,
            commit: "cafe".to_owned(),
            known: false,
            refused: Some("a.kdl:3: routes overlap [MSH0204]".to_owned()),
            proxies: status.proxies,
        });
        let refused = "commit cafe (refused: a.kdl:3: routes overlap [MSH0204]): reported";
        assert!(text.contains(refused), "{text}");
    }
}
