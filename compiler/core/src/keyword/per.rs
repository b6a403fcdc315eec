//! `per`: the properties of a request that tell requests apart, for hashing and for counting.

use mesh_bundle::slice::RequestKey;
use mesh_syntax::{Diagnostic, Value};

use super::{Args, Argument, Entry, Keyword, Place, Property, Reader, Repeats};
use crate::code;
use crate::value::{self, Kind, Wrong};

pub(super) static PER: Keyword = Keyword {
    args: Args {
        leading: &[
            Argument::new("KEY", &KEY),
            Argument::new("NAME", &value::FIELD_NAME),
        ],
        rest: None,
        required: 1,
    },
    repeats: Repeats::Many,
    props: &[Property::new(
        "ttl",
        &value::TIME,
        "Of a cookie: set for so long when the request has none.",
    )],
    ..Keyword::new(
        "per",
        &[Place::Balance, Place::RateLimit],
        "`client-ip`, `caller`, `path`, or `header`, `query`, `cookie`, `claim` with a name; several make one key.",
    )
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    ClientIp,
    Caller,
    Path,
    Header,
    Query,
    Cookie,
    Claim,
}

const WORDS: [(&str, Word); 7] = [
    ("client-ip", Word::ClientIp),
    ("caller", Word::Caller),
    ("path", Word::Path),
    ("header", Word::Header),
    ("query", Word::Query),
    ("cookie", Word::Cookie),
    ("claim", Word::Claim),
];

static KEY: Kind = Kind {
    expected: "what tells requests apart",
    words: &[
        "client-ip",
        "caller",
        "path",
        "header",
        "query",
        "cookie",
        "claim",
    ],
    check: |value| word(value).map(drop),
};

fn word(value: &Value) -> Result<Word, Wrong> {
    value::one_of(value, &WORDS)
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<RequestKey> {
    let word = entry.arg(0, word)?;
    let named = matches!(
        word.value,
        Word::Header | Word::Query | Word::Cookie | Word::Claim
    );
    let ttl = entry.prop("ttl", value::time);
    if let (Some(ttl), true) = (ttl, word.value != Word::Cookie) {
        reader.report(
            Diagnostic::error(code::EXCLUSIVE, ttl.span, "only a cookie has a `ttl=`")
                .help("remove it: the proxy sets cookies, nothing else"),
        );
    }
    match (named, entry.node.args.get(1)) {
        (true, None) => {
            let text = entry.word();
            let kind = WORDS.iter().find(|(_, known)| *known == word.value)?.0;
            reader.report(
                Diagnostic::error(
                    code::MISSING,
                    word.span,
                    format!("`{text} {kind}` needs the name of the {kind}"),
                )
                .help(format!("write it behind: `{text} {kind} NAME`")),
            );
            return None;
        }
        (false, Some(extra)) => {
            reader.report(
                Diagnostic::error(
                    code::WRONG_TYPE,
                    extra.span,
                    "a request has only one of this, so it has no name",
                )
                .help("write each key as a `per` of its own"),
            );
        }
        _ => {}
    }
    let name = |read| entry.arg(1, read).map(|name| name.value);
    Some(match word.value {
        Word::ClientIp => RequestKey::ClientIp,
        Word::Caller => RequestKey::Caller,
        Word::Path => RequestKey::Path,
        Word::Header => RequestKey::Header(name(value::header_name)?),
        Word::Query => RequestKey::Query(name(value::field_name)?),
        Word::Claim => RequestKey::Claim(name(value::field_name)?),
        Word::Cookie => RequestKey::Cookie {
            name: name(value::field_name)?,
            ttl: ttl.map(|ttl| ttl.value),
        },
    })
}
