//! `mtls`: whether peers must use mutual TLS.

use mesh_bundle::slice::MtlsMode;
use mesh_syntax::Value;

use super::Place::{Mesh, Port, Service};
use super::{Args, Argument, Entry, Keyword};
use crate::model::Spanned;
use crate::value::{self, Kind, Wrong};

pub(super) static MTLS: Keyword = Keyword {
    args: Args::required(&[Argument::new("MODE", &MODE)]),
    ..Keyword::new(
        "mtls",
        &[Mesh, Service, Port],
        "`strict`: only mutual TLS (the default); `permissive`: plaintext too, as `unauthenticated`; `off`: plaintext only.",
    )
};

/// None is strict: what holds where nothing is said.
const MODES: [(&str, Option<MtlsMode>); 3] = [
    ("strict", None),
    ("permissive", Some(MtlsMode::Permissive)),
    ("off", Some(MtlsMode::Off)),
];

static MODE: Kind = Kind {
    expected: "a mode",
    words: &["strict", "permissive", "off"],
    check: |value| mode(value).map(drop),
};

fn mode(value: &Value) -> Result<Option<MtlsMode>, Wrong> {
    value::one_of(value, &MODES)
}

pub(super) fn decode(entry: Entry<'_>) -> Option<Spanned<Option<MtlsMode>>> {
    entry.arg(0, mode)
}
