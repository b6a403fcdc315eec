//! What an editor can fold away: blocks, and comments of several lines.

use mesh_syntax::{FileId, Node};

use crate::policies::Policies;

/// Bytes that can be folded to one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Whether it is a comment.
    pub comment: bool,
}

/// Everything of a file that can be folded, ascending.
pub fn folds(policies: &Policies, file: FileId) -> Vec<Fold> {
    let mut found = Vec::new();
    if let Some(tree) = policies.tree(file) {
        blocks(&tree.nodes, &mut found);
    }
    if let Some(text) = policies.sources().text(file) {
        comments(text, &mut found);
    }
    found.sort_by_key(|fold| (fold.start, fold.end));
    found
}

fn blocks(nodes: &[Node], found: &mut Vec<Fold>) {
    for node in nodes.iter().filter(|node| node.has_block) {
        let range = node.span.range();
        found.push(Fold {
            start: range.start,
            end: range.end,
            comment: false,
        });
        blocks(&node.children, found);
    }
}

/// Lines in a row that hold nothing but a comment.
fn comments(text: &str, found: &mut Vec<Fold>) {
    let mut run: Option<(Fold, usize)> = None;
    let mut start = 0;
    for line in text.split_inclusive('\n').chain([""]) {
        let end = start + line.trim_end().len();
        if line.trim_start().starts_with("//") {
            let (fold, lines) = run.get_or_insert((
                Fold {
                    start,
                    end,
                    comment: true,
                },
                0,
            ));
            fold.end = end;
            *lines += 1;
        } else {
            found.extend(
                run.take()
                    .filter(|(_, lines)| *lines > 1)
                    .map(|(fold, _)| fold),
            );
        }
        start += line.len();
    }
}
