//! `authorizer`: a service that is asked whether a request may enter.

use mesh_bundle::slice::{AuthorizerProtocol, OnFailure};
use mesh_syntax::{Diagnostic, Value};

use super::Place::{Authorizer, Root};
use super::{Args, Argument, Entry, Keyword, Merge, Property, Reader, Repeats, Symbol};
use crate::code;
use crate::model;
use crate::value::{self, Kind, Wrong};

pub(super) static AUTHORIZER: Keyword = Keyword {
    args: Args::required(&[Argument::new("NAME", &value::NAME).defines(Symbol::Authorizer)]),
    repeats: Repeats::Many,
    merge: Some(Merge::NamedOrNew),
    block: Some(Authorizer),
    ..Keyword::new(
        "authorizer",
        &[Root],
        "A service that is asked whether a request may enter.",
    )
};

pub(super) static TO: Keyword = Keyword {
    args: Args::required(&[Argument::new("SERVICE", &value::NAME).refers(Symbol::Service)]),
    merge: Some(Merge::Whole),
    props: &[
        Property::new(
            "protocol",
            &PROTOCOL,
            "`http`: a request like the one that is judged (the default); `grpc`: Envoy's ext_authz.",
        ),
        Property::new("subset", &value::NAME, "A subset of the service.").refers(Symbol::Subset),
        Property::new("port", &value::PORT, "Its port, if it has several."),
    ],
    ..Keyword::new("to", &[Authorizer], "Who is asked.")
};

pub(super) static TIMEOUT: Keyword = Keyword {
    args: Args::required(&[Argument::new("TIME", &value::TIME)]),
    ..Keyword::new(
        "timeout",
        &[Authorizer],
        "How long the answer may take; 1 s if unsaid.",
    )
};

pub(super) static ON_FAILURE: Keyword = Keyword {
    args: Args::required(&[Argument::new("DECISION", &ON_FAILURE_KIND)]),
    ..Keyword::new(
        "on-failure",
        &[Authorizer],
        "What happens when there is no answer; `deny` if unsaid.",
    )
};

pub(super) static SEND_HEADER: Keyword =
    names("send-header", "Headers of the request that are sent along.");
pub(super) static KEEP_HEADER: Keyword = names(
    "keep-header",
    "Headers of the answer that go on to the service.",
);
pub(super) static RETURN_HEADER: Keyword = names(
    "return-header",
    "Headers of a refusal that go back to the caller.",
);

pub(super) static BODY: Keyword = Keyword {
    args: Args::required(&[Argument::new("SIZE", &value::SIZE)]),
    ..Keyword::new(
        "body",
        &[Authorizer],
        "How much of the body is sent; nothing if unsaid.",
    )
};

const fn names(name: &'static str, summary: &'static str) -> Keyword {
    Keyword {
        args: Args::list("NAME", &value::HEADER_NAME, 1),
        repeats: Repeats::Many,
        merge: Some(Merge::List),
        ..Keyword::new(name, &[Authorizer], summary)
    }
}

const PROTOCOLS: [(&str, AuthorizerProtocol); 2] = [
    ("http", AuthorizerProtocol::Http),
    ("grpc", AuthorizerProtocol::Grpc),
];

static PROTOCOL: Kind = Kind {
    expected: "http or grpc",
    words: &["http", "grpc"],
    check: |value| protocol(value).map(drop),
};

fn protocol(value: &Value) -> Result<AuthorizerProtocol, Wrong> {
    value::one_of(value, &PROTOCOLS)
}

const DECISIONS: [(&str, OnFailure); 2] = [("allow", OnFailure::Allow), ("deny", OnFailure::Deny)];

pub(super) static ON_FAILURE_KIND: Kind = Kind {
    expected: "allow or deny",
    words: &["allow", "deny"],
    check: |value| on_failure(value).map(drop),
};

pub(super) fn on_failure(value: &Value) -> Result<OnFailure, Wrong> {
    value::one_of(value, &DECISIONS)
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Authorizer> {
    let children = reader.block(entry);
    let one = |word: &str| children.iter().find(|child| child.word() == word);
    let names = |word: &str| {
        let lines = children.iter().filter(|child| child.word() == word);
        lines
            .flat_map(|child| child.args(0, value::header_name))
            .collect()
    };
    if entry.node.children_named("to").next().is_none() {
        reader.report(
            Diagnostic::error(
                code::MISSING,
                entry.node.name.span,
                "an `authorizer` needs `to`",
            )
            .help("name the service that is asked: `to SERVICE protocol=grpc`"),
        );
    }
    let to = one("to")?;
    Some(model::Authorizer {
        name: entry.arg(0, value::name)?,
        to: model::Target {
            name: Some(to.arg(0, value::name)?),
            service: None,
            subset: to.prop("subset", value::name),
            port: to.prop("port", value::port),
            span: to.span(),
        },
        protocol: to.prop("protocol", protocol),
        timeout: one("timeout").and_then(|child| child.arg(0, value::time)),
        on_failure: one("on-failure").and_then(|child| child.arg(0, on_failure)),
        send_headers: names("send-header"),
        keep_headers: names("keep-header"),
        return_headers: names("return-header"),
        body: one("body").and_then(|child| child.arg(0, value::size)),
        span: entry.span(),
    })
}
