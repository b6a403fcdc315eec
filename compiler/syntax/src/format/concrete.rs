//! A text as it is laid out: every node, comment and what is commented out, in order, as pieces of the text itself.
//!
//! It reads only what the parser had nothing to say about, and gives up at whatever it did not expect.

use std::borrow::Cow;

use crate::limits;
use crate::parse::extent::{Until, after_line_space, after_spaces, skip, skip_entry};
use crate::parse::lexeme::{Class, block_comment_end, class_at, line_end, quoted_at, word_end};

/// What is between two braces, or the whole file.
#[derive(Debug, Default)]
pub(super) struct Block<'a> {
    /// A `//` comment behind the opening brace.
    pub(super) opening: Option<&'a str>,
    pub(super) items: Vec<Item<'a>>,
    /// Whether its author wrote it on one line.
    pub(super) one_line: bool,
}

/// A node, or comments on lines of their own.
#[derive(Debug, Default)]
pub(super) struct Item<'a> {
    /// Whether its author left a line blank before it.
    pub(super) blank_before: bool,
    pub(super) parts: Vec<Part<'a>>,
    /// Where its name is among the parts; none: there are only comments.
    pub(super) name: Option<usize>,
    /// A `//` comment at its end.
    pub(super) trailing: Option<&'a str>,
    /// Whether it is commented out and unreadable, so that what would follow on its line would become part of it.
    pub(super) unreadable: bool,
}

/// A part of an item. Parts are separated by spaces.
#[derive(Debug)]
pub(super) enum Part<'a> {
    /// A name, argument, property or comment, or one that is commented out.
    Text(Cow<'a, str>),
    /// `\` at the end of a line, perhaps with a `//` comment.
    Break(Option<&'a str>),
    /// A block, perhaps commented out.
    Block { out: bool, block: Block<'a> },
}

/// Reads a whole file.
pub(super) fn concrete(text: &str) -> Option<Block<'_>> {
    let mut reader = Reader {
        text,
        at: 0,
        newlines: newlines(text),
    };
    reader.block(0)
}

/// Where the lines of a text end, whatever ends them.
fn newlines(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let (class, length) = class_at(text, at);
        if class == Class::Newline {
            found.push(at);
        }
        at += length;
    }
    found
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    newlines: Vec<usize>,
}

impl<'a> Reader<'a> {
    /// What a block holds, up to its brace, which is taken too, or to the end of the text.
    fn block(&mut self, depth: usize) -> Option<Block<'a>> {
        if depth > limits::NESTING_MAX {
            return None;
        }
        let begin = self.at;
        let mut block = Block::default();
        // Lines ended since the brace, or since the last item.
        let mut lines = 0_usize;
        loop {
            let (class, length) = class_at(self.text, self.at);
            match (class, self.byte(0), self.byte(1)) {
                (Class::Space, ..) => self.at += length,
                (Class::Newline, ..) if length > 0 => {
                    self.at += length;
                    lines += 1;
                }
                (Class::Newline, ..) if depth == 0 => return Some(block),
                (_, Some(b'}'), _) if depth > 0 => {
                    block.one_line = self.is_one_line(begin, self.at);
                    self.at += 1;
                    return Some(block);
                }
                (_, Some(b'}'), _) => return None,
                // An empty node, or a line that goes on before it began.
                (_, Some(b';' | b'\\'), _) => self.at += 1,
                (_, Some(b'/'), Some(b'/')) => {
                    let comment = self.line_comment();
                    match block.items.last_mut() {
                        Some(last) if lines == 0 && last.takes_comment() => {
                            last.trailing = Some(comment);
                        }
                        None if lines == 0 && depth > 0 && block.opening.is_none() => {
                            block.opening = Some(comment);
                        }
                        _ => {
                            let item = Item::comments(vec![Part::Text(comment.into())]);
                            block.push(item, lines);
                            lines = 0;
                        }
                    }
                }
                (_, Some(_), _) => {
                    let item = self.item(depth)?;
                    let same_line = item.name.is_none() && lines == 0;
                    match block.items.last_mut() {
                        Some(last) if same_line && last.takes_comment() => {
                            last.parts.extend(item.parts);
                        }
                        _ => block.push(item, lines),
                    }
                    lines = 0;
                }
                _ => return None,
            }
        }
    }

    /// A node with the block comments before it on its line, or these alone.
    fn item(&mut self, depth: usize) -> Option<Item<'a>> {
        let mut parts = Vec::new();
        loop {
            self.at = after_spaces(self.text, self.at, false);
            match (self.byte(0), self.byte(1)) {
                (Some(b'/'), Some(b'*')) => parts.push(self.block_comment()?),
                (Some(b'/'), Some(b'-')) => return self.node_commented_out(parts, depth),
                (Some(b'\\'), _) => {
                    self.at = after_spaces(self.text, self.at + 1, false);
                    if let (Class::Newline, length) = class_at(self.text, self.at) {
                        self.at += length;
                    }
                }
                (None | Some(b';' | b'}'), _) | (Some(b'/'), Some(b'/')) => {
                    return Some(Item::comments(parts));
                }
                _ if class_at(self.text, self.at).0 == Class::Newline => {
                    return Some(Item::comments(parts));
                }
                _ => {
                    let node = self.node("", depth)?;
                    return Some(Item::node(parts, node));
                }
            }
        }
    }

    fn node_commented_out(&mut self, parts: Vec<Part<'a>>, depth: usize) -> Option<Item<'a>> {
        let start = self.at;
        let inner = after_line_space(self.text, start + 2);
        let end = skip(self.text, inner, Until::NodeEnd).ok()?;
        self.at = inner;
        let is_bare = self.is_bare(start + 2, inner);
        if is_bare
            && let Some(node) = self.node("/-", depth)
            && (self.at == end || self.is_comment(self.at, end))
        {
            return Some(Item::node(parts, node));
        }
        self.at = end;
        // Comments between the mark and the node stay where they are.
        let from = if is_bare { inner } else { start + 2 };
        let verbatim = format!("/-{}", whole_lines(self.text.get(from..end)?));
        let node = Node {
            parts: vec![Part::Text(verbatim.into())],
            trailing: None,
        };
        Some(Item {
            unreadable: true,
            ..Item::node(parts, node)
        })
    }

    /// A node up to what ends it, which is not taken.
    fn node(&mut self, mark: &'static str, depth: usize) -> Option<Node<'a>> {
        let mut node = Node::default();
        let name = self.one(self.at)?;
        node.parts.push(marked(mark, name));
        loop {
            self.at = after_spaces(self.text, self.at, false);
            match (self.byte(0), self.byte(1)) {
                (None | Some(b';' | b'}'), _) | (Some(b'/'), Some(b'/')) => break,
                (Some(b'/'), Some(b'*')) => {
                    let comment = self.block_comment()?;
                    node.parts.push(comment);
                }
                (Some(b'\\'), _) => self.continuation(&mut node.parts)?,
                (Some(b'/'), Some(b'-')) => {
                    let part = self.part_commented_out(depth)?;
                    node.parts.push(part);
                }
                (Some(b'{'), _) => {
                    if let Some(Part::Break(None)) = node.parts.last() {
                        node.parts.pop();
                    }
                    self.at += 1;
                    let block = self.block(depth + 1)?;
                    node.parts.push(Part::Block { out: false, block });
                }
                _ if class_at(self.text, self.at).0 == Class::Newline => break,
                _ => {
                    let entry = self.entry("")?;
                    node.parts.push(entry);
                }
            }
        }
        // A line that goes on with nothing ends here.
        if !matches!((self.byte(0), self.byte(1)), (Some(b'/'), Some(b'/')))
            && let Some(Part::Break(comment)) = node.parts.last()
        {
            node.trailing = *comment;
            node.parts.pop();
        } else if let Some(Part::Break(None)) = node.parts.last() {
            node.parts.pop();
        }
        Some(node)
    }

    /// A block, an argument or a property that is commented out.
    fn part_commented_out(&mut self, depth: usize) -> Option<Part<'a>> {
        let start = self.at;
        let inner = after_line_space(self.text, start + 2);
        let is_block = self.text.as_bytes().get(inner) == Some(&b'{');
        let is_bare = self.is_bare(start + 2, inner);
        self.at = inner;
        if is_bare && is_block {
            return self.block_commented_out(depth);
        }
        if is_bare && let Some(entry) = self.entry("/-") {
            return Some(entry);
        }
        // What is no value is still commented out, and comments before it stay where they are.
        self.at = if is_block {
            skip(self.text, inner, Until::BlockEnd).ok()?
        } else {
            skip_entry(self.text, inner)
        };
        let from = if is_bare { inner } else { start + 2 };
        let verbatim = self.text.get(from..self.at)?;
        Some(Part::Text(format!("/-{verbatim}").into()))
    }

    /// Whether there is only white space between two places.
    fn is_bare(&self, from: usize, to: usize) -> bool {
        after_spaces(self.text, from, true) == to
    }

    fn block_commented_out(&mut self, depth: usize) -> Option<Part<'a>> {
        let start = self.at;
        let end = skip(self.text, start, Until::BlockEnd).ok()?;
        self.at += 1;
        if let Some(block) = self.block(depth + 1)
            && self.at == end
        {
            return Some(Part::Block { out: true, block });
        }
        self.at = end;
        let verbatim = self.text.get(start..end)?;
        Some(Part::Text(format!("/-{verbatim}").into()))
    }

    /// An argument or a property.
    fn entry(&mut self, mark: &'static str) -> Option<Part<'a>> {
        let start = self.at;
        let name = self.one(start)?;
        let equals = after_spaces(self.text, self.at, false);
        if self.text.as_bytes().get(equals) != Some(&b'=') {
            return Some(marked(mark, name));
        }
        let value = self.one(after_spaces(self.text, equals + 1, false))?;
        let whole = self.text.get(start..self.at)?;
        if whole.len() == name.len() + 1 + value.len() {
            return Some(marked(mark, whole));
        }
        Some(Part::Text(format!("{mark}{name}={value}").into()))
    }

    /// A string, word, number or keyword.
    fn one(&mut self, at: usize) -> Option<&'a str> {
        let end = match quoted_at(self.text, at) {
            Some(quoted) if quoted.problem.is_none() => quoted.end,
            Some(_) => return None,
            None if self.text.as_bytes().get(at) == Some(&b'#') => word_end(self.text, at + 1),
            None => word_end(self.text, at),
        };
        self.at = end;
        self.text.get(at..end).filter(|one| !one.is_empty())
    }

    /// A `\` and the rest of its line.
    fn continuation(&mut self, parts: &mut Vec<Part<'a>>) -> Option<()> {
        self.at = after_spaces(self.text, self.at + 1, false);
        let commented = (self.byte(0), self.byte(1)) == (Some(b'/'), Some(b'/'));
        let comment = commented.then(|| self.line_comment());
        let (Class::Newline, length) = class_at(self.text, self.at) else {
            return None;
        };
        self.at += length;
        if comment.is_some() || !matches!(parts.last(), Some(Part::Break(_) | Part::Block { .. })) {
            if let Some(Part::Break(None)) = parts.last() {
                parts.pop();
            }
            parts.push(Part::Break(comment));
        }
        Some(())
    }

    fn line_comment(&mut self) -> &'a str {
        let start = self.at;
        self.at = line_end(self.text, start);
        self.text.get(start..self.at).unwrap_or_default().trim_end()
    }

    fn block_comment(&mut self) -> Option<Part<'a>> {
        let start = self.at;
        self.at = block_comment_end(self.text, start)?;
        Some(Part::Text(self.text.get(start..self.at)?.into()))
    }

    /// Whether there is only a `//` comment between two places.
    fn is_comment(&self, from: usize, to: usize) -> bool {
        let text = self.text.get(from..to).unwrap_or_default();
        text.starts_with("//") && line_end(self.text, from) == to
    }

    fn is_one_line(&self, from: usize, to: usize) -> bool {
        let next = self.newlines.partition_point(|newline| *newline < from);
        self.newlines.get(next).is_none_or(|newline| *newline >= to)
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }
}

/// The parts of a node from its name on.
#[derive(Debug, Default)]
struct Node<'a> {
    parts: Vec<Part<'a>>,
    trailing: Option<&'a str>,
}

/// A text without white space at its end, and without a `\` there that would go on with nothing.
fn whole_lines(mut text: &str) -> &str {
    loop {
        let trimmed = text.trim_end();
        match trimmed.strip_suffix('\\') {
            Some(before) if trimmed.len() < text.len() => text = before,
            _ => return trimmed,
        }
    }
}

fn marked<'a>(mark: &'static str, text: &'a str) -> Part<'a> {
    Part::Text(if mark.is_empty() {
        text.into()
    } else {
        format!("{mark}{text}").into()
    })
}

impl<'a> Block<'a> {
    fn push(&mut self, mut item: Item<'a>, lines: usize) {
        item.blank_before = lines > 1 && !self.items.is_empty();
        self.items.push(item);
    }
}

impl<'a> Item<'a> {
    fn comments(parts: Vec<Part<'a>>) -> Self {
        Self {
            parts,
            ..Self::default()
        }
    }

    fn node(mut comments: Vec<Part<'a>>, node: Node<'a>) -> Self {
        let name = Some(comments.len());
        comments.extend(node.parts);
        Self {
            parts: comments,
            name,
            trailing: node.trailing,
            ..Self::default()
        }
    }

    /// Whether a comment behind it on its line stays there.
    fn takes_comment(&self) -> bool {
        self.trailing.is_none() && !self.unreadable
    }
}
