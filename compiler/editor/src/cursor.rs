//! What the cursor is on in a tree.

use mesh_syntax::{Node, Span};

/// A part of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'n> {
    /// Its word.
    Word,
    /// An argument.
    Arg(usize),
    /// The name of a property.
    PropName(&'n str),
    /// The value of a property.
    PropValue(&'n str),
}

/// The part of a node at an offset, and where it is.
pub(crate) fn part(node: &Node, offset: usize) -> Option<(Part<'_>, Span)> {
    let holds = |span: Span| span.range().start <= offset && offset <= span.range().end;
    if holds(node.name.span) {
        return Some((Part::Word, node.name.span));
    }
    if let Some(index) = node.args.iter().position(|arg| holds(arg.span)) {
        return Some((Part::Arg(index), node.args.get(index)?.span));
    }
    let prop = node.props.iter().find(|prop| holds(prop.span))?;
    let name = prop.name.text.as_str();
    Some(if holds(prop.name.span) {
        (Part::PropName(name), prop.name.span)
    } else {
        (Part::PropValue(name), prop.value_span)
    })
}
