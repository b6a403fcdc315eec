//! The short way from text to nodes, for what nearly all policies are made of: bare names, plain strings and
//! numbers, properties, blocks and line comments. One pass, no copy of the text.
//!
//! It never guesses and never reports: at the first thing that is a mistake, or only unusual, it gives up and the long
//! way decides. What it does accept it must read exactly as the long way does, which a property test and a fuzz target
//! hold it to.

use std::ops::Range;

use super::lexeme::is_disallowed;
use super::work;
use crate::{Arg, FileId, Name, Node, Prop, Span, Value, limits};

/// The nodes of a text and how many nodes, arguments and properties they have together.
#[derive(Debug, PartialEq)]
pub(super) struct Plain {
    pub(super) nodes: Vec<Node>,
    pub(super) items: usize,
}

/// Reads a part of a text, or gives up.
pub(super) fn plain(file: FileId, text: &str, range: Range<usize>) -> Option<Plain> {
    let bytes = text.as_bytes().get(..range.end)?;
    let mut reader = Plainly {
        file,
        text,
        bytes,
        at: range.start,
        items: 0,
    };
    let nodes = reader.nodes(0)?;
    Some(Plain {
        nodes,
        items: reader.items,
    })
}

struct Plainly<'a> {
    file: FileId,
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    items: usize,
}

/// Digits that surely fit.
const DIGITS_MAX: usize = 15;

/// Each is compared with all before it.
const PROPS_MAX: usize = 32;

impl<'a> Plainly<'a> {
    /// The nodes up to the end of the text, or, inside a block, up to its brace, which is taken too.
    fn nodes(&mut self, depth: usize) -> Option<Vec<Node>> {
        let mut nodes = Vec::new();
        loop {
            match self.peek() {
                None if depth == 0 => return Some(nodes),
                Some(b' ' | b'\t' | b'\n') => self.at += 1,
                Some(b'\r') => self.newline()?,
                Some(b'/') => self.line_comment()?,
                Some(b'}') if depth > 0 => {
                    self.at += 1;
                    return Some(nodes);
                }
                Some(_) => nodes.push(self.node(depth)?),
                None => return None,
            }
        }
    }

    fn node(&mut self, depth: usize) -> Option<Node> {
        let name = self.name()?;
        let mut node = Node {
            span: name.span,
            name,
            args: Vec::new(),
            props: Vec::new(),
            children: Vec::new(),
            has_block: false,
        };
        self.item()?;
        let mut end = self.at;
        loop {
            let spaced = self.spaces();
            match self.peek() {
                None | Some(b'\n') => break,
                Some(b'\r') => {
                    self.newline()?;
                    break;
                }
                Some(b';') => {
                    self.at += 1;
                    break;
                }
                // What closes the block around this node is for whoever opened it.
                Some(b'}') if spaced && depth > 0 => break,
                Some(b'/') if spaced => {
                    self.line_comment()?;
                    break;
                }
                Some(b'{') if spaced && !node.has_block => {
                    if depth + 1 >= limits::NESTING_MAX {
                        return None;
                    }
                    self.at += 1;
                    node.children = self.nodes(depth + 1)?;
                    node.has_block = true;
                }
                Some(_) if spaced && !node.has_block => self.entry(&mut node)?,
                Some(_) => return None,
            }
            end = self.at;
        }
        node.span = self.span(node.name.span.start as usize, end);
        Some(node)
    }

    /// An argument or a property.
    fn entry(&mut self, node: &mut Node) -> Option<()> {
        self.item()?;
        let start = self.at;
        let value = self.value()?;
        let span = self.span(start, self.at);
        if self.peek() != Some(b'=') {
            // `name = value` is a property too.
            let mut next = self.at;
            while let Some(b' ' | b'\t') = self.bytes.get(next) {
                work::looked_at(1);
                next += 1;
            }
            if self.bytes.get(next) == Some(&b'=') {
                return None;
            }
            node.args.push(Arg { value, span });
            return Some(());
        }
        let Value::Word(text) = value else {
            return None;
        };
        self.at += 1;
        let value_start = self.at;
        let value = self.value()?;
        work::looked_at(node.props.len());
        let twice = node.props.iter().any(|prop| prop.name.text == text);
        if twice || node.props.len() == PROPS_MAX || self.peek() == Some(b'=') {
            return None;
        }
        node.props.push(Prop {
            name: Name { text, span },
            value,
            span: self.span(start, self.at),
            value_span: self.span(value_start, self.at),
        });
        Some(())
    }

    fn value(&mut self) -> Option<Value> {
        match self.peek()? {
            b'"' => self.string().map(Value::Text),
            b'#' => self.raw_string().map(Value::Text),
            b'0'..=b'9' | b'-' => self.number(),
            _ => {
                let text = self.word()?;
                Some(Value::Word(text.to_owned()))
            }
        }
    }

    fn name(&mut self) -> Option<Name> {
        let start = self.at;
        let text = self.word()?.to_owned();
        Some(Name {
            text,
            span: self.span(start, self.at),
        })
    }

    fn word(&mut self) -> Option<&'a str> {
        let start = self.at;
        if !self.peek()?.is_ascii_alphabetic() {
            return None;
        }
        while let Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.') = self.peek() {
            self.at += 1;
        }
        let word = self.text.get(start..self.at)?;
        // Words that KDL 1 wrote for something else.
        let other = matches!(word, "true" | "false" | "null" | "inf" | "nan");
        (!other && self.ends_value(true)).then_some(word)
    }

    fn number(&mut self) -> Option<Value> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return None;
        }
        let mut fraction = "";
        if self.peek() == Some(b'.') {
            self.at += 1;
            fraction = self.digits()?;
            if fraction.len() > 1 && fraction.ends_with('0') {
                return None;
            }
        }
        let is_float = !fraction.is_empty();
        let text = self.text.get(start..self.at)?;
        if !self.ends_value(false) {
            return None;
        }
        if is_float {
            return text.parse().ok().map(Value::Float);
        }
        text.parse().ok().map(Value::Integer)
    }

    fn digits(&mut self) -> Option<&'a str> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        (1..=DIGITS_MAX)
            .contains(&(self.at - start))
            .then(|| self.text.get(start..self.at))?
    }

    /// A string on one line, of which only the commonest escapes are read.
    fn string(&mut self) -> Option<String> {
        let start = self.at + 1;
        if self.bytes.get(start..start + 2) == Some(b"\"\"") {
            return None;
        }
        self.at = start;
        let mut text = String::new();
        let mut copied = start;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    text.push_str(self.text.get(copied..self.at)?);
                    text.push(match self.bytes.get(self.at + 1)? {
                        b'"' => '"',
                        b'\\' => '\\',
                        b'n' => '\n',
                        b't' => '\t',
                        _ => return None,
                    });
                    self.at += 2;
                    copied = self.at;
                }
                _ => self.character()?,
            }
        }
        text.push_str(self.text.get(copied..self.at)?);
        self.at += 1;
        self.ends_value(false).then_some(text)
    }

    /// `#"…"#` on one line.
    fn raw_string(&mut self) -> Option<String> {
        let start = self.at + 2;
        if self.bytes.get(self.at + 1) != Some(&b'"')
            || self.bytes.get(start..start + 2) == Some(b"\"\"")
        {
            return None;
        }
        self.at = start;
        loop {
            match self.peek()? {
                b'"' if self.bytes.get(self.at + 1) == Some(&b'#') => break,
                b'"' => self.at += 1,
                _ => self.character()?,
            }
        }
        let text = self.text.get(start..self.at)?.to_owned();
        self.at += 2;
        self.ends_value(false).then_some(text)
    }

    /// Passes over one character of a string or comment that neither ends the line nor is forbidden.
    fn character(&mut self) -> Option<()> {
        match self.peek()? {
            b'\t' | b' '..=b'~' => self.at += 1,
            0..=0x7F => return None,
            _ => {
                let char = self.text.get(self.at..)?.chars().next()?;
                let ends_line = matches!(char, '\u{85}' | '\u{2028}' | '\u{2029}');
                if ends_line || is_disallowed(char) {
                    return None;
                }
                self.at += char.len_utf8();
            }
        }
        Some(())
    }

    fn line_comment(&mut self) -> Option<()> {
        if self.bytes.get(self.at + 1) != Some(&b'/') {
            return None;
        }
        while !matches!(self.peek(), None | Some(b'\n' | b'\r')) {
            self.character()?;
        }
        Some(())
    }

    fn newline(&mut self) -> Option<()> {
        (self.bytes.get(self.at + 1) == Some(&b'\n')).then(|| self.at += 2)
    }

    fn spaces(&mut self) -> bool {
        let start = self.at;
        while let Some(b' ' | b'\t') = self.peek() {
            self.at += 1;
        }
        self.at > start
    }

    /// Whether what follows surely is no part of the value before.
    fn ends_value(&self, may_be_name: bool) -> bool {
        match self.peek() {
            None | Some(b' ' | b'\t' | b'\n' | b'\r' | b';') => true,
            Some(b'=') => may_be_name,
            Some(_) => false,
        }
    }

    fn item(&mut self) -> Option<()> {
        self.items += 1;
        (self.items <= limits::ITEMS_MAX).then_some(())
    }

    fn peek(&self) -> Option<u8> {
        work::looked_at(1);
        self.bytes.get(self.at).copied()
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.file, start, end)
    }
}
