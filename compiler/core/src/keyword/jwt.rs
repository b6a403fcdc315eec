//! `jwt`: whose tokens are known, and where a request carries them.

use std::net::IpAddr;

use mesh_bundle::slice::TokenLocation;
use mesh_syntax::{Diagnostic, Value};

use super::Place::{Jwt, Root};
use super::{Args, Argument, Entry, Keyword, Merge, Property, Reader, Repeats, Symbol};
use crate::code;
use crate::model::{self, JwksSource};
use crate::value::{self, Kind, Wrong};

pub(super) static JWT: Keyword = Keyword {
    args: Args::required(&[Argument::new("NAME", &value::NAME).defines(Symbol::Jwt)]),
    repeats: Repeats::Many,
    merge: Some(Merge::NamedOrNew),
    block: Some(Jwt),
    ..Keyword::new(
        "jwt",
        &[Root],
        "A provider of tokens: who issues them, and the keys that verify them.",
    )
};

pub(super) static ISSUER: Keyword = Keyword {
    args: Args::required(&[Argument::new("ISSUER", &value::TEXT)]),
    ..Keyword::new("issuer", &[Jwt], "The claim `iss` of its tokens.")
};

pub(super) static AUDIENCE: Keyword = Keyword {
    args: Args::list("AUDIENCE", &value::TEXT, 1),
    repeats: Repeats::Many,
    merge: Some(Merge::List),
    ..Keyword::new(
        "audience",
        &[Jwt],
        "The claim `aud` of a token must hold one of these; without it any audience will do.",
    )
};

pub(super) static JWKS: Keyword = Keyword {
    props: &[
        Property::new(
            "file",
            &FILE,
            "A file of public keys, relative to the mesh's folder; its name ends in .jwks.json.",
        ),
        Property::new(
            "url",
            &URL,
            "Where proxies fetch the keys, over TLS that is verified with the system's roots, or those of `--secret jwks=FILE`.",
        ),
    ],
    merge: Some(Merge::Whole),
    ..Keyword::new(
        "jwks",
        &[Jwt],
        "The public keys, as a JSON Web Key Set (RFC 7517): from the repository, or fetched.",
    )
};

pub(super) static LOCATION: Keyword = Keyword {
    repeats: Repeats::Many,
    merge: Some(Merge::List),
    props: &[
        Property::new("header", &value::HEADER_NAME, "A header."),
        Property::new("query", &value::FIELD_NAME, "A query parameter."),
        Property::new("cookie", &value::FIELD_NAME, "A cookie."),
    ],
    ..Keyword::new(
        "location",
        &[Jwt],
        "Where a request carries the token, in order; without it `Authorization: Bearer`.",
    )
};

pub(super) static FORWARD: Keyword = Keyword {
    repeats: Repeats::Many,
    merge: Some(Merge::List),
    props: &[
        Property::new("claim", &value::FIELD_NAME, "The claim.").required(),
        Property::new("header", &value::HEADER_NAME, "The header that carries it.").required(),
    ],
    ..Keyword::new(
        "forward",
        &[Jwt],
        "A claim that the service is told in a header.",
    )
};

static URL: Kind = Kind {
    expected: "a URL in quotes, such as \"https://id.example/keys\"",
    words: &[],
    check: |value| url(value).map(drop),
};

/// Whoever could replace the keys on their way could issue tokens.
fn url(value: &Value) -> Result<String, Wrong> {
    let text = value::url(value)?;
    let Some(rest) = text.strip_prefix("http://") else {
        return Ok(text);
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
        return Ok(text);
    }
    Err(Wrong::because(format!(
        "keys from \"{text}\" could be replaced by anybody on their way"
    ))
    .help("fetch them over https://; http:// is for a loopback address such as 127.0.0.1"))
}

static FILE: Kind = Kind {
    expected: "a path in quotes that ends in .jwks.json",
    words: &[],
    check: |value| file(value).map(drop),
};

fn file(value: &Value) -> Result<String, Wrong> {
    let text = value::text(value)?;
    if text.starts_with('/') || text.split('/').any(|name| name == ".." || name == ".") {
        return Err(
            Wrong::because(format!("\"{text}\" leads out of the mesh's folder"))
                .help("keys stand in the repository, below the folder of the `mesh` node"),
        );
    }
    if !text.ends_with(mesh_syntax::KEY_SET_SUFFIX) {
        return Err(Wrong::because(format!("\"{text}\" is no file of keys"))
            .help("files of keys are read by their name: it ends in .jwks.json"));
    }
    Ok(text)
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Jwt> {
    let mut issuer = None;
    let mut audiences = Vec::new();
    let mut jwks = None;
    let mut locations = Vec::new();
    let mut forwards = Vec::new();
    for child in reader.block(entry) {
        match child.word() {
            "issuer" => issuer = child.arg(0, value::text),
            "audience" => audiences.extend(child.args(0, value::text)),
            "jwks" => jwks = source(reader, child),
            "location" => locations.extend(location(reader, child)),
            _ => forwards.extend(
                child
                    .prop("claim", value::field_name)
                    .zip(child.prop("header", value::header_name)),
            ),
        }
    }
    for (word, help) in [
        (
            "issuer",
            "write what the claim `iss` of its tokens is: `issuer \"https://id.example\"`",
        ),
        (
            "jwks",
            "write where its public keys are: `jwks file=\"keys/id.jwks.json\"`",
        ),
    ] {
        if entry.node.children_named(word).next().is_none() {
            let span = entry.node.name.span;
            reader.report(
                Diagnostic::error(code::MISSING, span, format!("a `jwt` needs `{word}`"))
                    .help(help),
            );
        }
    }
    Some(model::Jwt {
        name: entry.arg(0, value::name)?,
        issuer: issuer?,
        audiences,
        jwks: jwks?,
        locations,
        forwards,
        span: entry.span(),
    })
}

fn source(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<JwksSource> {
    if let (Some(first), Some(second)) = (entry.node.prop("file"), entry.node.prop("url")) {
        reader.report(
            Diagnostic::error(code::EXCLUSIVE, second.span, "keys have one source")
                .label(first.span, "the other one")
                .help("keep one: a file is reviewed and signed with the policy, a URL rotates by itself"),
        );
        return None;
    }
    let file = entry.prop("file", file).map(JwksSource::File);
    file.or_else(|| entry.prop("url", url).map(JwksSource::Url))
}

fn location(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<TokenLocation> {
    if let [_, second, ..] = entry.node.props.as_slice() {
        reader.report(
            Diagnostic::error(code::EXCLUSIVE, second.span, "a location is one place")
                .help("write a `location` for each: they are tried in order"),
        );
        return None;
    }
    let named = |prop, read: value::Read<String>| entry.prop(prop, read).map(|name| name.value);
    named("header", value::header_name)
        .map(TokenLocation::Header)
        .or_else(|| named("query", value::field_name).map(TokenLocation::Query))
        .or_else(|| named("cookie", value::field_name).map(TokenLocation::Cookie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_come_in_plaintext() {
        let is_taken = |text: &str| url(&Value::Text(text.into())).is_ok();
        for good in [
            "https://id.example/keys",
            "http://127.0.0.1/keys",
            "http://127.0.0.1:8080",
        ] {
            assert!(is_taken(good), "{good}");
        }
        for bad in [
            "http://id.example/keys",
            "http://127.0.0.1.example/keys",
            "http://10.0.0.1:80/?127.0.0.1",
        ] {
            assert!(!is_taken(bad), "{bad}");
        }
    }
}
