//! Markdown for editors that show none: what it says, without its marks.

/// The text of what was written as Markdown here: headings, code, emphasis, tables and rules.
pub(super) fn plain(markdown: &str) -> String {
    let mut text = String::with_capacity(markdown.len());
    let mut fence: Option<&str> = None;
    for line in markdown.lines() {
        let mark = line.trim_start();
        let ticks = mark.len() - mark.trim_start_matches('`').len();
        if ticks >= 3 && fence.is_none_or(|fence| mark.trim_end() == fence) {
            fence = match fence {
                None => mark.get(..ticks),
                Some(_) => None,
            };
            continue;
        }
        if fence.is_some() {
            text.extend(["    ", line]);
        } else if mark.starts_with('|') {
            if mark.contains(|char| !"|-: ".contains(char)) {
                text.push_str(&row(mark));
            } else {
                continue;
            }
        } else if mark.trim_end() != "---" {
            let heading = line.trim_start_matches('#');
            let is_heading = heading.len() < line.len() && heading.starts_with(' ');
            let line = if is_heading {
                heading.trim_start()
            } else {
                line
            };
            text.push_str(&unmarked(line));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

fn row(line: &str) -> String {
    let cells = line.trim().trim_matches('|').split('|');
    let cells: Vec<String> = cells.map(|cell| unmarked(cell.trim())).collect();
    cells.join("  ").trim_end().to_owned()
}

/// A line without the marks of code spans, and without those of emphasis outside of them.
fn unmarked(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('`') {
        let more = after.len() - after.trim_start_matches('`').len();
        let (fence, after) = ("`".repeat(more + 1), after.trim_start_matches('`'));
        let Some((code, after)) = after.split_once(&fence) else {
            break;
        };
        text.extend([&before.replace("**", ""), code]);
        rest = after;
    }
    text.push_str(&rest.replace("**", ""));
    text
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn the_marks_are_gone_and_what_they_mark_is_not() {
        for (markdown, expected) in [
            ("## What it flags\nA `route`.", "What it flags\nA route."),
            ("**service `a`** of `b`", "service a of b"),
            ("takes `/a/**` and **more**", "takes /a/** and more"),
            (
                "```kdl\nto v1 // `x`\n```\nafter",
                "    to v1 // `x`\nafter",
            ),
            (
                "| effective | | set by |\n|---|---|---|\n| timeout | `2s` | a.kdl:3 |",
                "effective    set by\ntimeout  2s  a.kdl:3",
            ),
            ("one\n\n---\n\ntwo", "one\n\n\n\ntwo"),
            ("a ` alone, **bold", "a ` alone, bold"),
            ("``a`b``", "a`b"),
            ("", ""),
        ] {
            assert_eq!(plain(markdown), expected, "{markdown}");
        }
    }
}
