//! The definitions of a file as a tree, and those of all files by a part of their name.

use mesh_syntax::{FileId, Node, Span};

use crate::name::{self, Kind, Role};
use crate::policies::Policies;
use crate::walk::{Places, Step};

/// Most definitions that a search returns; whoever gets as many writes more of the name.
const FOUND_MAX: usize = 200;

/// Something that an outline shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlined {
    /// Its name, or its word and values.
    pub name: String,
    /// The word, where the name does not begin with it.
    pub detail: &'static str,
    /// What it defines.
    pub kind: Option<Kind>,
    /// All of it.
    pub span: Span,
    /// What names it.
    pub selection: Span,
    /// What is in it.
    pub children: Vec<Self>,
}

/// Words that an outline shows although they define no name.
const SHOWN: &[&str] = &[
    "access-log",
    "allow",
    "calls",
    "defaults",
    "delegate",
    "deny",
    "inventory",
    "invariant",
    "listen",
    "match",
    "override",
    "remove",
    "require",
    "suppress",
    "telemetry",
    "test",
];

/// The definitions of a file.
pub fn outline(policies: &Policies, file: FileId) -> Vec<Outlined> {
    let nodes = policies.tree(file).map_or(&[][..], |tree| &tree.nodes);
    outlined(nodes, policies.top(file), &mut Vec::new())
}

fn outlined<'n>(nodes: &'n [Node], places: Places, chain: &mut Vec<Step<'n>>) -> Vec<Outlined> {
    let mut found = Vec::new();
    for node in nodes {
        let Some(keyword) = places.find(&node.name.text) else {
            continue;
        };
        let step = Step {
            keyword: Some(keyword),
            node,
        };
        chain.push(step);
        let defined = name::defined(chain);
        if defined.is_some() || SHOWN.contains(&keyword.name) {
            let children = outlined(&node.children, Places::of_block(step), chain);
            found.push(match defined {
                Some(mention) => Outlined {
                    name: mention.id.name,
                    detail: keyword.name,
                    kind: Some(mention.id.kind),
                    span: node.span,
                    selection: mention.span,
                    children,
                },
                None => Outlined {
                    name: head(node),
                    detail: "",
                    kind: None,
                    span: node.span,
                    selection: node.name.span,
                    children,
                },
            });
        }
        chain.pop();
    }
    found
}

/// A word and its values.
fn head(node: &Node) -> String {
    let values = node.args.iter().filter_map(|arg| arg.value.as_str());
    let words: Vec<&str> = std::iter::once(node.name.text.as_str())
        .chain(values)
        .collect();
    words.join(" ")
}

/// A definition that a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The service that it is of, or empty.
    pub container: String,
    /// Where its name is.
    pub span: Span,
}

/// Definitions whose names have the letters of a query in their order, exact ones first, then by name.
pub fn search(policies: &Policies, query: &str) -> Vec<Listed> {
    let query = query.to_lowercase();
    let defined = policies
        .mentions()
        .filter(|mention| mention.role == Role::Definition && fits(&mention.id.name, &query));
    let mut found: Vec<Listed> = defined
        .map(|mention| Listed {
            name: mention.id.name.clone(),
            kind: mention.id.kind,
            container: mention.id.owner.clone(),
            span: mention.span,
        })
        .collect();
    let rank = |listed: &Listed| {
        let place = listed.name.find(query.as_str());
        (place.is_none(), place, listed.name.len())
    };
    found.sort_by(|a, b| (rank(a), &a.name, a.span).cmp(&(rank(b), &b.name, b.span)));
    found.truncate(FOUND_MAX);
    found
}

fn fits(name: &str, query: &str) -> bool {
    let mut letters = name.chars();
    query
        .chars()
        .all(|wanted| letters.any(|letter| letter.to_ascii_lowercase() == wanted))
}

#[cfg(test)]
mod tests {
    use crate::tester::{Case, MESH};

    #[test]
    fn an_outline_shows_definitions_in_each_other() {
        let case = Case::new(&[
            ("mesh.kdl", MESH),
            (
                "a.kdl",
                "service a {¦
    port 80
    subset v1 { labels v=a }
    route r { match { path \"/\" }; to v1 }
    allow b { method GET }
}
policy p { timeout \"1s\" }
nonsense x { }
test
",
            ),
        ]);
        assert_eq!(
            case.outline(),
            "service a\n  subset v1\n  route r\n    match\n  allow b\npolicy p\n"
        );
    }

    #[test]
    fn a_search_finds_the_best_first() {
        let case = Case::new(&[
            ("mesh.kdl", MESH),
            (
                "a.kdl",
                "service ratings\nservice r-a-t\nservice rat { route rat }\nservice other¦",
            ),
        ]);
        let names: Vec<String> = case.search("RAT");
        assert_eq!(names, ["rat", "rat/rat", "ratings", "r-a-t"]);
    }
}
