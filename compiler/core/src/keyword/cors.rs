//! `cors`: which other sites' pages may call.

use mesh_bundle::slice::Cors;
use mesh_syntax::{Diagnostic, Value};

use super::Place::{self, Route};
use super::{Args, Entry, Keyword, Merge, Property, Reader, Repeats};
use crate::code;
use crate::value::{self, Kind, Wrong};

pub(super) static CORS: Keyword = Keyword {
    props: &[
        Property::new(
            "credentials",
            &ALLOW,
            "`allow`: cookies and certificates may be sent along.",
        ),
        Property::new(
            "max-age",
            &value::TIME,
            "How long a browser may remember the answer.",
        ),
    ],
    merge: Some(Merge::Whole),
    block: Some(Place::Cors),
    ..Keyword::new(
        "cors",
        &[Route],
        "Which other sites' pages may call; the proxy answers browsers that ask.",
    )
};

pub(super) static ORIGIN: Keyword = Keyword {
    args: Args::list("ORIGIN", &ORIGIN_TEXT, 1),
    repeats: Repeats::Many,
    ..Keyword::new("origin", &[Place::Cors], "Sites whose pages may call.")
};

pub(super) static METHOD: Keyword = Keyword {
    args: Args::list("METHOD", &value::METHOD, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "method",
        &[Place::Cors],
        "Methods besides GET, HEAD and POST.",
    )
};

pub(super) static HEADER: Keyword = Keyword {
    args: Args::list("NAME", &value::HEADER_NAME, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "header",
        &[Place::Cors],
        "Headers that pages may send besides the simple ones.",
    )
};

pub(super) static EXPOSE: Keyword = Keyword {
    args: Args::list("NAME", &value::HEADER_NAME, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "expose",
        &[Place::Cors],
        "Headers of the answer that pages may read.",
    )
};

static ALLOW: Kind = Kind {
    expected: "allow",
    words: &["allow"],
    check: allow,
};

fn allow(value: &Value) -> Result<(), Wrong> {
    value::one_of(value, &[("allow", ())])
}

static ORIGIN_TEXT: Kind = Kind {
    expected: "an origin in quotes, such as \"https://shop.example\"",
    words: &[],
    check: |value| origin(value).map(drop),
};

fn origin(value: &Value) -> Result<String, Wrong> {
    let text = value::text(value)?;
    if text == "*" {
        return Ok(text);
    }
    let wrong = || Wrong::because(format!("\"{text}\" is not an origin"));
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(wrong().instead(format!("\"https://{text}\"")));
    };
    if !["http", "https"].contains(&scheme) {
        return Err(wrong().help("an origin begins with http:// or https://"));
    }
    let (host, tail) = rest
        .split_once('/')
        .map_or((rest, None), |(host, tail)| (host, Some(tail)));
    let (name, port) = host
        .split_once(':')
        .map_or((host, None), |(name, port)| (name, Some(port)));
    let name = name.strip_prefix("*.").unwrap_or(name);
    let port_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    let lower = name.to_ascii_lowercase();
    if !value::is_name(&lower) || !port_good {
        return Err(wrong().help("an origin is a scheme, a host and perhaps a port, nothing else"));
    }
    if tail.is_some() || lower != name {
        let origin = format!("\"{scheme}://{}\"", host.to_ascii_lowercase());
        return Err(wrong()
            .help("an origin is a scheme, a lower-case host and perhaps a port, without a path")
            .instead(origin));
    }
    Ok(text)
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<Cors> {
    let credentials = entry.prop("credentials", allow);
    let mut cors = Cors {
        credentials: credentials.is_some(),
        max_age: entry.prop("max-age", value::time).map(|age| age.value),
        ..Cors::default()
    };
    let mut given = false;
    for child in reader.block(entry) {
        match child.word() {
            "origin" => {
                given = true;
                for origin in child.args(0, origin) {
                    if let (Some(credentials), "*") = (credentials, origin.value.as_str()) {
                        reader.report(
                            Diagnostic::error(
                                code::EXCLUSIVE,
                                origin.span,
                                "every site could act with the cookies of whoever visits it",
                            )
                            .label(credentials.span, "cookies are sent along")
                            .help("name the origins, or take `credentials=` away"),
                        );
                    }
                    cors.origins.push(origin.value);
                }
            }
            "method" => cors.methods.extend(values(child, value::method)),
            "header" => cors.headers.extend(values(child, value::header_name)),
            _ => cors.expose.extend(values(child, value::header_name)),
        }
    }
    if !given {
        reader.report(
            Diagnostic::error(
                code::MISSING,
                entry.node.name.span,
                "`cors` names no `origin`",
            )
            .help("say whose pages may call: `cors { origin \"https://shop.example\" }`"),
        );
    }
    for list in [
        &mut cors.origins,
        &mut cors.methods,
        &mut cors.headers,
        &mut cors.expose,
    ] {
        list.sort_unstable();
        list.dedup();
    }
    (!cors.origins.is_empty()).then_some(cors)
}

fn values(entry: Entry<'_>, read: value::Read<String>) -> impl Iterator<Item = String> {
    entry.args(0, read).into_iter().map(|value| value.value)
}
