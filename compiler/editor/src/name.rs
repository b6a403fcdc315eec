//! The names in a file: what each stands for, and whether it is defined or referred to there.

use mesh_compiler::keyword::{Naming, Symbol};
use mesh_compiler::value::is_name;
use mesh_syntax::{Span, Tree, Value};

use crate::walk::{Places, Step, walk};

/// What kind of thing a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The mesh.
    Mesh,
    /// A service, gateway or external.
    Service,
    /// A policy.
    Policy,
    /// A team.
    Team,
    /// A `jwt`.
    Jwt,
    /// An `authorizer`.
    Authorizer,
    /// An environment.
    Environment,
    /// A subset of a service.
    Subset,
    /// A route of a service.
    Route,
    /// A code of a finding.
    Code,
}

impl Kind {
    /// How people call it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Service => "service",
            Self::Policy => "policy",
            Self::Team => "team",
            Self::Jwt => "jwt",
            Self::Authorizer => "authorizer",
            Self::Environment => "environment",
            Self::Subset => "subset",
            Self::Route => "route",
            Self::Code => "code",
        }
    }
}

/// Something that has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// What it is.
    pub kind: Kind,
    /// Of a subset or route the service; else empty.
    pub owner: String,
    /// Its name.
    pub name: String,
}

/// What a mention is to its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Here it is defined.
    Definition,
    /// An environment defines it anew, or a part of it.
    Override,
    /// It is defined elsewhere.
    Reference,
}

/// A place where a name stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// What it names.
    pub id: Id,
    /// The name itself.
    pub span: Span,
    /// The node that it stands at.
    pub node: Span,
    /// The word of that node.
    pub word: &'static str,
    /// What it is there.
    pub role: Role,
}

/// Every name of a file, in its order.
pub(crate) fn mentions(tree: &Tree, top: Places) -> Vec<Mention> {
    let mut found = Vec::new();
    walk(tree, top, &mut |chain| of_node(chain, &mut found));
    found
}

/// The names at the last node of a chain.
pub(crate) fn of_node(chain: &[Step<'_>], found: &mut Vec<Mention>) {
    let Some(Step {
        keyword: Some(keyword),
        node,
    }) = chain.last()
    else {
        return;
    };
    let args = node.args.iter().enumerate().filter_map(|(index, arg)| {
        let naming = keyword.args.at(index)?.names?;
        Some((naming, &arg.value, arg.span))
    });
    let props = node.props.iter().filter_map(|prop| {
        let mut declared = keyword.props.iter();
        let declared = declared.find(|declared| declared.name == prop.name.text)?;
        Some((declared.names?, &prop.value, prop.value_span))
    });
    for (naming, value, span) in args.chain(props) {
        let Value::Word(name) = value else {
            continue;
        };
        let (symbol, role) = match naming {
            Naming::Refers(symbol) => (symbol, Role::Reference),
            Naming::Defines(symbol) if is_overridden(chain) => (symbol, Role::Override),
            Naming::Defines(symbol) => (symbol, Role::Definition),
        };
        if let Some(id) = id(symbol, chain, name) {
            found.push(Mention {
                id,
                span,
                node: node.span,
                word: keyword.name,
                role,
            });
        }
    }
}

fn is_overridden(chain: &[Step<'_>]) -> bool {
    let mut words = chain.iter().filter_map(|step| step.keyword);
    words.any(|keyword| keyword.name == "override")
}

/// What a name stands for at the last node of a chain.
pub(crate) fn id(symbol: Symbol, chain: &[Step<'_>], name: &str) -> Option<Id> {
    let kind = kind(symbol, chain)?;
    if kind == Kind::Service && !is_name(name) || is_reserved(name) {
        return None;
    }
    let owner = match kind {
        Kind::Subset | Kind::Route => owner(chain)?,
        _ => String::new(),
    };
    Some(Id {
        kind,
        owner,
        name: name.to_owned(),
    })
}

/// `any`, `none` and their like are names of nothing.
pub(crate) fn is_reserved(name: &str) -> bool {
    mesh_compiler::value::RESERVED.contains(&name)
}

/// What kind of thing a name is of, at the last node of a chain.
pub(crate) fn kind(symbol: Symbol, chain: &[Step<'_>]) -> Option<Kind> {
    Some(match symbol {
        Symbol::Mesh => Kind::Mesh,
        Symbol::Service | Symbol::Who | Symbol::Caller | Symbol::Gateway => Kind::Service,
        Symbol::Policy => Kind::Policy,
        Symbol::Team => Kind::Team,
        Symbol::Jwt => Kind::Jwt,
        Symbol::Authorizer => Kind::Authorizer,
        Symbol::Environment => Kind::Environment,
        Symbol::Subset => Kind::Subset,
        Symbol::Route => Kind::Route,
        Symbol::Code => Kind::Code,
        Symbol::Destination if is_in_gateway(chain) => Kind::Service,
        Symbol::Destination => Kind::Subset,
        Symbol::OfKind => of_word(chain.last()?.node.first_arg()?.value.as_str()?)?,
    })
}

fn of_word(word: &str) -> Option<Kind> {
    Some(match word {
        "mesh" => Kind::Mesh,
        "service" | "gateway" | "external" | "calls" => Kind::Service,
        "policy" => Kind::Policy,
        "team" => Kind::Team,
        "jwt" => Kind::Jwt,
        "authorizer" => Kind::Authorizer,
        "subset" => Kind::Subset,
        "route" => Kind::Route,
        _ => return None,
    })
}

/// Whether the routes here are a gateway's, whose destinations are services.
fn is_in_gateway(chain: &[Step<'_>]) -> bool {
    chain
        .first()
        .is_some_and(|top| match top.node.name.text.as_str() {
            "gateway" | "route" => true,
            "override" => {
                let kind = top.node.first_arg();
                let kind = kind.and_then(|kind| kind.value.as_str());
                matches!(kind, Some("gateway" | "route"))
            }
            _ => false,
        })
}

/// The service that a subset or route at the last node of a chain is of: the nearest that is named.
pub(crate) fn owner(chain: &[Step<'_>]) -> Option<String> {
    let named = (0..chain.len()).rev().find_map(|last| {
        let chain = chain.get(..=last)?;
        named_service(chain)
    });
    named.map(str::to_owned)
}

fn named_service<'n>(chain: &[Step<'n>]) -> Option<&'n str> {
    let Step { keyword, node } = chain.last()?;
    let keyword = (*keyword)?;
    let arg = |index: usize| node.args.get(index)?.value.as_str();
    if keyword.name == "override" {
        let is_service = arg(0).and_then(of_word) == Some(Kind::Service);
        return arg(1).filter(|_| is_service);
    }
    if keyword.name == "test" {
        let request = node.children_named("request").next()?;
        return request.prop("to")?.value.as_str();
    }
    let names_service = |naming: Option<Naming>| match naming? {
        Naming::Defines(symbol) | Naming::Refers(symbol) => match symbol {
            Symbol::Service | Symbol::Gateway => Some(()),
            Symbol::Destination if is_in_gateway(chain) => Some(()),
            _ => None,
        },
    };
    let mut props = keyword.props.iter();
    let prop = props.find_map(|declared| {
        names_service(declared.names)?;
        node.prop(declared.name)?.value.as_str()
    });
    prop.or_else(|| {
        names_service(keyword.args.leading.first()?.names)?;
        arg(0)
    })
}

/// The definition that a node is, if it is one.
pub(crate) fn defined(chain: &[Step<'_>]) -> Option<Mention> {
    let mut found = Vec::new();
    of_node(chain, &mut found);
    found
        .into_iter()
        .find(|mention| mention.role != Role::Reference)
}
