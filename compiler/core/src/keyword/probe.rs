//! `probe`: what is admitted in plaintext to see whether a service lives.

use super::Place::{Defaults, Gateway, Policy, Probe, Service};
use super::{Args, Entry, Keyword, Reader, Repeats, condition};
use crate::model;
use crate::value;

pub(super) static PROBE: Keyword = Keyword {
    args: Args::list("PATH", &condition::TEMPLATE, 1),
    repeats: Repeats::Many,
    block: Some(Probe),
    ..Keyword::new(
        "probe",
        &[Defaults, Policy, Service, Gateway],
        "GET of these paths is let in without an identity, and nothing else is.",
    )
};

pub(super) static PEER_IP: Keyword = Keyword {
    args: Args::list("RANGE", &value::CIDR, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "peer-ip",
        &[Probe],
        "Peers that it is let in from; without it, any.",
    )
};

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> model::Probe {
    let peer_ip = reader
        .block(entry)
        .into_iter()
        .flat_map(|child| child.args(0, value::cidr))
        .collect();
    model::Probe {
        paths: entry.args(0, condition::template),
        peer_ip,
        span: entry.span(),
        head: entry.head(),
    }
}
