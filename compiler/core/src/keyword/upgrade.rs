//! `upgrade`, `path-accepts` and `streaming`: what a route lets through that others don't.

use mesh_bundle::slice::{PathAccepts, Upgrade};
use mesh_syntax::Value;

use super::Place::Route;
use super::{Args, Argument, Keyword};
use crate::value::{self, Kind, Wrong};

pub(super) static UPGRADE: Keyword = Keyword {
    args: Args::required(&[Argument::new("PROTOCOL", &PROTOCOL)]),
    ..Keyword::new(
        "upgrade",
        &[Route],
        "What a connection may become: `websocket`, or `none`.",
    )
};

pub(super) static PATH_ACCEPTS: Keyword = Keyword {
    args: Args::list("WHAT", &ACCEPTS, 1),
    ..Keyword::new(
        "path-accepts",
        &[Route],
        "What the paths of this route may hold that is refused elsewhere.",
    )
};

pub(super) static STREAMING: Keyword = Keyword {
    alone: true,
    ..Keyword::new(
        "streaming",
        &[Route],
        "The timeout ends when the answer begins; then only `stream-idle=` and `max-duration=` hold.",
    )
};

const PROTOCOLS: [(&str, Upgrade); 2] =
    [("websocket", Upgrade::Websocket), ("none", Upgrade::None)];

static PROTOCOL: Kind = Kind {
    expected: "websocket or none",
    words: &["websocket", "none"],
    check: |value| protocol(value).map(drop),
};

pub(super) fn protocol(value: &Value) -> Result<Upgrade, Wrong> {
    value::one_of(value, &PROTOCOLS)
}

const ALL: [(&str, PathAccepts); 3] = [
    ("encoded-slash", PathAccepts::EncodedSlash),
    ("encoded-backslash", PathAccepts::EncodedBackslash),
    ("semicolon", PathAccepts::Semicolon),
];

static ACCEPTS: Kind = Kind {
    expected: "what is accepted",
    words: &["encoded-slash", "encoded-backslash", "semicolon"],
    check: |value| accepts(value).map(drop),
};

pub(super) fn accepts(value: &Value) -> Result<PathAccepts, Wrong> {
    value::one_of(value, &ALL)
}
