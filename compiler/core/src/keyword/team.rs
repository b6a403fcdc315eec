//! `team`: who owns which files and services.

use super::Place::{Mesh, Team};
use super::{Args, Argument, Entry, Keyword, Reader, Repeats, Symbol};
use crate::model;
use crate::value;

pub(super) static TEAM: Keyword = Keyword {
    args: Args::required(&[Argument::new("NAME", &value::NAME).defines(Symbol::Team)]),
    repeats: Repeats::Many,
    block: Some(Team),
    ..Keyword::new("team", &[Mesh], "A team, and what belongs to it.")
};

pub(super) static OWNS: Keyword = Keyword {
    args: Args::list("GLOB", &value::PROSE, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "owns",
        &[Team],
        "Files of the team, relative to the mesh's folder: `*` stands for a part of one name, `**` for any folders.",
    )
};

pub(super) static SERVICE: Keyword = Keyword {
    args: Args::list("NAME", &value::NAME, 1).refers(Symbol::Service),
    repeats: Repeats::Many,
    ..Keyword::new("service", &[Team], "Services of the team.")
};

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Team> {
    let mut owns = Vec::new();
    let mut services = Vec::new();
    for child in reader.block(entry) {
        match child.word() {
            "owns" => owns.extend(child.args(0, value::text)),
            _ => services.extend(child.args(0, value::name)),
        }
    }
    Some(model::Team {
        name: entry.arg(0, value::name)?,
        owns,
        services,
        span: entry.span(),
    })
}
