//! Every node of a tree with its declaration and those that it stands in.

use mesh_compiler::environment_of;
use mesh_compiler::keyword::{Keyword, Place, is_inventory, words_in};
use mesh_syntax::{Node, Tree};

/// A node and what declares it; none: the word is unknown where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'n> {
    pub(crate) keyword: Option<&'static Keyword>,
    pub(crate) node: &'n Node,
}

/// Where words may stand: one place, or in an `override` two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    own: Option<Place>,
    overridden: Option<Place>,
}

impl Places {
    /// The top of a file.
    pub(crate) fn top(path: &str, root_path: &str) -> Self {
        let place = if path.ends_with(".test.kdl") {
            Place::TestFile
        } else if is_inventory(path) {
            Place::InventoryFile
        } else if environment_of(path, root_path).is_some() {
            Place::Environment
        } else {
            Place::Root
        };
        Self::one(Some(place))
    }

    fn one(own: Option<Place>) -> Self {
        Self {
            own,
            overridden: None,
        }
    }

    /// The block of a node.
    pub(crate) fn of_block(step: Step<'_>) -> Self {
        let own = step.keyword.and_then(|keyword| keyword.block);
        let overridden = (own == Some(Place::Override))
            .then(|| step.node.first_arg()?.value.as_str())
            .flatten()
            .and_then(|kind| words_in(Place::Root).find(|keyword| keyword.name == kind))
            .and_then(|keyword| keyword.block);
        Self { own, overridden }
    }

    /// The words that may stand here.
    pub(crate) fn words(self) -> impl Iterator<Item = &'static Keyword> {
        let places = self.own.into_iter().chain(self.overridden);
        places.flat_map(words_in)
    }

    /// The declaration of a word here.
    pub(crate) fn find(self, word: &str) -> Option<&'static Keyword> {
        self.words().find(|keyword| keyword.name == word)
    }
}

/// Visits every node of a tree, outer ones first; the last step is the node itself.
pub(crate) fn walk<'n>(tree: &'n Tree, top: Places, visit: &mut impl FnMut(&[Step<'n>])) {
    nodes(&tree.nodes, top, &mut Vec::new(), visit);
}

/// Blocks are nested no deeper than the parser lets them be.
fn nodes<'n>(
    nodes_here: &'n [Node],
    places: Places,
    chain: &mut Vec<Step<'n>>,
    visit: &mut impl FnMut(&[Step<'n>]),
) {
    for node in nodes_here {
        let keyword = places.find(&node.name.text);
        let step = Step { keyword, node };
        chain.push(step);
        visit(chain);
        nodes(&node.children, Places::of_block(step), chain, visit);
        chain.pop();
    }
}

/// The steps to the innermost node that holds an offset; empty: none does.
pub(crate) fn path_to(tree: &Tree, top: Places, offset: usize) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut here = &tree.nodes;
    let mut places = top;
    let holds = |node: &&Node| node.span.range().start <= offset && offset <= node.span.range().end;
    // Of two that touch the later one begins here.
    while let Some(node) = here.iter().rev().find(holds) {
        let keyword = places.find(&node.name.text);
        let step = Step { keyword, node };
        steps.push(step);
        here = &node.children;
        places = Places::of_block(step);
    }
    steps
}
