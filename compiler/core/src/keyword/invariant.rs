//! `invariant`: what must hold for the whole mesh, whoever changes which part of it.

use mesh_syntax::Diagnostic;

use super::Place::{Decided, Invariant, Isolated, Reaches, Root};
use super::{Args, Argument, Entry, Keyword, Reader, Repeats, Symbol, access, condition};
use crate::code;
use crate::model::{self, Claim, ClaimKind};
use crate::value;

pub(super) static INVARIANT: Keyword = Keyword {
    args: Args::required(&[Argument::new("TEXT", &value::PROSE)]),
    repeats: Repeats::Many,
    block: Some(Invariant),
    ..Keyword::new(
        "invariant",
        &[Root],
        "What must hold for the whole mesh; `check` refuses a mesh in which it does not.",
    )
};

pub(super) static REACHES: Keyword = Keyword {
    args: Args::required(&[Argument::new("NAME", &value::NAME).refers(Symbol::Service)]),
    repeats: Repeats::Many,
    block: Some(Reaches),
    ..Keyword::new(
        "reaches",
        &[Invariant],
        "Whatever reaches this service comes from one of those in its block: nobody else is let in.",
    )
};

pub(super) static ONLY: Keyword = Keyword {
    args: Args::list("NAME", &value::NAME, 1).refers(Symbol::Service),
    repeats: Repeats::Many,
    ..Keyword::new(
        "only",
        &[Reaches],
        "The last hop of every path is one of these.",
    )
};

pub(super) static ISOLATED: Keyword = Keyword {
    repeats: Repeats::Many,
    block: Some(Isolated),
    ..Keyword::new(
        "isolated",
        &[Invariant],
        "There is no path of permitted calls from one to the other, however long.",
    )
};

pub(super) static FROM: Keyword = Keyword {
    args: Args::list("NAME", &value::NAME, 1).refers(Symbol::Service),
    repeats: Repeats::Many,
    ..Keyword::new("from", &[Isolated], "Where no path begins.")
};

pub(super) static TO: Keyword = Keyword {
    args: Args::list("NAME", &value::NAME, 1).refers(Symbol::Service),
    repeats: Repeats::Many,
    ..Keyword::new("to", &[Isolated], "Where no path ends.")
};

pub(super) static ALLOWED: Keyword = decided("allowed", "Every such request is let in.");
pub(super) static DENIED: Keyword = decided("denied", "No such request is let in.");

const fn decided(name: &'static str, summary: &'static str) -> Keyword {
    Keyword {
        repeats: Repeats::Many,
        block: Some(Decided),
        ..Keyword::new(name, &[Invariant], summary)
    }
}

pub(super) static DECIDED_TO: Keyword = Keyword {
    args: Args::required(&[Argument::new("NAME", &value::NAME).refers(Symbol::Service)]),
    ..Keyword::new("to", &[Decided], "The service that the requests are for.")
};

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Invariant> {
    let mut claims = Vec::new();
    for child in reader.block(entry) {
        let kind = match child.word() {
            "reaches" => reaches(reader, child),
            "isolated" => isolated(reader, child),
            word => decision(reader, child, word == "allowed"),
        };
        claims.extend(kind.map(|kind| Claim {
            kind,
            span: child.span(),
            head: child.head(),
        }));
    }
    if entry.node.children.is_empty() {
        missing(
            reader,
            entry,
            "an invariant needs what must hold",
            "write `reaches`, `isolated`, `allowed` or `denied` in its block",
        );
    }
    Some(model::Invariant {
        text: entry.arg(0, value::text)?,
        claims,
        span: entry.span(),
    })
}

fn missing(reader: &mut Reader<'_>, entry: Entry<'_>, message: &str, help: &str) {
    let span = entry.node.name.span;
    reader.report(Diagnostic::error(code::MISSING, span, message).help(help));
}

fn reaches(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<ClaimKind> {
    let children = reader.block(entry);
    let only: Vec<_> = children
        .iter()
        .flat_map(|child| child.args(0, value::name))
        .collect();
    if entry.node.children_named("only").next().is_none() {
        missing(
            reader,
            entry,
            "`reaches` needs `only`",
            "name who may be the last hop: `reaches payments { only checkout }`",
        );
    }
    Some(ClaimKind::Reaches {
        target: entry.arg(0, value::name)?,
        only,
    })
}

fn isolated(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<ClaimKind> {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for child in reader.block(entry) {
        let names = child.args(0, value::name);
        if child.word() == "from" {
            from.extend(names);
        } else {
            to.extend(names);
        }
    }
    for word in ["from", "to"] {
        if entry.node.children_named(word).next().is_none() {
            let message = format!("`isolated` needs `{word}`");
            let help = "write `isolated { from batch; to payments }`";
            missing(reader, entry, &message, help);
            return None;
        }
    }
    Some(ClaimKind::Isolated { from, to })
}

fn decision(reader: &mut Reader<'_>, entry: Entry<'_>, allowed: bool) -> Option<ClaimKind> {
    let mut from = Vec::new();
    let mut to = None;
    let mut conditions = Vec::new();
    for child in reader.block(entry) {
        match child.word() {
            "from" => from.extend(access::who(child)),
            "to" => to = child.arg(0, value::name),
            _ => conditions.extend(condition::decode(reader, child)),
        }
    }
    if entry.node.children_named("to").next().is_none() {
        let message = format!("`{}` needs `to`", entry.word());
        let help = "name the service that the requests are for: `to payments`";
        missing(reader, entry, &message, help);
    }
    Some(ClaimKind::Decided {
        allowed,
        from,
        to: to?,
        conditions,
    })
}
