//! A comparison in a terminal.

use super::{Cell, Piece, Section, sections, summary};
use crate::difference::{Difference, Side};

/// Entries of a section that are told; a program reads them all.
const ENTRIES_MAX: usize = 40;
/// A cell as wide as this does not push what comes after it further to the right.
const CELL_MAX: usize = 48;

/// `meshc diff`
pub(crate) fn human(found: &Difference) -> String {
    let mut text = Lines(String::new());
    text.add(&format!("{} → {}", side(&found.base), side(&found.head)));
    if let (Some(old), Some(new)) = (&found.base.root, &found.head.root)
        && old != new
    {
        text.add(&format!("The policy root moved from `{old}` to `{new}`."));
    }
    for (side, change) in [(&found.base, "added"), (&found.head, "removed")] {
        if side.root.is_none() {
            text.add(&format!(
                "{} has no policies: everything is {change}.",
                side.name
            ));
        }
    }
    if found.no_change {
        text.add("");
        text.add(if found.same_files {
            "No change: the policy files are the same."
        } else {
            "No change: the files differ, and mean the same."
        });
        return text.0;
    }
    for (names, change) in [
        (&found.environments_added, "new"),
        (&found.environments_removed, "gone"),
    ] {
        if !names.is_empty() {
            text.add(&format!(
                "Environments that are {change}: {}",
                names.join(", ")
            ));
        }
    }
    let sections = sections(found);
    for section in &sections {
        text.section(section);
    }
    text.add("");
    text.add(&summary(found, &sections));
    text.0
}

fn side(side: &Side) -> String {
    match &side.commit {
        Some(commit) if !commit.starts_with(&side.name) => {
            format!("{} ({})", side.name, commit.get(..7).unwrap_or(commit))
        }
        _ => side.name.clone(),
    }
}

fn plain(cell: &Cell) -> String {
    let pieces = cell.iter().map(|piece| match piece {
        Piece::Text(text) => text,
        Piece::Said(text) => text.as_str(),
    });
    pieces.collect()
}

struct Lines(String);

impl Lines {
    fn add(&mut self, line: &str) {
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    fn section(&mut self, section: &Section) {
        self.add("");
        self.add(&format!("{} ({})", section.title, section.entries.len()));
        let entries = section
            .entries
            .get(..ENTRIES_MAX)
            .unwrap_or(&section.entries);
        let rows: Vec<Vec<String>> = entries
            .iter()
            .map(|entry| entry.cells.iter().map(plain).collect())
            .collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let wide = |cell: &String| cell.chars().count();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells
                .map(wide)
                .filter(|wide| *wide <= CELL_MAX)
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (row, entry) in rows.iter().zip(entries) {
            let mut line = String::from("  ");
            for (cell, width) in row.iter().zip(&widths) {
                let padding = width.saturating_sub(wide(cell)) + 3;
                line.extend([cell.as_str(), &" ".repeat(padding)]);
            }
            self.add(&line);
            for detail in &entry.details {
                self.add(&format!("      {}", plain(detail)));
            }
        }
        if let Some(more) = section.entries.len().checked_sub(ENTRIES_MAX)
            && more > 0
        {
            self.add(&format!(
                "  … and {more} more; --format json has all of them"
            ));
        }
    }
}
