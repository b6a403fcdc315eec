//! What stands before the cursor in a text that may be broken: the blocks that are open, and the word whose values
//! are being written. Completion needs it where no tree is, for nobody completes a finished text.

use std::ops::Range;

use mesh_syntax::{Arg, FileId, Name, Node, Prop, Span, Value};

/// What stands before an offset.
#[derive(Debug)]
pub(crate) struct Outline {
    /// The nodes whose blocks are open, outer ones first, each with what stands in it before the offset.
    pub(crate) open: Vec<Node>,
    /// The words at the top of the file before the offset, where no block is open.
    pub(crate) before: Vec<Node>,
    /// The node that is being written, without the token at the offset; none: that token is its word.
    pub(crate) node: Option<Node>,
    /// The token that the offset is in or at the end of; empty: none.
    pub(crate) token: Range<usize>,
}

/// Walks over a text up to an offset; none: it is in a comment.
pub(crate) fn at(text: &str, file: FileId, offset: usize) -> Option<Outline> {
    let mut reader = Reader {
        text,
        file,
        open: Vec::new(),
        before: Vec::new(),
        node: None,
    };
    // A comment that is never closed ends beyond the text.
    let token = reader.read(offset.min(text.len()))?;
    Some(Outline {
        open: reader.open,
        before: reader.before,
        node: reader.node,
        token,
    })
}

struct Reader<'t> {
    text: &'t str,
    file: FileId,
    open: Vec<Node>,
    before: Vec<Node>,
    node: Option<Node>,
}

impl Reader<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(0)
    }

    fn starts(&self, at: usize, text: &str) -> bool {
        let rest = self.text.as_bytes().get(at..).unwrap_or_default();
        rest.starts_with(text.as_bytes())
    }

    /// Takes in everything before an offset, and returns the token that it touches.
    fn read(&mut self, offset: usize) -> Option<Range<usize>> {
        let mut at = 0;
        while at < offset {
            if self.starts(at, "//") {
                at = self.end_of_line(at);
                if offset <= at {
                    return None;
                }
            } else if self.starts(at, "/*") {
                at = self.end_of_comment(at);
                if offset < at {
                    return None;
                }
            } else if self.starts(at, "/-") {
                at += 2;
            } else {
                match self.byte(at) {
                    b'\n' | b';' => self.end_node(),
                    b'\\' => at = self.end_of_line(at),
                    b'{' => {
                        let node = self.node.take();
                        self.open.push(node.unwrap_or_else(|| self.named(at..at)));
                    }
                    b'}' => {
                        self.end_node();
                        self.node = self.open.pop();
                        self.end_node();
                    }
                    byte if byte.is_ascii_whitespace() => {}
                    _ => {
                        let end = self.end_of_token(at);
                        if offset <= end {
                            return Some(at..end);
                        }
                        self.token(at..end);
                        at = end;
                        continue;
                    }
                }
                at += 1;
            }
        }
        // The word that the offset stands right before.
        let end = if self.is_delimiter(offset) {
            offset
        } else {
            self.end_of_token(offset)
        };
        Some(offset..end)
    }

    fn end_of_line(&self, at: usize) -> usize {
        let rest = self.text.as_bytes().get(at..).unwrap_or_default();
        let newline = rest.iter().position(|byte| *byte == b'\n');
        newline.map_or(self.text.len(), |found| at + found)
    }

    fn end_of_comment(&self, mut at: usize) -> usize {
        let mut depth = 0_usize;
        while at < self.text.len() {
            if self.starts(at, "/*") {
                depth += 1;
                at += 2;
            } else if self.starts(at, "*/") {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            } else {
                at += 1;
            }
        }
        // It is never closed, so the offset is inside.
        self.text.len() + 1
    }

    fn is_delimiter(&self, at: usize) -> bool {
        let byte = self.byte(at);
        byte == 0 || byte.is_ascii_whitespace() || b";{}".contains(&byte)
    }

    fn end_of_token(&self, mut at: usize) -> usize {
        let start = at;
        while at < self.text.len() {
            if self.byte(at) == b'"' {
                let before = self.text.as_bytes().get(start..at).unwrap_or_default();
                let hashes = before
                    .iter()
                    .rev()
                    .take_while(|byte| **byte == b'#')
                    .count();
                at = self.end_of_text(at, hashes);
            } else if self.is_delimiter(at) {
                break;
            } else {
                at += 1;
            }
        }
        at
    }

    /// The end of a text in quotes. One that is not closed ends with its line, so that what follows is still read.
    fn end_of_text(&self, start: usize, hashes: usize) -> usize {
        let quotes = if self.starts(start, "\"\"\"") { 3 } else { 1 };
        let close = format!("{}{}", "\"".repeat(quotes), "#".repeat(hashes));
        let mut at = start + quotes;
        while at < self.text.len() {
            if self.starts(at, &close) {
                return at + close.len();
            }
            match self.byte(at) {
                b'\\' if hashes == 0 => at += 2,
                b'\n' if quotes == 1 => return at,
                _ => at += 1,
            }
        }
        self.text.len()
    }

    fn named(&self, range: Range<usize>) -> Node {
        let span = Span::new(self.file, range.start, range.end);
        let text = self.text.get(range).unwrap_or_default();
        Node {
            name: Name {
                text: text.trim_matches('"').to_owned(),
                span,
            },
            args: Vec::new(),
            props: Vec::new(),
            children: Vec::new(),
            has_block: false,
            span,
        }
    }

    fn token(&mut self, range: Range<usize>) {
        let Some(mut node) = self.node.take() else {
            self.node = Some(self.named(range));
            return;
        };
        let span = Span::new(self.file, range.start, range.end);
        let text = self.text.get(range).unwrap_or_default();
        match split(text) {
            Some((name, written)) => node.props.push(Prop {
                name: Name {
                    text: name.to_owned(),
                    span,
                },
                value: value(written),
                span,
                value_span: span,
            }),
            None => node.args.push(Arg {
                value: value(text),
                span,
            }),
        }
        self.node = Some(node);
    }

    fn end_node(&mut self) {
        if let Some(node) = self.node.take() {
            match self.open.last_mut() {
                Some(open) => open.children.push(node),
                None => self.before.push(node),
            }
        }
    }
}

/// Name and value of a property.
pub(crate) fn split(token: &str) -> Option<(&str, &str)> {
    token
        .split_once('=')
        .filter(|(name, _)| !name.contains('"'))
}

fn value(text: &str) -> Value {
    match text.strip_prefix('"') {
        Some(text) => Value::Text(text.strip_suffix('"').unwrap_or(text).to_owned()),
        None => text
            .parse()
            .map_or_else(|_| Value::Word(text.to_owned()), Value::Integer),
    }
}

#[cfg(test)]
mod tests {
    use mesh_syntax::SourceSet;

    use super::*;

    /// The open words, the node that is written with its values, and the token, at the `¦` of a text.
    fn at_mark(text: &str) -> String {
        let offset = text.find('¦').unwrap();
        let text = text.replace('¦', "");
        let file = SourceSet::new().add("a.kdl", Vec::new());
        let Some(outline) = at(&text, file, offset) else {
            return "comment".to_owned();
        };
        let mut words: Vec<String> = outline
            .open
            .iter()
            .map(|node| node.name.text.clone())
            .collect();
        if let Some(node) = &outline.node {
            let props = node.props.iter().map(|prop| format!("{}=", prop.name.text));
            let given: Vec<String> = node
                .args
                .iter()
                .filter_map(|arg| arg.value.as_str().map(str::to_owned))
                .chain(props)
                .collect();
            words.push(format!("{}({})", node.name.text, given.join(" ")));
        }
        format!("{}|{}", words.join(" "), text.get(outline.token).unwrap())
    }

    #[test]
    fn what_is_open_and_what_is_written() {
        for (text, expected) in [
            ("¦", "|"),
            ("ser¦", "|ser"),
            ("service a {\n ti¦\n}", "service|ti"),
            ("service a { allow b; de¦", "service|de"),
            (
                "service a {\n route r { to v1 wei¦ } }",
                "service route to(v1)|wei",
            ),
            (
                "service a { timeout \"1s\" connect=¦",
                "service timeout(1s)|connect=",
            ),
            ("service a { timeout \"1s\n ¦", "service|"),
            ("a // x ¦", "comment"),
            ("a /* x /* y */ ¦ */", "comment"),
            ("a /* { */ ¦", "a()|"),
            ("a { } ¦", "|"),
            ("}}} a { b¦", "a|b"),
            ("a #\"{\"# \\\n ¦", "a(#\"{\"#)|"),
            ("a \"\"\"\n{\n\"\"\" ¦", "a(\"\"\n{\n\"\")|"),
            ("a { b ¦c }", "a b()|c"),
            ("ß { ü ¦", "ß ü()|"),
        ] {
            assert_eq!(at_mark(text), expected, "{text}");
        }
    }

    #[test]
    fn no_offset_of_a_broken_text_panics() {
        let text = "a \"\\\u{fc} /* { } =x\"\"\"\n#\"ß /- ; } { \\";
        let file = SourceSet::new().add("a.kdl", Vec::new());
        for offset in 0..=text.len() + 2 {
            drop(at(text, file, offset));
        }
    }
}
