//! From sources to trees and findings.
//!
//! Nearly every file is read directly ([`plain`]). For the others a linear walk over each file ([`scan`]) finds every mistake it can name, blanks out comments and what
//! is commented out, and puts a placeholder where a value can't be read. What is left is balanced, bounded
//! in depth and almost always well-formed; only that reaches the `kdl` crate ([`lower`]), one top-level node at
//! a time, because it drops a whole document for one error and answers hostile input with exponential time or a
//! stack overflow.

#[cfg(any(test, feature = "test-util"))]
pub(crate) mod agreement;
pub(crate) mod extent;
pub(crate) mod lexeme;
mod lower;
mod plain;
mod scan;
mod trap;
mod work;

use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

use self::plain::{Plain, plain};
use self::scan::{Scan, scan};
use crate::diagnostic::code;
use crate::source::{Content, KEY_SET_SUFFIX};
use crate::{Diagnostic, FileId, Node, SourceSet, Span, Tree, limits};

/// Parses every file of the set: one tree per file, in their order, and the findings sorted by file and position.
///
/// Each mistake is one finding. What surrounds it is still in the tree, with the value that was probably meant in its
/// place, so that later stages do not report its consequences.
pub fn parse(sources: &SourceSet) -> (Vec<Tree>, Vec<Diagnostic>) {
    let parsed = parse_again(sources, None);
    (parsed.trees, parsed.diagnostics)
}

/// What was parsed of some sources.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// One tree per file, in their order.
    pub trees: Vec<Tree>,
    /// Sorted by file and position.
    pub diagnostics: Vec<Diagnostic>,
    /// For each file how much it holds, as [`limits::ITEMS_MAX`] counts it.
    items: Vec<usize>,
}

/// [`parse`], but a file that is where it was and what it was is not read again.
pub fn parse_again(sources: &SourceSet, earlier: Option<(&SourceSet, Parsed)>) -> Parsed {
    let mut known: Vec<Option<Plain>> = sources.files().map(|_| None).collect();
    if let Some((old, parsed)) = earlier {
        let mut faulty: Vec<FileId> = parsed.diagnostics.iter().map(|d| d.span.file).collect();
        faulty.sort_unstable();
        for ((tree, items), known) in parsed.trees.into_iter().zip(parsed.items).zip(&mut known) {
            let file = tree.file;
            let same = sources.text(file).is_some() && sources.is_same(old, file);
            if same && faulty.binary_search(&file).is_err() {
                *known = Some(Plain {
                    nodes: tree.nodes,
                    items,
                });
            }
        }
    }
    parse_here(sources, known)
}

/// The nodes of one file of a set, and what is wrong in it.
pub fn parse_file(sources: &SourceSet, file: FileId) -> (Vec<Node>, Vec<Diagnostic>) {
    match read_file(sources, file) {
        Read::Refused(refused) => (Vec::new(), vec![*refused]),
        Read::Plain(plain) => (plain.nodes, Vec::new()),
        Read::Scanned(mut scan) => {
            let mut diagnostics = std::mem::take(&mut scan.diagnostics);
            let nodes = on_deep_stack(|| {
                let lowered = scan
                    .chunks
                    .iter()
                    .map(|chunk| lower::lower(file, &scan, chunk));
                let (nodes, found): (Vec<_>, Vec<_>) = lowered.unzip();
                diagnostics.extend(found.into_iter().flatten());
                nodes.into_iter().flatten().collect()
            });
            (nodes, few_of_each_file(diagnostics))
        }
    }
}

fn parse_here(sources: &SourceSet, known: Vec<Option<Plain>>) -> Parsed {
    let files: Vec<FileId> = sources.files().collect();
    let mut diagnostics = Vec::new();
    if let Some(first_over) = files.get(limits::FILES_MAX) {
        diagnostics.push(too_many_files(*first_over, files.len()));
    }
    let files = files.get(..limits::FILES_MAX).unwrap_or(&files);

    let reads: Vec<Read> = files
        .par_iter()
        .zip(known)
        .map(|(file, known)| known.map_or_else(|| read_file(sources, *file), Read::Plain))
        .collect();
    let counted: Vec<usize> = reads.iter().map(Read::items).collect();
    let mut trees: Vec<Tree> = sources
        .files()
        .map(|file| Tree {
            file,
            nodes: Vec::new(),
        })
        .collect();
    let mut scans = Vec::new();
    let mut items_left = limits::ITEMS_TOTAL_MAX;
    for (file, read) in files.iter().zip(reads) {
        let items = read.items();
        if items > items_left {
            diagnostics.push(too_many_items(*file));
        }
        match read {
            Read::Refused(refused) => diagnostics.push(*refused),
            Read::Plain(plain) if items <= items_left => {
                if let Some(tree) = trees.get_mut(file.index()) {
                    tree.nodes = plain.nodes;
                }
            }
            Read::Plain(_) => {}
            Read::Scanned(mut scan) => {
                diagnostics.append(&mut scan.diagnostics);
                if items > items_left {
                    scan.chunks.clear();
                }
                scans.push((*file, scan));
            }
        }
        items_left = items_left.saturating_sub(items);
    }

    let chunks: Vec<_> = scans
        .iter()
        .flat_map(|(file, scan)| scan.chunks.iter().map(move |chunk| (*file, scan, chunk)))
        .collect();
    // Only the `kdl` crate needs a deep stack; memory that other threads allocated would not serve the rest of the run.
    let lowered: Vec<(FileId, Vec<Node>, Vec<Diagnostic>)> = if chunks.is_empty() {
        Vec::new()
    } else {
        on_deep_stack(|| {
            let lowered = chunks.par_iter().map(|(file, scan, chunk)| {
                let (nodes, found) = lower::lower(*file, scan, chunk);
                (*file, nodes, found)
            });
            lowered.collect()
        })
    };
    for (file, nodes, found) in lowered {
        if let Some(tree) = trees.get_mut(file.index()) {
            tree.nodes.extend(nodes);
        }
        diagnostics.extend(found);
    }
    let diagnostics = few_of_each_file(diagnostics);
    Parsed {
        trees,
        diagnostics,
        items: counted,
    }
}

/// Sorts findings, and leaves out those of a file that has too many of them. The walk counts its own; what is found
/// after it, such as properties given again and again, adds to them.
fn few_of_each_file(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    let mut few = Vec::with_capacity(diagnostics.len());
    for of_file in diagnostics.chunk_by(|a, b| a.span.file == b.span.file) {
        let shown = of_file.get(..limits::FINDINGS_MAX).unwrap_or(of_file);
        few.extend_from_slice(shown);
        let rest = of_file.get(shown.len()..).unwrap_or_default();
        let Some(first) = rest.first() else { continue };
        let told = |finding: &&Diagnostic| finding.code == code::LIMIT_EXCEEDED.code;
        match rest.iter().find(told) {
            Some(told) => few.push(told.clone()),
            None if of_file.iter().any(|finding| told(&finding)) => {}
            None => few.push(trap::more_findings(first.span)),
        }
    }
    few
}

/// A file as far as it could be read on its own.
enum Read {
    /// It has no text; why.
    Refused(Box<Diagnostic>),
    /// Whole.
    Plain(Plain),
    /// Walked over, its nodes not yet read.
    Scanned(Scan),
}

impl Read {
    fn items(&self) -> usize {
        match self {
            Self::Refused(_) => 0,
            Self::Plain(plain) => plain.items,
            Self::Scanned(scan) => scan.items,
        }
    }
}

fn read_file(sources: &SourceSet, file: FileId) -> Read {
    let start = Span::new(file, 0, 0);
    let refused = |finding| Read::Refused(Box::new(finding));
    match sources.content(file) {
        Some(Content::Text { .. }) if sources.path(file).ends_with(KEY_SET_SUFFIX) => {
            Read::Scanned(Scan::default())
        }
        Some(Content::Text { text, invalid, .. }) => {
            let plain = invalid.is_empty().then(|| plain(file, text, 0..text.len()));
            match plain.flatten() {
                Some(plain) => Read::Plain(plain),
                // Each half of a line would be a mistake of its own.
                None => match merge_conflict(text) {
                    Some(marker) => refused(trap::merge_conflict(Span::new(
                        file,
                        marker.start,
                        marker.end,
                    ))),
                    None => Read::Scanned(scan(file, text, invalid)),
                },
            }
        }
        Some(Content::Utf16) => refused(trap::utf16(start)),
        Some(Content::TooLarge { bytes }) => refused(too_large(start, *bytes)),
        Some(Content::Refused { why }) => refused(Diagnostic::error(
            code::OUTSIDE_REPOSITORY,
            start,
            why.clone(),
        )),
        Some(Content::Passed { why }) => refused(Diagnostic::warning(
            code::OUTSIDE_REPOSITORY,
            start,
            why.clone(),
        )),
        // The file comes from the set's own list.
        None => Read::Scanned(Scan::default()),
    }
}

/// The first line that begins a conflict as a merge leaves it, if the lines that divide and end it follow.
fn merge_conflict(text: &str) -> Option<Range<usize>> {
    const BEGINS: &str = "<<<<<<<";
    let mut rest = [BEGINS, "=======", ">>>>>>>"].into_iter().peekable();
    let mut begins = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let marks = rest.peek().copied()?;
        let marked = line.strip_prefix(marks);
        if marked.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\r', '\n'])) {
            rest.next();
            begins.get_or_insert_with(|| at..at + line.trim_end().len());
            if rest.peek().is_none() {
                return begins;
            }
        }
        at += line.len();
    }
    None
}

fn too_large(start: Span, bytes: u64) -> Diagnostic {
    let message = if bytes > limits::FILE_BYTES_MAX as u64 {
        format!(
            "this file has {bytes} bytes; a policy file may have {}",
            limits::FILE_BYTES_MAX
        )
    } else {
        format!(
            "with this file the policies have more than {} bytes together",
            limits::TOTAL_BYTES_MAX
        )
    };
    Diagnostic::error(code::LIMIT_EXCEEDED, start, message)
        .help("split the file, or move what is not policy out of the policy root")
}

fn too_many_files(first_over: FileId, count: usize) -> Diagnostic {
    let message = format!(
        "the policy root has {count} files; it may have {}",
        limits::FILES_MAX
    );
    Diagnostic::error(code::LIMIT_EXCEEDED, Span::new(first_over, 0, 0), message)
        .help("split it into several policy roots")
}

fn too_many_items(file: FileId) -> Diagnostic {
    let message = format!(
        "with this file the policies have more than {} nodes and values together",
        limits::ITEMS_TOTAL_MAX
    );
    Diagnostic::error(code::LIMIT_EXCEEDED, Span::new(file, 0, 0), message)
        .help("split them into several policy roots")
}

/// Runs on a pool whose threads have [`limits::STACK_BYTES`] of stack, made once per process.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    static POOL: OnceLock<Option<rayon::ThreadPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        rayon::ThreadPoolBuilder::new()
            .stack_size(limits::STACK_BYTES)
            .thread_name(|index| format!("mesh-syntax-{index}"))
            .build()
            .ok()
    });
    match pool {
        Some(pool) => pool.install(work),
        // No thread could be started. The nesting bound also fits an ordinary stack.
        None => work(),
    }
}

#[cfg(test)]
mod tests;
