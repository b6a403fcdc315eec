//! A trie over path segments. At each node it tries, in this order: the literal child, the child of
//! `*`, the patterns that end in `**` there, the regular expressions with that literal prefix. With
//! backtracking this visits patterns exactly by falling specificity.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::path::{NormalisedPath, PathMatcher, Placement, Segment};

/// Numbers under path patterns.
#[derive(Clone, Debug, Default)]
pub(super) struct PathTrie {
    /// The root is the first.
    nodes: Vec<Node>,
    /// Literals are kept in lower case, since one of the patterns ignores case. Those that don't are
    /// told apart by whoever accepts them.
    folded: bool,
    /// Under no pattern at all.
    anywhere: Vec<usize>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    literals: HashMap<Box<[u8]>, usize>,
    one: Option<usize>,
    ends: Vec<usize>,
    rest: Vec<usize>,
    regexes: Vec<usize>,
}

impl PathTrie {
    /// Adds a number; the first added under a pattern is asked first. `folded` is the same each time.
    pub(super) fn insert(&mut self, pattern: Option<&PathMatcher>, number: usize, folded: bool) {
        self.folded = folded;
        let Some(pattern) = pattern else {
            self.anywhere.push(number);
            return;
        };
        let (segments, end) = pattern.place();
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for segment in &segments {
            at = self.child(at, segment);
        }
        let Some(node) = self.nodes.get_mut(at) else {
            return;
        };
        match end {
            Placement::End => node.ends.push(number),
            Placement::Rest => node.rest.push(number),
            Placement::Regex => node.regexes.push(number),
        }
    }

    fn child(&mut self, at: usize, segment: &Segment) -> usize {
        let fresh = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else {
            return at;
        };
        let child = match segment {
            Segment::Literal(text) if self.folded => {
                let key = text.to_ascii_lowercase().into_bytes().into();
                *node.literals.entry(key).or_insert(fresh)
            }
            Segment::Literal(text) => *node.literals.entry(text.as_bytes().into()).or_insert(fresh),
            Segment::One => *node.one.get_or_insert(fresh),
        };
        if child == fresh {
            self.nodes.push(Node::default());
        }
        child
    }

    /// Asks the numbers whose patterns may take the path, by falling specificity, until one answers.
    pub(super) fn find<R>(
        &self,
        path: &NormalisedPath<'_>,
        accept: &impl Fn(usize) -> Option<R>,
    ) -> Option<R> {
        let ask = |numbers: &[usize]| numbers.iter().find_map(|number| accept(*number));
        let relative = path.as_str().strip_prefix('/');
        self.nodes
            .first()
            .and_then(|root| self.visit(root, relative, &ask))
            .or_else(|| ask(&self.anywhere))
    }

    /// `rest` is what follows the slash, `None` once the path has ended. The depth is that of the
    /// trie, which is bounded, and not that of the path.
    fn visit<R>(
        &self,
        node: &Node,
        rest: Option<&str>,
        ask: &impl Fn(&[usize]) -> Option<R>,
    ) -> Option<R> {
        let found = match rest {
            None => ask(&node.ends),
            Some(rest) => {
                let (segment, rest) = match rest.split_once('/') {
                    Some((segment, rest)) => (segment, Some(rest)),
                    None => (rest, None),
                };
                let literal = self.literal(node, segment);
                let one = node.one.filter(|_| !segment.is_empty());
                literal
                    .into_iter()
                    .chain(one)
                    .filter_map(|child| self.nodes.get(child))
                    .find_map(|child| self.visit(child, rest, ask))
            }
        };
        found
            .or_else(|| ask(&node.rest))
            .or_else(|| ask(&node.regexes))
    }

    fn literal(&self, node: &Node, segment: &str) -> Option<usize> {
        if node.literals.is_empty() {
            return None;
        }
        let key = if self.folded && segment.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(segment.to_ascii_lowercase())
        } else {
            Cow::Borrowed(segment)
        };
        node.literals.get(key.as_bytes()).copied()
    }
}
