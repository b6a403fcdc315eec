//! The syntax tree: nodes with arguments, properties and children, every one with its place.

use crate::source::{FileId, Span};

/// The nodes of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// The file.
    pub file: FileId,
    /// Its top-level nodes, in order. Those that could not be read at all are missing.
    pub nodes: Vec<Node>,
}

/// One node: a definition, a setting or a list of the policy language.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its kind.
    pub name: Name,
    /// Its arguments, in order.
    pub args: Vec<Arg>,
    /// Its properties, in order; one given twice is here twice, and was reported by the parser.
    pub props: Vec<Prop>,
    /// The nodes of its block.
    pub children: Vec<Self>,
    /// Whether it has a block, be it empty.
    pub has_block: bool,
    /// All of it, from its name to its last brace.
    pub span: Span,
}

/// A name with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The text, without quotes.
    pub text: String,
    /// Where it is.
    pub span: Span,
}

/// An argument.
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    /// What it is.
    pub value: Value,
    /// Where it is, quotes included.
    pub span: Span,
}

/// A property `name=value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Prop {
    /// Its name.
    pub name: Name,
    /// Its value.
    pub value: Value,
    /// Where name and value are together.
    pub span: Span,
    /// Where the value is, quotes included.
    pub value_span: Span,
}

/// A value as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A bare word.
    Word(String),
    /// A quoted text.
    Text(String),
    /// A whole number.
    Integer(i128),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// `#true` or `#false`.
    Bool(bool),
    /// `#null`.
    Null,
}

impl Value {
    /// The text of a word or a quoted text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Word(text) | Self::Text(text) => Some(text),
            Self::Integer(_) | Self::Float(_) | Self::Bool(_) | Self::Null => None,
        }
    }
}

impl Node {
    /// The first argument.
    pub fn first_arg(&self) -> Option<&Arg> {
        self.args.first()
    }

    /// The first property of this name.
    pub fn prop(&self, name: &str) -> Option<&Prop> {
        self.props.iter().find(|prop| prop.name.text == name)
    }

    /// The children of this name, in order.
    pub fn children_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children
            .iter()
            .filter(move |child| child.name.text == name)
    }
}
