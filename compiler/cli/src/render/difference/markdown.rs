//! A comparison as a comment on a pull request: short, the same for the same change, bounded, and without a way for
//! anybody's names to become markup. Whatever policies say stands in code spans, where nothing is read as anything else.

use super::{Cell, Entry, Piece, Section, sections, summary};
use crate::difference::Difference;
use crate::render::shown::escaped;

/// The first line, by which whoever posts the comment finds the one to replace.
const MARKER: &str = "<!-- meshc diff -->";
/// Bytes of a comment: hosting services refuse more than 65,536 characters, and what checks and tests say shares them.
const BYTES_MAX: usize = 28_000;
/// Entries of a section that are told at all: as many as fit …
const ENTRIES_MAX: [usize; 4] = [50, 20, 8, 3];
/// … and without a click.
const OPEN_MAX: usize = 8;
/// Characters of a code span.
const SPAN_MAX: usize = 300;

/// `meshc diff --format markdown`
pub(crate) fn markdown(found: &Difference) -> String {
    if found.no_change {
        return String::new();
    }
    let sections = sections(found);
    let is_danger = sections.iter().any(|section| section.is_danger);
    let mut text = format!(
        "{MARKER}\n### {}Mesh policy changes\n\n{}\n",
        if is_danger { "⚠️ " } else { "" },
        summary(found, &sections)
    );
    for (names, change) in [
        (&found.environments_added, "new"),
        (&found.environments_removed, "gone"),
    ] {
        if !names.is_empty() {
            let line = format!(
                "\nEnvironments that are {change}: {}\n",
                code(&names.join(", "))
            );
            text.push_str(&line);
        }
    }
    let mut left_out = 0;
    for section in &sections {
        // The gravest come first and take the room that they need; what is left of them still says how many they are.
        let parts = ENTRIES_MAX
            .into_iter()
            .map(|most| self::section(section, most));
        match parts
            .into_iter()
            .find(|part| text.len() + part.len() <= BYTES_MAX)
        {
            Some(part) => text.push_str(&part),
            None => left_out += section.entries.len(),
        }
    }
    if left_out > 0 {
        let line = format!("\n{left_out} more do not fit here: `meshc diff` tells all of them.\n");
        text.push_str(&line);
    }
    text
}

fn section(section: &Section, most: usize) -> String {
    let title = format!("{} ({})", section.title, section.entries.len());
    let shown = section.entries.get(..most).unwrap_or(&section.entries);
    let open = if section.is_danger || section.entries.len() <= OPEN_MAX {
        shown.len().min(OPEN_MAX)
    } else {
        0
    };
    let (first, rest) = shown.split_at(open);
    let more = match section.entries.len() - shown.len() {
        0 => String::new(),
        more => format!("- … and {more} more\n"),
    };
    let mut text = String::new();
    if !first.is_empty() {
        let more = if rest.is_empty() { more.as_str() } else { "" };
        text = format!("\n#### {title}\n\n{}{more}", list(first));
    }
    if !rest.is_empty() {
        let summary = if first.is_empty() {
            title
        } else {
            format!("{} more", section.entries.len() - first.len())
        };
        let list = list(rest);
        text = format!(
            "{text}\n<details>\n<summary>{summary}</summary>\n\n{list}{more}\n</details>\n"
        );
    }
    text
}

fn list(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let cells = entry.cells.iter().filter(|cell| !cell.is_empty());
        let cells: Vec<String> = cells.map(line).collect();
        text.extend(["- ", &cells.join(" · "), "\n"]);
        for detail in &entry.details {
            text.extend(["  - ", &line(detail), "\n"]);
        }
    }
    text
}

fn line(cell: &Cell) -> String {
    let pieces = cell.iter().map(|piece| match piece {
        Piece::Text(text) => (*text).to_owned(),
        Piece::Said(text) => code(text),
    });
    pieces.collect()
}

/// A code span that holds the text whatever is in it.
fn code(text: &str) -> String {
    let text = escaped(text).replace(['\n', '\t'], " ");
    let mut text = text.as_str().trim().to_owned();
    if let Some((end, _)) = text.char_indices().nth(SPAN_MAX) {
        text.truncate(end);
        text.push('…');
    }
    if text.is_empty() {
        return String::new();
    }
    let runs = text.split(|char| char != '`').map(str::len);
    let fence = "`".repeat(runs.max().unwrap_or(0) + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') {
        " "
    } else {
        ""
    };
    format!("{fence}{pad}{text}{pad}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::{Setting, Slice};

    #[test]
    fn nothing_is_said_of_no_change() {
        let found = Difference {
            no_change: true,
            ..Difference::default()
        };
        assert_eq!(markdown(&found), "");
    }

    #[test]
    fn words_of_policies_are_never_markup() {
        assert_eq!(code("a|b <b> @team"), "`a|b <b> @team`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`x`"), "`` `x` ``");
        assert_eq!(code("a\n# b\u{202e}"), "`a # b\\u{202e}`");
    }

    #[test]
    fn a_comment_always_fits() {
        let setting = |index: usize| Setting {
            service: Some(format!("service-{index}")),
            name: "x".repeat(500),
            may_widen: false,
            before: Some("`".repeat(900)),
            after: Some("y".repeat(900)),
            source: None,
            environments: Vec::new(),
        };
        let slice = |index: usize| Slice {
            workload: format!("spiffe://m.example/service/{index}-{}", "z".repeat(500)),
            before: None,
            after: None,
            bytes: 1,
            bytes_before: None,
            environments: Vec::new(),
        };
        let found = Difference {
            settings: (0..10_000).map(setting).collect(),
            slices: (0..10_000).map(slice).collect(),
            ..Difference::default()
        };
        let text = markdown(&found);
        assert!(text.len() < BYTES_MAX + 200, "{}", text.len());
        assert!(
            text.starts_with(MARKER) && text.contains("… and 99"),
            "{text}"
        );
        assert_eq!(
            text.matches("<details>").count(),
            text.matches("</details>").count()
        );
    }
}
