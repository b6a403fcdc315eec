//! The status as a read-only page for a browser. Every text in it may be a stranger's choice, so all
//! of it is escaped; it runs no script and loads nothing.

use std::fmt::Write as _;

use crate::status::{ProxyReport, RefState, StatusReport};

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<meta http-equiv=\"refresh\" content=\"2\"><meta name=\"viewport\" content=\"width=device-width\">\
<title>mesh status</title><style>\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.3rem}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.35rem .7rem;border-bottom:1px solid #8884}\
th{font-weight:600}td.number{text-align:right;font-variant-numeric:tabular-nums}\
code{font-family:ui-monospace,monospace}.bad{color:#c0392b}.good{color:#1e8449}\
.note{border-left:4px solid #c0392b;padding:.3rem .8rem;margin:1rem 0}\
</style><h1>Mesh status</h1>";

/// The whole page.
pub(crate) fn render(report: &StatusReport) -> String {
    let mut page = HEAD.to_owned();
    // Writing to a string cannot fail.
    let _infallible = body(&mut page, report);
    page
}

fn body(page: &mut String, report: &StatusReport) -> std::fmt::Result {
    match &report.head {
        Some(head) => write!(
            page,
            "<p>Head: generation <b>{}</b>, commit <code>{}</code>, of <code>{}</code></p>",
            head.sequence,
            short(&head.commit),
            escaped(&report.reference.name),
        )?,
        None => write!(page, "<p>Head: none, no commit was accepted yet</p>")?,
    }
    if !matches!(
        report.reference.state,
        RefState::Following | RefState::Starting
    ) {
        refusal(page, report)?;
    }
    write!(
        page,
        "<table><tr><th>workload<th>instance<th>phase<th>generation<th>reason<th>since"
    )?;
    for proxy in &report.proxies {
        row(page, proxy)?;
    }
    write!(page, "</table>")?;
    if report.proxies.is_empty() {
        write!(page, "<p>No proxy has connected.</p>")?;
    }
    Ok(())
}

fn refusal(page: &mut String, report: &StatusReport) -> std::fmt::Result {
    let reference = &report.reference;
    write!(
        page,
        "<div class=\"note\">Commit <code>{}</code> changes nothing (<b>{}</b>). {}",
        short(reference.tip.as_deref().unwrap_or_default()),
        reference.state.as_str(),
        escaped(reference.detail.as_deref().unwrap_or_default()),
    )?;
    for finding in &report.findings {
        write!(page, "<br><code>{}</code>", escaped(&finding.line()))?;
    }
    write!(page, "</div>")
}

fn row(page: &mut String, proxy: &ProxyReport) -> std::fmt::Result {
    let class = if proxy.connected { "good" } else { "bad" };
    let phase = proxy.phase.as_deref().unwrap_or("-");
    let phase = if proxy.connected {
        phase.to_owned()
    } else {
        format!("{phase}, not connected")
    };
    let sequence = proxy
        .serving
        .as_ref()
        .and_then(|serving| serving.sequence)
        .map_or_else(|| "-".to_owned(), |sequence| sequence.to_string());
    write!(
        page,
        "<tr><td>{}<td>{}<td class=\"{class}\">{}<td class=\"number\">{sequence}<td>{}<td>{}",
        escaped(&proxy.workload),
        escaped(&proxy.instance),
        escaped(&phase),
        escaped(proxy.reason.as_deref().unwrap_or("-")),
        escaped(proxy.since.as_deref().unwrap_or("-")),
    )
}

/// The beginning of a commit id, which is hexadecimal.
fn short(commit: &str) -> String {
    escaped(&commit.chars().take(10).collect::<String>())
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_stranger_wrote_is_markup() {
        assert_eq!(
            escaped("<script>\"x\"&'\u{1b}"),
            "&lt;script&gt;&quot;x&quot;&amp;&#39;\u{fffd}"
        );
    }
}
