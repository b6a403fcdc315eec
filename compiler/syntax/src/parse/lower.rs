//! One top-level node into our own tree, through the `kdl` crate where it is anything but plain. Nothing of that crate
//! leaves this file.

use std::collections::HashMap;
use std::panic::catch_unwind;

use kdl::{KdlDocument, KdlEntry, KdlError, KdlIdentifier, KdlNode, KdlValue};

use super::plain::plain;
use super::scan::{Chunk, Scan};
use super::{trap, work};
use crate::{Arg, Diagnostic, FileId, Name, Node, Prop, Span, Value};

/// Parses a chunk. What the walk replaced comes back as what it stood for.
pub(super) fn lower(file: FileId, scan: &Scan, chunk: &Chunk) -> (Vec<Node>, Vec<Diagnostic>) {
    match lower_plain(file, scan, chunk) {
        Some(nodes) => (nodes, Vec::new()),
        None => lower_exactly(file, scan, chunk),
    }
}

/// A chunk in which nothing was replaced but by blanks is mostly as plain as other files.
pub(super) fn lower_plain(file: FileId, scan: &Scan, chunk: &Chunk) -> Option<Vec<Node>> {
    let whole = chunk.missing_closes == 0;
    let as_written = scan.recovered.range(chunk.range.clone()).next().is_none();
    if !whole || !as_written {
        return None;
    }
    plain(file, &scan.clean, chunk.range.clone()).map(|plain| plain.nodes)
}

/// Through the `kdl` crate, which decides what is KDL.
pub(super) fn lower_exactly(
    file: FileId,
    scan: &Scan,
    chunk: &Chunk,
) -> (Vec<Node>, Vec<Diagnostic>) {
    // Blanked comments at the end are nothing to the parser but time.
    let text = scan
        .clean
        .get(chunk.range.clone())
        .unwrap_or_default()
        .trim_end();
    let mut lowering = Lowering {
        file,
        base: chunk.range.start,
        end: chunk.range.start + text.len(),
        scan,
        diagnostics: Vec::new(),
    };
    let closed =
        (chunk.missing_closes > 0).then(|| format!("{text}\n{}", "}".repeat(chunk.missing_closes)));
    let nodes = match parse_chunk(closed.as_deref().unwrap_or(text)) {
        Ok(document) => lowering.nodes(&document),
        Err(error) => {
            lowering.refused(error.as_ref());
            Vec::new()
        }
    };
    (nodes, lowering.diagnostics)
}

/// The parser's error, or nothing if it panicked: it is not ours, and one file must not take a whole run with it.
fn parse_chunk(text: &str) -> Result<KdlDocument, Option<KdlError>> {
    work::looked_at(text.len());
    catch_unwind(|| KdlDocument::parse_v2(text))
        .map_err(drop)
        .map_or_else(|()| Err(None), |parsed| parsed.map_err(Some))
}

struct Lowering<'a> {
    file: FileId,
    base: usize,
    end: usize,
    scan: &'a Scan,
    diagnostics: Vec<Diagnostic>,
}

impl Lowering<'_> {
    /// Reports the first mistake only; the parser's others are mostly its consequences.
    fn refused(&mut self, error: Option<&KdlError>) {
        let first = error.and_then(|error| error.diagnostics.first());
        let diagnostic = match first {
            Some(first) => {
                let span = self.span(
                    first.span.offset(),
                    first.span.offset() + first.span.len().max(1),
                );
                trap::refused(
                    span,
                    first.message.as_deref().unwrap_or("this can't be read"),
                    first.help.as_deref(),
                )
            }
            None => trap::refused(self.span(0, 1), "this can't be read", None),
        };
        self.diagnostics.push(diagnostic);
    }

    fn nodes(&mut self, document: &KdlDocument) -> Vec<Node> {
        document
            .nodes()
            .iter()
            .map(|node| self.node(node))
            .collect()
    }

    fn node(&mut self, node: &KdlNode) -> Node {
        let name = self.name(node.name());
        let mut args = Vec::new();
        let mut props = Vec::new();
        for entry in node.entries() {
            match entry.name() {
                None => args.push(self.arg(entry)),
                Some(name) => props.push(self.prop(name, entry)),
            }
        }
        self.report_duplicates(&props);
        let children = node.children().map(|children| self.nodes(children));
        let span = node.span();
        Node {
            span: self.trimmed(name.span, span.offset() + span.len()),
            name,
            args,
            props,
            has_block: children.is_some(),
            children: children.unwrap_or_default(),
        }
    }

    fn report_duplicates(&mut self, props: &[Prop]) {
        if props.len() < 2 {
            return;
        }
        let mut first: HashMap<&str, Span> = HashMap::with_capacity(props.len());
        for prop in props {
            match first.get(prop.name.text.as_str()) {
                Some(earlier) => self.diagnostics.push(trap::duplicate_property(
                    prop.span,
                    *earlier,
                    &prop.name.text,
                )),
                None => {
                    first.insert(&prop.name.text, prop.span);
                }
            }
        }
    }

    fn name(&self, name: &KdlIdentifier) -> Name {
        let span = self.span(
            name.span().offset(),
            name.span().offset() + name.span().len(),
        );
        let text = self
            .recovered(span)
            .and_then(Value::as_str)
            .unwrap_or(name.value());
        Name {
            text: text.to_owned(),
            span,
        }
    }

    fn arg(&self, entry: &KdlEntry) -> Arg {
        let span = self.span(
            entry.span().offset(),
            entry.span().offset() + entry.span().len(),
        );
        Arg {
            value: self.value(entry, span),
            span,
        }
    }

    fn prop(&self, name: &KdlIdentifier, entry: &KdlEntry) -> Prop {
        let end = entry.span().offset() + entry.span().len();
        let length = entry.format().map_or(0, |format| format.value_repr.len());
        let value_span = self.span(end.saturating_sub(length), end);
        Prop {
            name: self.name(name),
            value: self.value(entry, value_span),
            span: self.span(entry.span().offset(), end),
            value_span,
        }
    }

    fn value(&self, entry: &KdlEntry, span: Span) -> Value {
        if let Some(value) = self.recovered(span) {
            return value.clone();
        }
        match entry.value() {
            KdlValue::String(text) => {
                let quoted = entry
                    .format()
                    .is_some_and(|format| format.value_repr.starts_with(['"', '#']));
                if quoted {
                    Value::Text(text.clone())
                } else {
                    Value::Word(text.clone())
                }
            }
            KdlValue::Integer(number) => Value::Integer(*number),
            KdlValue::Float(number) => Value::Float(*number),
            KdlValue::Bool(value) => Value::Bool(*value),
            KdlValue::Null => Value::Null,
        }
    }

    fn recovered(&self, span: Span) -> Option<&Value> {
        self.scan.recovered.get(&(span.start as usize))
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(
            self.file,
            (self.base + start).min(self.end),
            (self.base + end).min(self.end),
        )
    }

    /// A node's span, without the white space, semicolon and blanked comments that the parser counts to it.
    fn trimmed(&self, name: Span, end: usize) -> Span {
        let start = name.start as usize;
        let end = (self.base + end).min(self.end);
        let text = self.scan.clean.get(start..end).unwrap_or_default();
        let trimmed = text.trim_end_matches(|char: char| char.is_whitespace() || char == ';');
        Span::new(self.file, start, start + trimmed.len())
    }
}
