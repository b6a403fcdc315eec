//! `redirect`: the client is told to go elsewhere.

use mesh_bundle::slice::Redirect;
use mesh_syntax::{Diagnostic, Value};

use super::Place::Route;
use super::{Entry, Keyword, Merge, Property, Reader, rewrite};
use crate::code;
use crate::value::{self, Kind, Wrong};

pub(super) static REDIRECT: Keyword = Keyword {
    props: &[
        Property::new(
            "scheme",
            &SCHEME,
            "`http` or `https`; as received if unsaid.",
        ),
        Property::new("host", &value::EXACT_HOST, "Another host."),
        Property::new(
            "port",
            &value::PORT,
            "Another port; that of the scheme where one is given.",
        ),
        Property::new(
            "path",
            &rewrite::PATH,
            "Another path; `**` and `{x}` stand for what the pattern captured.",
        ),
        Property::new("status", &STATUS, "301, 302 (if unsaid), 303, 307 or 308."),
    ],
    merge: Some(Merge::Whole),
    ..Keyword::new("redirect", &[Route], "Tells the client to go elsewhere.")
};

const SCHEMES: [(&str, &str); 2] = [("http", "http"), ("https", "https")];

static SCHEME: Kind = Kind {
    expected: "http or https",
    words: &["http", "https"],
    check: |value| scheme(value).map(drop),
};

fn scheme(value: &Value) -> Result<&'static str, Wrong> {
    value::one_of(value, &SCHEMES)
}

static STATUS: Kind = Kind {
    expected: "301, 302, 303, 307 or 308",
    words: &[],
    check: |value| status(value).map(drop),
};

fn status(value: &Value) -> Result<u16, Wrong> {
    let status = value::status(value)?;
    if [301, 302, 303, 307, 308].contains(&status) {
        return Ok(status);
    }
    let wrong = Wrong::range(format!("{status} is not a status of a redirect"));
    Err(match status {
        300..=399 => wrong,
        _ => wrong.help("to answer with any status, write `respond`"),
    })
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Redirect {
    let redirect = Redirect {
        scheme: entry
            .prop("scheme", scheme)
            .map(|scheme| scheme.value.to_owned()),
        host: entry.prop("host", value::exact_host).map(|host| host.value),
        port: entry.prop("port", value::port).map(|port| port.value),
        path: entry.prop("path", rewrite::path).map(|path| path.value),
        status: entry
            .prop("status", status)
            .map_or(302, |status| status.value),
    };
    let says = ["scheme", "host", "port", "path"];
    if !entry.node.props.is_empty() && says.iter().all(|name| entry.node.prop(name).is_none()) {
        reader.report(
            Diagnostic::error(
                code::MISSING,
                entry.node.name.span,
                "this redirect leads back to where the client came from",
            )
            .help("say what differs: `scheme=`, `host=`, `port=` or `path=`"),
        );
    }
    redirect
}
