//! The linear walk over one file: finds mistakes, blanks what is no data and splits the text into top-level nodes.
//!
//! Positions never move: whatever is taken out is replaced byte by byte.

mod slashdash;
mod value;

use std::collections::BTreeMap;
use std::ops::Range;

use super::extent::{Until, after_spaces, skip};
use super::lexeme::{
    Class, block_comment_end, class_at, is_disallowed, line_end, quoted_at, run_end, word_end,
};
use super::{trap, work};
use crate::{Diagnostic, FileId, Span, Value, limits};

/// What the walk leaves for the parser.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The text with blanks for comments and placeholders for what can't be read.
    pub(super) clean: String,
    /// The top-level nodes.
    pub(super) chunks: Vec<Chunk>,
    /// What the placeholders stand for, by position.
    pub(super) recovered: BTreeMap<usize, Value>,
    /// Nodes, arguments and properties met.
    pub(super) items: usize,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// A range of [`Scan::clean`] that holds whole top-level nodes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) range: Range<usize>,
    /// How many closing braces are missing at its end.
    pub(super) missing_closes: usize,
}

/// Walks over a file. `invalid` are the positions of bytes that were no UTF-8.
pub(super) fn scan(file: FileId, text: &str, invalid: &[u32]) -> Scan {
    let mut diagnostics = Vec::new();
    if let Some(first) = invalid.first() {
        let at = *first as usize;
        diagnostics.push(trap::invalid_utf8(
            Span::new(file, at, at + 1),
            invalid.len(),
        ));
    }
    let text = without_disallowed(file, text, &mut diagnostics);
    let mut scanner = Scanner {
        file,
        clean: text.as_bytes().to_vec(),
        text: &text,
        at: 0,
        spaced: true,
        commas_are_spaces_until: 0,
        state: State::Node,
        opened: Vec::new(),
        line: (0, 0),
        chunk: None,
        indented: false,
        misaligned: None,
        resume: None,
        resumptions: 0,
        found: Scan {
            diagnostics,
            ..Scan::default()
        },
    };
    scanner.run();
    scanner.finish()
}

/// Puts a harmless character for each forbidden one, and reports one finding per kind.
fn without_disallowed(file: FileId, text: &str, diagnostics: &mut Vec<Diagnostic>) -> String {
    let mut kinds: BTreeMap<char, (usize, usize)> = BTreeMap::new();
    let mut replaced = String::with_capacity(text.len());
    work::looked_at(text.len());
    for (at, char) in text.char_indices() {
        if is_disallowed(char) && (at, char) != (0, '\u{FEFF}') {
            kinds.entry(char).or_insert((at, 0)).1 += 1;
            // Of the same length in bytes, and part of a word like any other character.
            replaced.push(if char.len_utf8() == 1 {
                '_'
            } else {
                '\u{FFFD}'
            });
        } else {
            replaced.push(char);
        }
    }
    for (char, (at, count)) in kinds {
        diagnostics.push(trap::disallowed_character(
            Span::new(file, at, at + char.len_utf8()),
            char,
            count,
        ));
    }
    replaced
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A node may begin.
    Node,
    /// After a node's name.
    Entries,
    /// After a node's block.
    AfterBlock,
}

/// Where to go on when a block turns out never to be closed: a line that looks like a new top-level node.
#[derive(Debug, Clone, Copy)]
struct Resume {
    at: usize,
    depth: usize,
    findings: usize,
    items: usize,
}

/// An open brace, with how far its line is indented.
#[derive(Debug, Clone, Copy)]
struct Brace {
    at: usize,
    indent: usize,
}

struct Scanner<'a> {
    file: FileId,
    text: &'a str,
    clean: Vec<u8>,
    at: usize,
    /// Whether white space (or the beginning of something) is right before `at`.
    spaced: bool,
    /// A comma was reported on the line that ends here.
    commas_are_spaces_until: usize,
    state: State,
    /// The open braces.
    opened: Vec<Brace>,
    /// Where the current line begins and where its first character that is no space is.
    line: (usize, usize),
    /// Where the current top-level node begins.
    chunk: Option<usize>,
    /// Whether the current top-level node indents what is inside it.
    indented: bool,
    /// The first brace of this node whose closing one is indented differently.
    misaligned: Option<usize>,
    resume: Option<Resume>,
    resumptions: usize,
    found: Scan,
}

impl Scanner<'_> {
    fn run(&mut self) {
        loop {
            while self.at < self.text.len() {
                if self.found.diagnostics.len() > limits::FINDINGS_MAX {
                    return self.give_up(trap::too_many_findings);
                }
                if self.found.items > limits::ITEMS_MAX {
                    return self.give_up(trap::too_many_items);
                }
                self.step();
            }
            if self.opened.is_empty() {
                self.end_chunk(0);
                return;
            }
            if !self.resume_behind_unclosed_block() {
                return;
            }
        }
    }

    /// Stops at a bound; nothing of the file is kept.
    fn give_up(&mut self, why: fn(Span) -> Diagnostic) {
        let span = self.span(self.at, self.at);
        self.found.diagnostics.push(why(span));
        self.found.chunks.clear();
        self.chunk = None;
    }

    fn finish(mut self) -> Scan {
        // Every edit replaced whole tokens by ASCII, so this is the text it was; were it not, nothing is parsed.
        match String::from_utf8(self.clean) {
            Ok(clean) => self.found.clean = clean,
            Err(_) => self.found.chunks.clear(),
        }
        self.found
    }

    fn step(&mut self) {
        let (class, length) = class_at(self.text, self.at);
        match class {
            Class::Space => self.skip_space(length),
            Class::Newline => {
                self.at += length;
                self.begin_line();
                self.end_node();
            }
            Class::Other => self.token(),
        }
    }

    fn begin_line(&mut self) {
        self.line = (self.at, after_spaces(self.text, self.at, false));
    }

    fn skip_space(&mut self, length: usize) {
        self.at += length;
        self.spaced = true;
    }

    /// What begins here, where neither space nor newline does.
    fn token(&mut self) {
        match (self.byte(0), self.byte(1)) {
            (b'/', b'/') => {
                let end = line_end(self.text, self.at);
                self.blank(self.at..end);
                self.at = end;
            }
            (b'/', b'*') => self.block_comment(),
            (b'/', b'-') => self.slashdash(),
            (b';', _) => {
                if self.state == State::Node {
                    self.blank(self.at..self.at + 1);
                }
                self.at += 1;
                self.end_node();
            }
            (b'{', _) => self.open(),
            (b'}', _) => self.close(),
            (b',', _) if self.at < self.commas_are_spaces_until => {
                self.blank(self.at..self.at + 1);
                self.skip_space(1);
            }
            _ => match self.state {
                State::Node => self.node_name(),
                State::Entries => self.entry(),
                State::AfterBlock => self.after_block(),
            },
        }
    }

    fn block_comment(&mut self) {
        let end = block_comment_end(self.text, self.at).unwrap_or_else(|| {
            self.report(trap::unclosed_comment(self.span(self.at, self.at + 2)));
            self.text.len()
        });
        self.blank(self.at..end);
        self.at = end;
        self.spaced = true;
    }

    fn open(&mut self) {
        let brace = self.span(self.at, self.at + 1);
        match self.state {
            State::Entries if self.opened.len() < limits::NESTING_MAX => {
                self.opened.push(Brace {
                    at: self.at,
                    indent: self.indent(),
                });
                self.at += 1;
                self.state = State::Node;
                self.spaced = true;
                return;
            }
            State::Entries => self.report(trap::too_deep(brace)),
            State::Node => self.report(trap::block_without_name(brace)),
            State::AfterBlock => self.report(trap::second_block(brace)),
        }
        // A block that can't be read is passed over whole; that it is never closed would be a second message.
        let end = match skip(self.text, self.at, Until::BlockEnd) {
            Ok(end) => end,
            Err(_) => self.close_all_at_end(),
        };
        self.blank(self.at..end);
        self.at = end;
        if self.state != State::Node {
            self.state = State::AfterBlock;
        }
    }

    fn close(&mut self) {
        let Some(open) = self.opened.pop() else {
            return self.stray_close();
        };
        let first = self.misaligned.is_none() && self.resume.is_none();
        if first && self.begins_line() && self.indent() != open.indent {
            self.misaligned = Some(open.at);
        }
        self.at += 1;
        self.state = State::AfterBlock;
        self.spaced = false;
    }

    /// Reports a run of closing braces once.
    fn stray_close(&mut self) {
        self.report(trap::stray_close(self.span(self.at, self.at + 1)));
        let start = self.at;
        loop {
            match (class_at(self.text, self.at), self.byte(0)) {
                ((Class::Other, _), b'}' | b';') => self.at += 1,
                ((Class::Space | Class::Newline, length @ 1..), _) => self.at += length,
                _ => break,
            }
        }
        self.end_chunk_before(start);
        self.blank(start..self.at);
        self.state = State::Node;
        self.spaced = true;
    }

    /// A newline, a semicolon or the end of the text.
    fn end_node(&mut self) {
        self.state = State::Node;
        self.spaced = true;
        if self.opened.is_empty() {
            self.end_chunk(0);
        }
    }

    fn end_chunk(&mut self, missing_closes: usize) {
        self.end_chunk_at(self.at, missing_closes);
    }

    fn end_chunk_before(&mut self, end: usize) {
        self.end_chunk_at(end, 0);
    }

    /// Ends the current top-level node at the end of the text, as if all its braces were closed there.
    fn close_all_at_end(&mut self) -> usize {
        let missing = self.opened.len();
        self.opened.clear();
        self.end_chunk_at(self.text.len(), missing);
        self.text.len()
    }

    fn end_chunk_at(&mut self, end: usize, missing_closes: usize) {
        if let Some(start) = self.chunk.take() {
            self.found.chunks.push(Chunk {
                range: start..end,
                missing_closes,
            });
        }
        self.resume = None;
        self.indented = false;
        self.misaligned = None;
    }

    /// At the end of the text with open blocks: closes them where the next top-level node seems to begin.
    fn resume_behind_unclosed_block(&mut self) -> bool {
        let resume = self
            .resume
            .filter(|_| self.resumptions < limits::RESUMPTIONS_MAX);
        let depth = resume.map_or(self.opened.len(), |resume| resume.depth);
        let innermost = depth
            .checked_sub(1)
            .and_then(|index| self.opened.get(index))
            .map(|brace| brace.at);
        let open = self.misaligned.or(innermost).unwrap_or(self.at);
        if let Some(resume) = resume {
            self.found.diagnostics.truncate(resume.findings);
            self.found.items = resume.items;
        }
        self.report(trap::unclosed_block(self.span(open, open + 1)));
        let Some(resume) = resume else {
            self.end_chunk(depth);
            return false;
        };
        self.resumptions += 1;
        self.end_chunk_at(resume.at, depth);
        self.opened.clear();
        self.at = resume.at;
        let original = self.text.as_bytes().get(resume.at..).unwrap_or_default();
        work::looked_at(original.len());
        self.clean.truncate(resume.at);
        self.clean.extend_from_slice(original);
        self.state = State::Node;
        self.spaced = true;
        self.begin_line();
        true
    }

    fn node_name(&mut self) {
        if self.byte(0) == b'\\' {
            return self.continuation();
        }
        if self.chunk.is_none() {
            self.chunk = Some(self.at);
        }
        self.note_alignment();
        self.found.items += 1;
        self.state = State::Entries;
        if self.byte(0) == b'#' && quoted_at(self.text, self.at).is_none() {
            return self.hash_comment();
        }
        if self.byte(0) == b'(' {
            return self.annotation(State::Node);
        }
        let start = self.at;
        self.value(true);
        let equals = after_spaces(self.text, self.at, false);
        if self.text.as_bytes().get(equals) == Some(&b'=') && self.at > start {
            self.report(trap::equals_after_name(self.span(equals, equals + 1)));
            self.blank(equals..equals + 1);
            self.at = equals + 1;
            self.spaced = true;
        }
    }

    fn hash_comment(&mut self) {
        let end = line_end(self.text, self.at);
        self.report(trap::hash_comment(self.span(self.at, end)));
        self.blank(self.at..end);
        self.at = end;
    }

    /// Remembers where a new top-level node seems to begin although a block is open.
    fn note_alignment(&mut self) {
        if self.opened.is_empty() || !self.begins_line() {
            return;
        }
        if self.indent() > 0 {
            self.indented = true;
        } else if self.indented && self.resume.is_none() {
            let (findings, items) = (self.found.diagnostics.len(), self.found.items);
            self.resume = Some(Resume {
                at: self.at,
                depth: self.opened.len(),
                findings,
                items,
            });
        }
    }

    /// An argument or a property.
    fn entry(&mut self) {
        let start = self.at;
        match self.byte(0) {
            b'\\' => return self.continuation(),
            b'(' => return self.annotation(State::Entries),
            b'#' if class_at(self.text, start + 1).0 != Class::Other => return self.hash_comment(),
            _ => {}
        }
        self.found.items += 1;
        if !self.spaced {
            return self.adjacent();
        }
        if !self.value(false) {
            return;
        }
        let equals = after_spaces(self.text, self.at, false);
        if self.text.as_bytes().get(equals) != Some(&b'=') {
            return;
        }
        self.at = after_spaces(self.text, equals + 1, false);
        let annotated = self.byte(0) == b'(';
        if annotated {
            self.annotation(State::Entries);
            self.at = after_spaces(self.text, self.at, false);
        }
        if self.ends_entries() {
            if !annotated {
                let name = self.text.get(start..equals).unwrap_or_default().trim_end();
                self.report(trap::missing_value(self.span(start, equals + 1), name));
            }
            let end = word_end(self.text, self.at);
            self.blank(start..end);
            self.at = end;
            self.spaced = true;
            return;
        }
        self.value(false);
    }

    /// Whether what is left of a node's line does not begin with a value.
    fn ends_entries(&self) -> bool {
        let word = self
            .text
            .get(self.at..word_end(self.text, self.at))
            .unwrap_or_default();
        let only_commas = !word.is_empty() && word.bytes().all(|byte| byte == b',');
        only_commas
            || class_at(self.text, self.at).0 == Class::Newline
            || matches!(self.byte(0), b';' | b'{' | b'}')
            || (self.byte(0) == b'/' && matches!(self.byte(1), b'/' | b'*'))
    }

    /// A value that touches the one before.
    fn adjacent(&mut self) {
        let start = self.at;
        if self.byte(0) == b',' {
            self.report(trap::comma_between(
                self.span(start, start + 1),
                self.glued(start + 1),
            ));
            let end = line_end(self.text, start);
            self.commas_are_spaces_until = end;
            return;
        }
        if self.byte(0) == b'=' {
            return self.unnamed_value();
        }
        let end = quoted_at(self.text, start)
            .map_or_else(|| run_end(self.text, start), |quoted| quoted.end)
            .max(start + 1);
        self.report(trap::adjacent(self.span(start, end)));
        self.blank(start..end);
        self.at = end;
        self.spaced = true;
    }

    /// A second `=`, as in `a= b=1`.
    fn unnamed_value(&mut self) {
        let start = self.at;
        let end = quoted_at(self.text, start + 1)
            .map_or_else(|| run_end(self.text, start), |quoted| quoted.end);
        self.report(trap::stray_equals(self.span(start, end)));
        self.blank(start..end);
        self.at = end;
        self.spaced = true;
    }

    /// A `\` that continues the line.
    fn continuation(&mut self) {
        let start = self.at;
        let mut end = after_spaces(self.text, start + 1, false);
        if self.text.as_bytes().get(end..end + 2) == Some(b"//") {
            end = line_end(self.text, end);
        }
        match class_at(self.text, end) {
            (Class::Newline, length) => {
                self.blank(start..end + length);
                self.at = end + length;
            }
            _ => {
                let end = run_end(self.text, start).max(start + 1);
                self.report(trap::continuation(self.span(start, end)));
                self.blank(start..end);
                self.at = end;
            }
        }
        self.spaced = true;
    }

    fn annotation(&mut self, state: State) {
        let start = self.at;
        let line = self
            .text
            .get(start..line_end(self.text, start))
            .unwrap_or_default();
        let end = start
            + line
                .find(')')
                .map_or_else(|| run_end(line, 0).max(1), |close| close + 1);
        let run = self.text.get(start..end).unwrap_or_default();
        self.report(trap::annotation(self.span(start, end), run));
        self.blank(start..end);
        self.at = end;
        self.state = state;
        self.spaced = true;
    }

    fn after_block(&mut self) {
        if self.byte(0) == b'\\' {
            return self.continuation();
        }
        let start = self.at;
        let end = quoted_at(self.text, start)
            .map_or_else(|| run_end(self.text, start), |quoted| quoted.end)
            .max(start + 1);
        let run = self.text.get(start..end).unwrap_or_default();
        self.report(trap::after_block(self.span(start, end), run));
        // Read on as if the semicolon were there. At the top that ends the node; inside, the parser needs it too.
        if self.opened.is_empty() {
            self.end_chunk_before(start);
            self.state = State::Node;
        } else if let Some(before) = start
            .checked_sub(1)
            .filter(|before| self.clean.get(*before) == Some(&b' '))
        {
            self.put(before, b';');
            self.state = State::Node;
        } else {
            self.blank(start..end);
            self.at = end;
        }
        self.spaced = true;
    }

    /// Whether no space follows.
    fn glued(&self, at: usize) -> bool {
        class_at(self.text, at).0 == Class::Other
    }

    /// How far the current line is indented, in bytes.
    fn indent(&self) -> usize {
        self.line.1 - self.line.0
    }

    fn begins_line(&self) -> bool {
        self.line.1 == self.at
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.text
            .as_bytes()
            .get(self.at + ahead)
            .copied()
            .unwrap_or(b'\n')
    }

    fn blank(&mut self, range: Range<usize>) {
        work::looked_at(range.len());
        if let Some(bytes) = self.clean.get_mut(range) {
            bytes.fill(b' ');
        }
    }

    fn put(&mut self, at: usize, byte: u8) {
        if let Some(place) = self.clean.get_mut(at) {
            *place = byte;
        }
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.file, start, end.min(self.text.len()))
    }

    fn report(&mut self, finding: Diagnostic) {
        self.found.diagnostics.push(finding);
    }
}
