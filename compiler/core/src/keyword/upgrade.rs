//! `upgrade`, `path-accepts`, `streaming` and `sticky`: what a route does with its requests that others don't.

use mesh_bundle::slice::{PathAccepts, RequestKey, Upgrade};
use mesh_syntax::{Diagnostic, Value};

use super::Place::Route;
use super::{Args, Argument, Entry, Keyword, Place, Reader, balance};
use crate::code;
use crate::model::Spanned;
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

pub(super) static STICKY: Keyword = Keyword {
    block: Some(Place::Balance),
    ..Keyword::new(
        "sticky",
        &[Route],
        "Requests that share this go to the same of several destinations, as long as weights stay.",
    )
};

/// The keys of `sticky`, ascending.
pub(super) fn sticky(reader: &mut Reader<'_>, entry: Entry<'_>) -> Spanned<Vec<RequestKey>> {
    let span = entry.span();
    let keys = balance::keys(reader, entry);
    if keys.is_empty() && entry.node.children.is_empty() {
        reader.report(
            Diagnostic::error(
                code::HASH_WITHOUT_KEY,
                span,
                "`sticky` ties nothing together",
            )
            .at("by what?")
            .help("say what stays with one destination: `sticky { per cookie shop ttl=\"1h\" }`"),
        );
    }
    Spanned::new(keys.into_iter().map(|key| key.value).collect(), span)
}

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
