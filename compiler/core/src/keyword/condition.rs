//! The conditions of `match`, `allow`, `deny` and `not`: one vocabulary for all of them.

use mesh_bundle::slice::{
    self, FieldMatch, PathPattern, PathPatternKind, StringMatch, StringMatchKind,
};
use mesh_engine::path::{PathError, PathMatcher, PathPatternError};
use mesh_engine::regex::Regex;
use mesh_syntax::{Diagnostic, Value};

use super::Place::{
    self, Allow, Decided, Delegate, Deny, Match, Not, Only, RateLimit, Requirement,
};
use super::{Args, Argument, Entry, Keyword, Property, Reader, Repeats, Symbol, access, headers};
use crate::code;
use crate::limits;
use crate::model::{Condition, ConditionKind};
use crate::value::{self, Kind, Wrong};

const EVERYWHERE: &[Place] = &[
    Match,
    Allow,
    Deny,
    Delegate,
    Requirement,
    RateLimit,
    Only,
    Decided,
    Not,
];

pub(super) static METHOD: Keyword = Keyword {
    args: Args::list("METHOD", &value::METHOD, 1),
    repeats: Repeats::Many,
    ..Keyword::new("method", EVERYWHERE, "The method is one of these.")
};

pub(super) static PATH: Keyword = Keyword {
    args: Args::list("PATH", &TEMPLATE, 0),
    repeats: Repeats::Many,
    props: &[REGEX_PATH, CASE],
    ..Keyword::new(
        "path",
        EVERYWHERE,
        "The path is one of these: \"/a\" exactly, \"/a/*\" with one segment, \"/a/**\" with all below.",
    )
};

pub(super) static GRPC: Keyword = Keyword {
    args: Args::list("METHOD", &GRPC_METHOD, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "grpc",
        EVERYWHERE,
        "The gRPC method is one of these: \"pkg.Service/Method\", or \"pkg.Service/*\" for all of a service.",
    )
};

pub(super) static HOST: Keyword = Keyword {
    args: Args::list("HOST", &value::HOST, 1),
    repeats: Repeats::Many,
    ..Keyword::new("host", EVERYWHERE, "The host is one of these.")
};

pub(super) static PORT: Keyword = Keyword {
    args: Args::list("PORT", &value::PORT, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "port",
        EVERYWHERE,
        "The port of the service is one of these.",
    )
};

pub(super) static FROM: Keyword = Keyword {
    args: Args::list("WHO", &value::WHO, 0).refers(Symbol::Who),
    repeats: Repeats::Many,
    props: &[access::TEAM],
    ..Keyword::new(
        "from",
        &[Match, Delegate, Requirement, RateLimit, Only, Decided, Not],
        "The caller is one of these.",
    )
};

pub(super) static CLIENT_IP: Keyword = Keyword {
    args: Args::list("RANGE", &value::CIDR, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "client-ip",
        EVERYWHERE,
        "The address of the client, as the listener establishes it, is in one of these.",
    )
};

pub(super) static PEER_IP: Keyword = Keyword {
    args: Args::list("RANGE", &value::CIDR, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "peer-ip",
        EVERYWHERE,
        "The address of the connection's peer is in one of these.",
    )
};

pub(super) static HEADER: Keyword = field(
    "header",
    &[Argument::new("NAME", &value::HEADER_NAME)],
    "A header has one of these values, or is there at all.",
);

pub(super) static QUERY: Keyword = field(
    "query",
    &[Argument::new("NAME", &value::FIELD_NAME)],
    "A query parameter has one of these values, or is there at all.",
);

pub(super) static COOKIE: Keyword = field(
    "cookie",
    &[Argument::new("NAME", &value::FIELD_NAME)],
    "A cookie has one of these values, or is there at all.",
);

pub(super) static CLAIM: Keyword = field(
    "claim",
    &[Argument::new("NAME", &value::FIELD_NAME)],
    "A claim of the verified token has one of these values, or is there at all.",
);

pub(super) static NOT: Keyword = Keyword {
    repeats: Repeats::Many,
    block: Some(Not),
    ..Keyword::new("not", EVERYWHERE, "The opposite of one condition.")
};

const fn field(name: &'static str, leading: &'static [Argument], summary: &'static str) -> Keyword {
    Keyword {
        args: Args {
            leading,
            rest: Some(Argument::new("VALUE", &value::TEXT)),
            required: 1,
        },
        repeats: Repeats::Many,
        props: FIELD_PROPS,
        ..Keyword::new(name, EVERYWHERE, summary)
    }
}

const FIELD_PROPS: &[Property] = &[
    Property::new("prefix", &value::TEXT, "The value begins with this."),
    Property::new("suffix", &value::TEXT, "The value ends with this."),
    Property::new("contains", &value::TEXT, "The value has this in it."),
    Property::new("regex", &REGEX, "The whole value matches this."),
    CASE,
];

const CASE: Property = Property::new("case", &IGNORE, "`ignore`: letters match in either case.");
const REGEX_PATH: Property = Property::new("regex", &PATH_REGEX, "The whole path matches this.");

static IGNORE: Kind = Kind {
    expected: "ignore",
    words: &["ignore"],
    check: |value| value::one_of(value, &[("ignore", ())]),
};

pub(super) static TEMPLATE: Kind = Kind {
    expected: "a path in quotes, such as \"/reviews/**\"",
    words: &[],
    check: |value| template(value).map(drop),
};

static PATH_REGEX: Kind = Kind {
    expected: "a regular expression in quotes",
    words: &[],
    check: |value| path_regex(value).map(drop),
};

static REGEX: Kind = Kind {
    expected: "a regular expression in quotes",
    words: &[],
    check: |value| regex(value).map(drop),
};

pub(super) fn template(value: &Value) -> Result<String, Wrong> {
    let text = value::text(value)?;
    compile_path(PathPatternKind::Template(text.clone()))
        .map(|()| text.clone())
        .map_err(|wrong| {
            if text.starts_with('/') {
                match resolved(&text).filter(|_| wrong.code == code::NOT_NORMALISED) {
                    Some(resolved) => wrong
                        .help("the proxy matches what is left once dots are resolved and slashes merged")
                        .instead(format!("\"{resolved}\"")),
                    None => wrong,
                }
            } else {
                wrong.instead(format!("\"/{text}\""))
            }
        })
}

static GRPC_METHOD: Kind = Kind {
    expected: "a method in quotes, such as \"pkg.Service/Method\"",
    words: &[],
    check: |value| grpc_method(value).map(drop),
};

/// As the path that carries it: gRPC over HTTP/2, "Request-Headers", `:path`.
fn grpc_method(value: &Value) -> Result<String, Wrong> {
    let text = value::text(value)?;
    let is_name = |name: &str| {
        name.split('.').all(|part| {
            part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
    };
    match text.trim_start_matches('/').split_once('/') {
        Some((service, method)) if is_name(service) && (method == "*" || is_name(method)) => {
            if text.starts_with('/') {
                let method = text.trim_start_matches('/');
                return Err(
                    Wrong::because(format!("\"{text}\" is a path, not a method"))
                        .instead(format!("\"{method}\"")),
                );
            }
            Ok(format!("/{text}"))
        }
        None if is_name(&text) => Err(Wrong::because(format!("\"{text}\" is a service"))
            .help("a method is \"pkg.Service/Method\"")
            .instead(format!("\"{text}/*\""))),
        _ => Err(Wrong::because(format!(
            "\"{text}\" is no method of a gRPC service"
        ))),
    }
}

fn path_regex(value: &Value) -> Result<String, Wrong> {
    let text = value::text(value)?;
    compile_path(PathPatternKind::Regex(text.clone()))
        .map(|()| text)
        .map_err(|wrong| Wrong {
            code: code::INVALID_REGEX,
            ..wrong
        })
}

fn compile_path(kind: PathPatternKind) -> Result<(), Wrong> {
    PathMatcher::compile(&PathPattern {
        kind,
        ignore_case: false,
    })
    .map(drop)
    .map_err(|error| {
        let wrong = Wrong::because(error.to_string());
        match error {
            PathPatternError::NeverMatches
            | PathPatternError::Literal(
                PathError::EncodedSlash
                | PathError::EncodedBackslash
                | PathError::Backslash
                | PathError::Semicolon
                | PathError::NotUtf8,
            ) => Wrong {
                code: code::NOT_NORMALISED,
                ..wrong
            },
            _ => wrong,
        }
    })
}

/// A template as requests have it once their paths are normalised: dots resolved and slashes merged.
fn resolved(text: &str) -> Option<String> {
    let mut segments: Vec<&str> = Vec::new();
    let (relative, mut last) = (text.strip_prefix('/')?, "");
    for segment in relative.split('/') {
        last = segment;
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    // A path that ends in a slash, or in dots, goes on after its last segment.
    let end = if matches!(last, "" | "." | "..") && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    let text = format!("/{}{end}", segments.join("/"));
    compile_path(PathPatternKind::Template(text.clone()))
        .is_ok()
        .then_some(text)
}

fn regex(value: &Value) -> Result<String, Wrong> {
    let text = value::text(value)?;
    match Regex::new(&text, false) {
        Ok(_) => Ok(text),
        Err(error) => Err(Wrong {
            code: code::INVALID_REGEX,
            ..Wrong::because(error.to_string())
        }),
    }
}

/// The conditions in the block of a node.
pub(super) fn decode_block(reader: &mut Reader<'_>, entry: Entry<'_>) -> Vec<Condition> {
    decode_nested(reader, entry, 0)
}

fn decode_nested(reader: &mut Reader<'_>, entry: Entry<'_>, depth: usize) -> Vec<Condition> {
    reader
        .block(entry)
        .into_iter()
        .filter_map(|child| decode_one(reader, child, depth))
        .collect()
}

/// One condition, in a block that holds other things too.
pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<Condition> {
    decode_one(reader, entry, 0)
}

fn decode_one(reader: &mut Reader<'_>, entry: Entry<'_>, depth: usize) -> Option<Condition> {
    let kind = kind(reader, entry, depth)?;
    Some(Condition {
        kind,
        span: entry.span(),
    })
}

fn kind(reader: &mut Reader<'_>, entry: Entry<'_>, depth: usize) -> Option<ConditionKind> {
    let plain = match entry.word() {
        "method" => slice::Condition::Method(values(entry, 0, value::method)),
        "path" => slice::Condition::Path(paths(reader, entry)?),
        "grpc" => {
            let paths = values(entry, 0, grpc_method).into_iter();
            let exact = paths.map(|path| PathPattern {
                kind: PathPatternKind::Template(path),
                ignore_case: false,
            });
            return Some(ConditionKind::Grpc(exact.collect()));
        }
        "host" => slice::Condition::Host(values(entry, 0, value::host)),
        "port" => slice::Condition::Port(values(entry, 0, value::port)),
        "client-ip" => slice::Condition::ClientIp(values(entry, 0, value::cidr)),
        "peer-ip" => slice::Condition::PeerIp(values(entry, 0, value::cidr)),
        "header" => slice::Condition::Header(credential(reader, entry, value::header_name)?),
        "query" => slice::Condition::Query(credential(reader, entry, value::field_name)?),
        "cookie" => slice::Condition::Cookie(credential(reader, entry, value::field_name)?),
        "claim" => slice::Condition::Claim(field_match(entry, value::field_name)?),
        "from" => return Some(ConditionKind::From(access::who(entry))),
        "not" => return not(reader, entry, depth),
        _ => return None,
    };
    Some(ConditionKind::Plain(plain))
}

/// Ascending and without repetition, so that the order in the file does not show in a slice.
fn values<T: Ord>(entry: Entry<'_>, from: usize, read: value::Read<T>) -> Vec<T> {
    let mut values: Vec<T> = entry
        .args(from, read)
        .into_iter()
        .map(|value| value.value)
        .collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn ignores_case(entry: Entry<'_>) -> bool {
    entry.node.prop("case").is_some()
}

fn paths(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<Vec<PathPattern>> {
    let ignore_case = ignores_case(entry);
    let mut kinds: Vec<PathPatternKind> = values(entry, 0, template)
        .into_iter()
        .map(PathPatternKind::Template)
        .collect();
    kinds.extend(
        entry
            .prop("regex", path_regex)
            .map(|regex| PathPatternKind::Regex(regex.value)),
    );
    if kinds.is_empty() {
        // With a wrong value that was reported; with `case=` alone it was not.
        if entry.node.args.is_empty()
            && entry.node.prop("regex").is_none()
            && entry.node.prop("case").is_some()
        {
            reader.report(Diagnostic::error(
                code::MISSING,
                entry.node.name.span,
                "`path` needs a path or `regex=`",
            ));
        }
        return None;
    }
    Some(
        kinds
            .into_iter()
            .map(|kind| PathPattern { kind, ignore_case })
            .collect(),
    )
}

/// What is compared with stands in the file: of a credential, its value does.
fn credential(
    reader: &mut Reader<'_>,
    entry: Entry<'_>,
    read_name: value::Read<String>,
) -> Option<FieldMatch> {
    let found = field_match(entry, read_name)?;
    for literal in entry.args(1, value::text) {
        headers::credential(reader, &found.name, literal.span);
    }
    Some(found)
}

fn field_match(entry: Entry<'_>, read_name: value::Read<String>) -> Option<FieldMatch> {
    let ignore_case = ignores_case(entry);
    let prop = |name, read| entry.prop(name, read).map(|found| found.value);
    let kinds = values(entry, 1, value::text)
        .into_iter()
        .map(StringMatchKind::Exact)
        .chain(prop("prefix", value::text).map(StringMatchKind::Prefix))
        .chain(prop("suffix", value::text).map(StringMatchKind::Suffix))
        .chain(prop("contains", value::text).map(StringMatchKind::Contains))
        .chain(prop("regex", regex).map(StringMatchKind::Regex));
    Some(FieldMatch {
        name: entry.arg(0, read_name)?.value,
        values: kinds
            .map(|kind| StringMatch { kind, ignore_case })
            .collect(),
    })
}

fn not(reader: &mut Reader<'_>, entry: Entry<'_>, depth: usize) -> Option<ConditionKind> {
    let span = entry.node.name.span;
    if depth >= limits::NOT_DEPTH_MAX {
        let message = format!(
            "more than {} `not` inside each other",
            limits::NOT_DEPTH_MAX
        );
        reader.report(Diagnostic::error(
            mesh_syntax::code::LIMIT_EXCEEDED,
            span,
            message,
        ));
        return None;
    }
    if entry.node.children.len() != 1 {
        reader.report(
            Diagnostic::error(code::MISSING, span, "`not` needs exactly one condition")
                .help("write one `not` for each: several conditions hold only together"),
        );
    }
    let inner = decode_nested(reader, entry, depth + 1).into_iter().next()?;
    Some(ConditionKind::Not(Box::new(inner)))
}
