//! What [`concrete`](super::concrete) read, laid out: four spaces for each level, a setting on each line, `//` comments
//! of neighbouring lines below each other.

use super::concrete::{Block, Item, Part};
use crate::limits::FORMAT_COLUMNS;

const INDENT: usize = 4;
/// Comments of neighbouring lines are aligned where this many columns, at most, have to be filled for it.
const ALIGNED_ACROSS: usize = 32;

/// Prints a file whose lines end with `newline`.
pub(super) fn print(file: &Block<'_>, newline: &'static str) -> String {
    let mut printer = Printer {
        newline,
        out: String::new(),
        column: 0,
        lines: 0,
        trailing: Vec::new(),
    };
    printer.items(&file.items, 0);
    printer.finish()
}

struct Printer<'a> {
    newline: &'static str,
    /// Without the comments of `trailing`.
    out: String,
    /// How far the line reaches that is being written.
    column: usize,
    /// How many lines are written.
    lines: usize,
    trailing: Vec<Trailing<'a>>,
}

/// A comment at the end of a line.
struct Trailing<'a> {
    /// Where it belongs in the output.
    at: usize,
    /// How far the line reaches without it.
    columns: usize,
    comment: &'a str,
    /// Whether the line before has one too, and both are lines of neighbours.
    follows: bool,
}

impl<'a> Printer<'a> {
    fn items(&mut self, items: &[Item<'a>], level: usize) {
        let parted = if level == 0 {
            parted(items)
        } else {
            Vec::new()
        };
        let mut aligned = false;
        for (index, item) in items.iter().enumerate() {
            if item.blank_before || parted.get(index) == Some(&true) {
                self.newline();
                aligned = false;
            }
            self.indent(level);
            let lines = self.lines;
            if !self.flat_item(item) {
                self.item(item, level);
            }
            let single = self.lines == lines;
            if let Some(comment) = item.trailing {
                self.trailing.push(Trailing {
                    at: self.out.len(),
                    columns: self.column,
                    comment,
                    follows: aligned && single,
                });
            }
            aligned = single && item.trailing.is_some();
            self.newline();
        }
    }

    /// Writes an item on the rest of the line, if its author did and it fits.
    fn flat_item(&mut self, item: &Item<'_>) -> bool {
        self.flat(|out, room| flat(item, out, room))
    }

    fn flat(&mut self, write: impl FnOnce(&mut String, &mut usize) -> bool) -> bool {
        let begin = self.out.len();
        let room = FORMAT_COLUMNS.saturating_sub(self.column);
        let mut left = room;
        let fits = write(&mut self.out, &mut left);
        if fits {
            self.column += room - left;
        } else {
            self.out.truncate(begin);
        }
        fits
    }

    /// Writes an item on as many lines as it needs.
    fn item(&mut self, item: &Item<'a>, level: usize) {
        // A node keeps its first value beside its name.
        let first_break = item.name.map_or(usize::MAX, |name| name + 2);
        let mut begins_line = true;
        let mut blocks = false;
        for (index, part) in item.parts.iter().enumerate() {
            match part {
                Part::Text(text) => {
                    let next = item.parts.get(index + 1);
                    let brace = match next {
                        Some(Part::Block { block, .. }) if is_empty(block) => " {}".len(),
                        Some(Part::Block { .. }) => " {".len(),
                        _ => 0,
                    };
                    let first_line = text.lines().next().unwrap_or_default();
                    let breaks = index >= first_break && !begins_line && !blocks;
                    if breaks && self.column + 1 + columns(first_line) + brace > FORMAT_COLUMNS {
                        self.continued(None, level);
                        begins_line = true;
                    }
                    self.space(begins_line);
                    self.text(text);
                    begins_line = false;
                }
                Part::Break(comment) => {
                    self.continued(*comment, level);
                    begins_line = true;
                }
                Part::Block { out, block } => {
                    self.space(begins_line);
                    self.block(*out, block, level);
                    blocks |= !out;
                    begins_line = false;
                }
            }
        }
    }

    fn block(&mut self, out: bool, block: &Block<'a>, level: usize) {
        if self.flat(|text, room| flat_block(out, block, text, room)) {
            return;
        }
        self.text(if out { "/-{" } else { "{" });
        if let Some(comment) = block.opening {
            self.text(" ");
            self.text(comment);
        }
        self.newline();
        self.items(&block.items, level + 1);
        self.indent(level);
        self.text("}");
    }

    /// Ends a line that goes on.
    fn continued(&mut self, comment: Option<&str>, level: usize) {
        self.text(" \\");
        if let Some(comment) = comment {
            self.text(" ");
            self.text(comment);
        }
        self.newline();
        self.indent(level + 1);
    }

    fn space(&mut self, begins_line: bool) {
        if !begins_line {
            self.text(" ");
        }
    }

    fn indent(&mut self, level: usize) {
        let spaces = level * INDENT;
        self.out.extend(std::iter::repeat_n(' ', spaces));
        self.column += spaces;
    }

    /// Writes a text as it is, be it on several lines.
    fn text(&mut self, text: &str) {
        self.out.push_str(text);
        match text.rsplit_once(['\n', '\r']) {
            Some((_, last)) => {
                self.lines += 1;
                self.column = columns(last);
            }
            None => self.column += columns(text),
        }
    }

    fn newline(&mut self) {
        self.out.push_str(self.newline);
        self.lines += 1;
        self.column = 0;
    }

    /// Puts the comments at the ends of their lines.
    fn finish(self) -> String {
        let mut whole = String::with_capacity(self.out.len() * 2);
        let mut copied = 0;
        for run in self.trailing.chunk_by(|_, next| next.follows) {
            let widths = run.iter().map(|each| each.columns);
            let (least, most) = (widths.clone().min(), widths.max());
            let (least, most) = (least.unwrap_or(0), most.unwrap_or(0));
            let align = most - least <= ALIGNED_ACROSS;
            for each in run {
                whole.push_str(self.out.get(copied..each.at).unwrap_or_default());
                let fill = if align { most - each.columns } else { 0 };
                whole.extend(std::iter::repeat_n(' ', fill + 1));
                whole.push_str(each.comment);
                copied = each.at;
            }
        }
        whole.push_str(self.out.get(copied..).unwrap_or_default());
        whole
    }
}

/// For each top-level item whether a blank line goes before it: definitions of several lines, with the comments that
/// stand on them, are kept apart from what is around them.
fn parted(items: &[Item<'_>]) -> Vec<bool> {
    let long: Vec<bool> = items.iter().map(is_long).collect();
    let mut leads = vec![false; items.len()];
    for index in (0..items.len()).rev() {
        let next = items.get(index + 1);
        let goes_on = next.is_some_and(|next| !next.blank_before)
            && leads.get(index + 1).copied().unwrap_or(false);
        let is_comment = items.get(index).is_some_and(|item| item.name.is_none());
        let is_long = long.get(index).copied().unwrap_or(false);
        if let Some(leads) = leads.get_mut(index) {
            *leads = is_long || (is_comment && goes_on);
        }
    }
    let before = std::iter::once(None).chain(items.iter().zip(&long).map(Some));
    before
        .zip(leads)
        .map(|(before, leads)| {
            before.is_some_and(|(before, is_long)| before.name.is_some() && (*is_long || leads))
        })
        .collect()
}

/// Whether a node takes several lines because of a block.
fn is_long(item: &Item<'_>) -> bool {
    let mut room = FORMAT_COLUMNS;
    let has_block = item
        .parts
        .iter()
        .any(|part| matches!(part, Part::Block { .. }));
    item.name.is_some() && has_block && !flat(item, &mut String::new(), &mut room)
}

/// Writes an item on one line, as far as there is room for it.
fn flat(item: &Item<'_>, out: &mut String, room: &mut usize) -> bool {
    for (index, part) in item.parts.iter().enumerate() {
        if index > 0 && !put(" ", out, room) {
            return false;
        }
        let fits = match part {
            Part::Text(text) => put(text, out, room),
            Part::Break(_) => false,
            Part::Block { out: is_out, block } => flat_block(*is_out, block, out, room),
        };
        if !fits {
            return false;
        }
    }
    true
}

fn flat_block(is_out: bool, block: &Block<'_>, out: &mut String, room: &mut usize) -> bool {
    if !(block.one_line || is_empty(block)) || !put(if is_out { "/-{" } else { "{" }, out, room) {
        return false;
    }
    if is_empty(block) {
        return put("}", out, room);
    }
    let mut before = " ";
    for item in &block.items {
        if !put(before, out, room) || !flat(item, out, room) {
            return false;
        }
        before = if item.name.is_some() { "; " } else { " " };
    }
    put(" }", out, room)
}

fn put(text: &str, out: &mut String, room: &mut usize) -> bool {
    let width = text.chars().take(*room + 1).count();
    if width > *room || text.contains(['\n', '\r']) {
        return false;
    }
    *room -= width;
    out.push_str(text);
    true
}

fn is_empty(block: &Block<'_>) -> bool {
    block.items.is_empty() && block.opening.is_none()
}

fn columns(text: &str) -> usize {
    text.chars().count()
}
