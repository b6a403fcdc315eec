//! The kinds of values that arguments and properties take: how each is read, and what people are
//! told when it is something else. A kind is data, so that completion and the schema can list it.

use std::time::Duration;

use mesh_bundle::slice::{EndpointAddress, Protocol};
use mesh_bundle::spiffe::{SpiffeId, TrustDomain};
use mesh_syntax::{Code, Value};

use crate::code;
use crate::date::Date;
use crate::limits;
use crate::model::{Setting, Who};
use crate::suggest;

mod text;

pub use text::duration_text;
pub use text::percent_text;
pub(crate) use text::quoted_if_word as quoted;
pub use text::rate_text;
use text::{parse_duration, parse_percent, parse_size, quoted_if_word};

/// A kind of value.
#[derive(Debug)]
pub struct Kind {
    /// What it is, as it fits after "expected".
    pub expected: &'static str,
    /// The words it takes, where it is a closed list.
    pub words: &'static [&'static str],
    pub(crate) check: fn(&Value) -> Result<(), Wrong>,
}

/// Why a value is not of its kind.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) code: Code,
    /// A sentence without the value itself; none: "expected …".
    pub(crate) message: Option<String>,
    pub(crate) help: Option<String>,
    /// What to write instead, when it can only mean this.
    pub(crate) instead: Option<String>,
}

impl Wrong {
    pub(crate) fn kind() -> Self {
        Self {
            code: code::WRONG_TYPE,
            message: None,
            help: None,
            instead: None,
        }
    }

    pub(crate) fn because(message: impl Into<String>) -> Self {
        Self {
            message: Some(message.into()),
            ..Self::kind()
        }
    }

    pub(crate) fn range(message: impl Into<String>) -> Self {
        Self {
            code: code::OUT_OF_RANGE,
            ..Self::because(message)
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn instead(mut self, text: impl Into<String>) -> Self {
        self.instead = Some(text.into());
        self
    }
}

/// Reads a value; what is wrong with it was reported when its node was checked.
pub(crate) type Read<T> = fn(&Value) -> Result<T, Wrong>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $ident:ident = $read:path, $expected:literal $(, $words:expr)?;)*) => {
        $($(#[$doc])* pub(crate) static $ident: Kind = Kind {
            expected: $expected,
            words: kinds!(@words $($words)?),
            check: |value| $read(value).map(drop),
        };)*
    };
    (@words) => { &[] };
    (@words $words:expr) => { $words };
}

kinds! {
    /// A name of a definition.
    NAME = name, "a bare name of lower-case letters, digits, '-' and '.'";
    /// Words for people.
    PROSE = text, "a text in quotes";
    /// A value to compare with.
    TEXT = text, "a value in quotes";
    /// A label's value.
    LABEL = label_value, "a word or a text";
    /// Nothing.
    NONE = none, "none", &["none"];
    /// A label's name, or nothing.
    LABEL_NAME_OR_NONE = label_name_or_none, "the bare name of a label, or none";
    /// A time.
    TIME = time, "a time in quotes, such as \"2s\"";
    /// A time or nothing.
    TIME_OR_NONE = time_or_none, "a time in quotes, such as \"2s\", or none";
    /// A day.
    DATE = date, "a day in quotes, such as \"2027-03-01\"";
    /// A share.
    PERCENT = percent, "a share in quotes, such as \"20%\"";
    /// A share or nothing.
    PERCENT_OR_NONE = percent_or_none, "a share in quotes, such as \"20%\", or none";
    /// A share that is not nothing, or none.
    SOME_PERCENT_OR_NONE = some_percent_or_none, "a share above 0 in quotes, such as \"20%\", or none";
    /// A rate.
    RATE = rate, "a rate in quotes, such as \"100/s\"";
    /// A rate or a count.
    RATE_OR_COUNT = rate_or_count, "a rate in quotes, such as \"5/s\", or a whole number";
    /// All calls, the first included.
    ATTEMPTS = attempts, "a whole number from 1, which counts the first call";
    /// The same, or what holds when nobody says anything.
    ATTEMPTS_OR_NONE = attempts_or_none, "a whole number from 1, which counts the first call, or none";
    /// A share among branches.
    WEIGHT = weight, "a whole number from 0";
    /// A number of instances.
    COUNT = count, "a whole number from 1";
    /// A number of things, or no limit.
    COUNT_OR_NONE = count_or_none, "a whole number from 1, or none";
    /// A size, or no limit.
    SIZE_OR_NONE = size_or_none, "a size in quotes, such as \"64KiB\", or none";
    /// A limit on amplification.
    AMPLIFICATION = amplification, "a whole number from 1";
    /// Calls for each request.
    CALLS = calls, "a number above 0";
    /// A port.
    PORT = port, "a port from 1 to 65535";
    /// A trust domain.
    TRUST_DOMAIN = trust_domain, "a trust domain in quotes, such as \"bookshop.example\"";
    /// An identity.
    SPIFFE_ID = spiffe_id, "an identity in quotes, such as \"spiffe://bookshop.example/service/reviews\"";
    /// Who a rule speaks of.
    WHO = who, "a service, any, unauthenticated, or an identity in quotes";
    /// Who sends the request of a test.
    CALLER = caller, "a service, unauthenticated, or an identity in quotes";
    /// An address.
    ADDRESS = address, "an address in quotes, such as \"203.0.113.7\"";
    /// A host that names a service.
    HOST = host, "a host in quotes, such as \"reviews.example\"";
    /// A host, without stars.
    EXACT_HOST = exact_host, "a host in quotes, such as \"reviews.example\"";
    /// Addresses to dial.
    SOCKET = socket, "an address with its port in quotes, such as \"10.0.0.7:9080\"";
    /// Names to resolve and dial.
    DNS = dns, "a host name with its port in quotes, such as \"reviews.internal:9080\"";
    /// Where something answers HTTP.
    URL = url, "a URL in quotes, such as \"https://id.example/keys\"";
    /// Bytes.
    SIZE = size, "a size in quotes, such as \"64KiB\"";
    /// A range of addresses.
    CIDR = cidr, "an address or a range in quotes, such as \"10.0.0.0/8\"";
    /// A method.
    METHOD = method, "a bare method such as GET";
    /// A header's name.
    HEADER_NAME = header_name, "a bare name of a header";
    /// A header that a route may edit.
    EDITED_HEADER = edited_header, "a bare name of a header";
    /// A header's value.
    HEADER_VALUE = header_value, "a value in quotes";
    /// A parameter's or cookie's name.
    FIELD_NAME = field_name, "a bare name";
    /// A path of a request.
    REQUEST_PATH = request_path, "a path in quotes, such as \"/reviews/7\"";
    /// A status.
    STATUS = status, "a status from 100 to 599";
    /// What an application speaks.
    PROTOCOL = protocol, "http, grpc, tcp or tls", &["http", "grpc", "tcp", "tls"];
}

fn word_of(value: &Value) -> Result<&str, Wrong> {
    match value {
        Value::Word(word) => Ok(word),
        Value::Text(text) => Err(Wrong::kind()
            .help("names and words of the language are bare")
            .instead_if_word(text)),
        _ => Err(Wrong::kind()),
    }
}

impl Wrong {
    fn instead_if_word(self, text: &str) -> Self {
        let word = !text.is_empty()
            && text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if word { self.instead(text) } else { self }
    }
}

fn text_of(value: &Value) -> Result<&str, Wrong> {
    match value {
        Value::Text(text) if text.len() > limits::TEXT_BYTES_MAX => Err(Wrong::range(format!(
            "this text is longer than {} bytes",
            limits::TEXT_BYTES_MAX
        ))),
        Value::Text(text) => Ok(text),
        Value::Word(word) => Err(quoted_if_word(word)),
        // Digits lose their zeros and their point when read as a number, so the fix quotes the source.
        Value::Integer(_) | Value::Float(_) => {
            Err(Wrong::because("without quotes this is a number").help("put it in quotes"))
        }
        Value::Bool(_) | Value::Null => Err(Wrong::kind()),
    }
}

/// One of a closed list of words.
pub(crate) fn one_of<T: Copy>(value: &Value, list: &[(&'static str, T)]) -> Result<T, Wrong> {
    let word = word_of(value)?;
    if let Some((_, found)) = list.iter().find(|(name, _)| *name == word) {
        return Ok(*found);
    }
    let wrong = Wrong::kind();
    Err(
        match suggest::nearest(word, list.iter().map(|(name, _)| *name)) {
            Some(near) => wrong.help(format!("did you mean `{near}`?")).instead(near),
            None => wrong,
        },
    )
}

pub(crate) fn integer(value: &Value, min: u32, max: u32) -> Result<u32, Wrong> {
    match value {
        Value::Integer(number) => u32::try_from(*number)
            .ok()
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| {
                Wrong::range(format!(
                    "{number} is out of range: it may be {min} to {max}"
                ))
            }),
        Value::Text(text) | Value::Word(text) if text.parse::<u32>().is_ok() => {
            Err(Wrong::kind().help("numbers are bare").instead(text))
        }
        _ => Err(Wrong::kind()),
    }
}

/// Whether a text can be the name of a definition.
pub fn is_name(text: &str) -> bool {
    text.len() <= limits::NAME_BYTES_MAX
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= limits::NAME_LABEL_BYTES_MAX
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Whether a definition can be called so: a name that is written as it is, and means nothing else where names stand.
pub fn is_definable(text: &str) -> bool {
    /// Words that KDL reads as something else, or refuses.
    const OF_KDL: [&str; 5] = ["true", "false", "null", "inf", "nan"];
    is_name(text)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !OF_KDL.contains(&text)
        && !RESERVED.contains(&text)
}

/// What [`is_definable`] asks for, as a part of a sentence.
pub const DEFINABLE: &str = "lower-case letters, digits and `-`, parts joined by `.`, a letter first, and not a word that means something else: `any`, `none`, `unauthenticated`, `default`, `true`, `false`, `null`, `inf`, `nan`";

/// Names that mean something else wherever a name may stand.
pub const RESERVED: &[&str] = &["any", "none", "unauthenticated", "default"];

pub(crate) fn name(value: &Value) -> Result<String, Wrong> {
    let word = word_of(value)?;
    if RESERVED.contains(&word) {
        return Err(Wrong::because(format!("the name `{word}` is reserved")).help("choose another"));
    }
    if is_name(word) {
        return Ok(word.to_owned());
    }
    let lower = word.to_ascii_lowercase().replace('_', "-");
    let wrong = Wrong::because(format!("`{word}` is not a name")).help(
        "names are lower-case DNS names: letters, digits and '-', parts of at most 63 characters joined by '.'",
    );
    Err(if is_name(&lower) {
        wrong.instead(lower)
    } else {
        wrong
    })
}

pub(crate) fn text(value: &Value) -> Result<String, Wrong> {
    text_of(value).map(str::to_owned)
}

pub(crate) fn label_value(value: &Value) -> Result<String, Wrong> {
    match value {
        Value::Word(word) => Ok(word.clone()),
        other => text(other),
    }
}

pub(crate) fn time(value: &Value) -> Result<Duration, Wrong> {
    if let Value::Integer(number) = value {
        return Err(Wrong::because("a time needs its unit").help(format!(
            "write \"{number}s\" or \"{number}ms\"; units are ms s m h d"
        )));
    }
    parse_duration(text_of(value)?)
}

pub(crate) fn time_or_none(value: &Value) -> Result<Setting<Duration>, Wrong> {
    or_none(value, time)
}

/// Of 10,000.
pub(crate) fn percent(value: &Value) -> Result<u32, Wrong> {
    if let Value::Integer(number) = value {
        return Err(
            Wrong::because("a share needs its per cent sign").help(format!("write \"{number}%\""))
        );
    }
    parse_percent(text_of(value)?)
}

pub(crate) fn percent_or_none(value: &Value) -> Result<Setting<u32>, Wrong> {
    or_none(value, percent)
}

fn some_percent_or_none(value: &Value) -> Result<Setting<u32>, Wrong> {
    or_none(value, |value| match percent(value)? {
        0 => Err(Wrong::range(
            "this is out of range: it must be above \"0%\"",
        )),
        share => Ok(share),
    })
}

fn or_none<T>(value: &Value, read: Read<T>) -> Result<Setting<T>, Wrong> {
    match value {
        Value::Word(word) if word == "none" => Ok(Setting::Removed),
        other => read(other).map(Setting::Value),
    }
}

pub(crate) fn none(value: &Value) -> Result<(), Wrong> {
    one_of(value, &[("none", ())])
}

/// Name of a label, as an instance carries it.
pub(crate) fn label_name(value: &Value) -> Result<String, Wrong> {
    word_of(value).map(str::to_owned)
}

fn label_name_or_none(value: &Value) -> Result<Setting<String>, Wrong> {
    or_none(value, label_name)
}

pub(crate) fn attempts_or_none(value: &Value) -> Result<Setting<u32>, Wrong> {
    or_none(value, attempts)
}

pub(crate) fn count_or_none(value: &Value) -> Result<Setting<u32>, Wrong> {
    or_none(value, count)
}

/// Bytes.
pub(crate) fn size(value: &Value) -> Result<u64, Wrong> {
    if let Value::Integer(number) = value {
        return Err(Wrong::because("a size needs its unit").help(format!(
            "write \"{number}B\" or \"{number}KiB\"; units are B KiB MiB"
        )));
    }
    parse_size(text_of(value)?)
}

pub(crate) fn size_or_none(value: &Value) -> Result<Setting<u64>, Wrong> {
    or_none(value, size)
}

/// How many in what time.
pub(crate) fn rate(value: &Value) -> Result<(u64, Duration), Wrong> {
    if let Value::Integer(number) = value {
        return Err(
            Wrong::because("a rate needs its unit of time").help(format!("write \"{number}/s\""))
        );
    }
    text::parse_rate(text_of(value)?)
}

/// A rate as the analyses count it.
pub(crate) fn per_second((count, per): (u64, Duration)) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate is at most twelve digits"
    )]
    let count = count as f64;
    count / per.as_secs_f64()
}

/// A day.
pub(crate) fn date(value: &Value) -> Result<Date, Wrong> {
    let text = text_of(value)?;
    Date::parse(text).ok_or_else(|| {
        Wrong::because(format!("there is no day \"{text}\""))
            .help("a day is written as \"2027-03-01\": year, month, day")
    })
}

/// The minimum of a retry budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateOrCount {
    Rate(u64, Duration),
    Count(u64),
}

pub(crate) fn rate_or_count(value: &Value) -> Result<RateOrCount, Wrong> {
    match value {
        Value::Integer(number) => u64::try_from(*number)
            .ok()
            .filter(|number| *number <= 1_000_000)
            .map(RateOrCount::Count)
            .ok_or_else(|| {
                Wrong::range(format!("{number} is out of range: it may be 0 to 1000000"))
            }),
        other => rate(other).map(|(count, per)| RateOrCount::Rate(count, per)),
    }
}

pub(crate) fn attempts(value: &Value) -> Result<u32, Wrong> {
    integer(value, 1, limits::ATTEMPTS_MAX).map_err(|wrong| match value {
        Value::Integer(0) => wrong.help("`attempts` counts the first call too: 1 means no retry"),
        _ => wrong,
    })
}

pub(crate) fn weight(value: &Value) -> Result<u32, Wrong> {
    integer(value, 0, limits::WEIGHT_MAX).map_err(|wrong| match value {
        Value::Text(text) if text.ends_with('%') => wrong
            .help("weights are bare numbers; they need not add up to 100")
            .instead(text.trim_end_matches('%')),
        _ => wrong,
    })
}

pub(crate) fn count(value: &Value) -> Result<u32, Wrong> {
    integer(value, 1, 1_000_000)
}

pub(crate) fn amplification(value: &Value) -> Result<u32, Wrong> {
    integer(value, 1, limits::AMPLIFICATION_MAX)
}

pub(crate) fn calls(value: &Value) -> Result<f64, Wrong> {
    let number = match value {
        Value::Integer(number) => i32::try_from(*number).map_or(f64::INFINITY, f64::from),
        Value::Float(number) => *number,
        _ => return Err(Wrong::kind()),
    };
    if number > 0.0 && number <= 10_000.0 {
        Ok(number)
    } else {
        Err(Wrong::range(
            "this is out of range: it may be above 0 and up to 10000",
        ))
    }
}

pub(crate) fn port(value: &Value) -> Result<u16, Wrong> {
    integer(value, 1, u32::from(u16::MAX))
        .and_then(|number| u16::try_from(number).or(Err(Wrong::kind())))
}

pub(crate) fn status(value: &Value) -> Result<u16, Wrong> {
    integer(value, 100, 599).and_then(|number| u16::try_from(number).or(Err(Wrong::kind())))
}

pub(crate) fn trust_domain(value: &Value) -> Result<String, Wrong> {
    let text = text_of(value)?;
    if let Some(domain) = text.strip_prefix("spiffe://") {
        return Err(
            Wrong::because("a trust domain is written without `spiffe://`")
                .instead(format!("\"{}\"", domain.trim_end_matches('/'))),
        );
    }
    TrustDomain::parse(text)
        .map(|domain| domain.as_str().to_owned())
        .map_err(|error| Wrong::because(format!("not a trust domain: {error}")))
}

pub(crate) fn spiffe_id(value: &Value) -> Result<SpiffeId, Wrong> {
    SpiffeId::parse(text_of(value)?)
        .map_err(|error| Wrong::because(format!("not an identity: {error}")))
}

pub(crate) fn who(value: &Value) -> Result<Who, Wrong> {
    match value {
        Value::Word(word) if word == "any" => Ok(Who::Any),
        Value::Word(word) if word == "unauthenticated" => Ok(Who::Unauthenticated),
        Value::Text(text) if text.starts_with("spiffe://") => match text.strip_suffix("/**") {
            Some(prefix) => identity_prefix(prefix),
            None => spiffe_id(value).map(Who::Identity),
        },
        other => name(other).map(Who::Service),
    }
}

/// None: `unauthenticated`.
pub(crate) fn caller(value: &Value) -> Result<Option<String>, Wrong> {
    match value {
        Value::Word(word) if word == "unauthenticated" => Ok(None),
        Value::Text(text) if text.starts_with("spiffe://") => match SpiffeId::parse(text) {
            Ok(_) => Ok(Some(text.clone())),
            Err(error) => Err(Wrong::because(format!("not an identity: {error}"))),
        },
        other => name(other).map(Some),
    }
}

pub(crate) fn address(value: &Value) -> Result<std::net::IpAddr, Wrong> {
    let text = text_of(value)?;
    text.parse()
        .map_err(|_not_one| Wrong::because(format!("\"{text}\" is not an address")))
}

fn identity_prefix(prefix: &str) -> Result<Who, Wrong> {
    // A prefix is an identity, or a trust domain alone.
    let domain = match SpiffeId::parse(prefix) {
        Ok(id) => id.trust_domain().to_owned(),
        Err(error) => prefix
            .strip_prefix("spiffe://")
            .and_then(|domain| TrustDomain::parse(domain).ok())
            .map(|domain| domain.as_str().to_owned())
            .ok_or_else(|| Wrong::because(format!("not an identity: {error}")))?,
    };
    Ok(Who::Prefix {
        trust_domain: domain,
        text: format!("{prefix}/"),
    })
}

pub(crate) fn host(value: &Value) -> Result<String, Wrong> {
    let text = text_of(value)?;
    let labels = text
        .strip_prefix("**.")
        .or_else(|| text.strip_prefix("*."))
        .unwrap_or(text);
    if text == "**" || is_name(labels) {
        return Ok(text.to_owned());
    }
    let wrong = Wrong::because(format!("\"{text}\" is not a host"))
        .help("a host is a lower-case name without port or scheme; `*.` in front stands for one label, `**.` for one or more");
    let bare = labels.split_once("://").map_or(labels, |(_, rest)| rest);
    let bare = bare
        .split(['/', ':'])
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    Err(if is_name(&bare) {
        wrong.instead(format!("\"{bare}\""))
    } else {
        wrong
    })
}

/// A host that can stand in a request.
pub(crate) fn exact_host(value: &Value) -> Result<String, Wrong> {
    let host = host(value)?;
    if host.contains('*') {
        return Err(Wrong::because(format!("\"{host}\" is not one host"))
            .help("requests go to one host, so it has no stars"));
    }
    Ok(host)
}

pub(crate) fn url(value: &Value) -> Result<String, Wrong> {
    let text = text_of(value)?;
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err(Wrong::because(format!("\"{text}\" is no URL"))
            .help("it begins with https:// or http://"));
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(Wrong {
            code: code::SECRET,
            ..Wrong::because("a URL holds no name and password")
                .help("whoever reads the repository would know them")
        });
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok_and(|port| port != 0) => host,
        Some(_) => "",
        None => authority,
    };
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains('#');
    if !is_name(host) || !printable {
        return Err(Wrong::because(format!("\"{text}\" is no URL")));
    }
    Ok(text.to_owned())
}

pub(crate) fn socket(value: &Value) -> Result<EndpointAddress, Wrong> {
    let text = text_of(value)?;
    let Ok(address) = text.parse::<std::net::SocketAddr>() else {
        let wrong = Wrong::because(format!("\"{text}\" is not an address with a port"));
        return Err(if text.parse::<std::net::IpAddr>().is_ok() {
            wrong.help("add the port that peers dial, such as \":9080\"")
        } else {
            wrong.help("names to resolve stand in `dns`; IPv6 addresses in brackets")
        });
    };
    if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err(Wrong::range(format!("nobody can dial \"{text}\"")));
    }
    Ok(EndpointAddress::Static(address))
}

pub(crate) fn dns(value: &Value) -> Result<EndpointAddress, Wrong> {
    let text = text_of(value)?;
    let parsed = text.rsplit_once(':').and_then(|(name, port)| {
        let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
        (is_name(name) && name.parse::<std::net::IpAddr>().is_err())
            .then(|| (name.to_owned(), port))
    });
    match parsed {
        Some((name, port)) => Ok(EndpointAddress::Dns { name, port }),
        None => Err(
            Wrong::because(format!("\"{text}\" is not a host name with a port"))
                .help("write \"name:port\"; addresses stand in `static`"),
        ),
    }
}

pub(crate) fn cidr(value: &Value) -> Result<ipnet::IpNet, Wrong> {
    let text = text_of(value)?;
    let net = match text.parse::<std::net::IpAddr>() {
        Ok(address) => ipnet::IpNet::from(address),
        Err(_) => text.parse::<ipnet::IpNet>().ok().ok_or_else(|| {
            Wrong::because(format!(
                "\"{text}\" is not an address or a range of addresses"
            ))
        })?,
    };
    let canonical = net.trunc();
    if canonical != net {
        return Err(
            Wrong::because(format!("\"{text}\" has address bits below its prefix"))
                .instead(format!("\"{canonical}\"")),
        );
    }
    Ok(net)
}

/// Whether a text can be a method or the name of a header (RFC 9110 §5.6.2).
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

pub(crate) fn method(value: &Value) -> Result<String, Wrong> {
    let word = word_of(value)?;
    if word.contains(',') {
        return Err(Wrong::because(format!("`{word}` is one word"))
            .help("values of a list are separated by spaces")
            .instead(
                word.split(',')
                    .filter(|part| !part.is_empty())
                    .collect::<Vec<_>>()
                    .join(" "),
            ));
    }
    if !is_token(word) {
        return Err(Wrong::kind());
    }
    if word.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(
            Wrong::because(format!("methods are case-sensitive, and `{word}` is none"))
                .instead(word.to_ascii_uppercase()),
        );
    }
    Ok(word.to_owned())
}

/// Lower-case.
pub(crate) fn header_name(value: &Value) -> Result<String, Wrong> {
    let name = field_name(value)?;
    if !is_token(&name) {
        return Err(Wrong::because(format!(
            "`{name}` is not the name of a header"
        )));
    }
    let lower = name.to_ascii_lowercase();
    if lower == "host" {
        return Err(Wrong::because("the host is not matched as a header").help("use `host \"…\"`"));
    }
    Ok(lower)
}

/// A header that policy may set, add or remove; lower-case.
pub(crate) fn edited_header(value: &Value) -> Result<String, Wrong> {
    if let Value::Word(name) | Value::Text(name) = value {
        let lower = name.to_ascii_lowercase();
        if lower == "host" {
            return Err(Wrong::because("the host is not edited as a header")
                .help("write `rewrite host=\"…\"`"));
        }
        if mesh_engine::filter::header::is_protected(&lower) {
            return Err(Wrong::because(format!(
                "`{lower}` belongs to the proxy, and policy can't edit it"
            )));
        }
    }
    header_name(value)
}

/// What a header may hold; RFC 9110, 5.5.
pub(crate) fn header_value(value: &Value) -> Result<String, Wrong> {
    let text = text_of(value)?;
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err(
            Wrong::because("a header's value has no control characters").help("it is one line")
        );
    }
    if text.trim() != text {
        return Err(
            Wrong::because("a header's value begins and ends without spaces")
                .instead(format!("\"{}\"", text.trim())),
        );
    }
    Ok(text.to_owned())
}

pub(crate) fn field_name(value: &Value) -> Result<String, Wrong> {
    // Parameters and cookies have names that a bare word can't hold, so quotes are fine here.
    match value {
        Value::Word(name) | Value::Text(name)
            if !name.is_empty() && name.len() <= limits::NAME_BYTES_MAX =>
        {
            Ok(name.clone())
        }
        _ => Err(Wrong::kind()),
    }
}

pub(crate) fn request_path(value: &Value) -> Result<String, Wrong> {
    let text = text_of(value)?;
    if text.starts_with('/') && !text.contains('#') {
        Ok(text.to_owned())
    } else {
        Err(Wrong::because(format!("\"{text}\" is not a path")).help("a path begins with '/'"))
    }
}

pub(crate) fn protocol(value: &Value) -> Result<Protocol, Wrong> {
    match value.as_str() {
        Some("udp" | "quic") => {
            Err(Wrong::because("UDP and QUIC are not carried")
                .help("leave the port out of the mesh"))
        }
        _ => one_of(
            value,
            &[
                ("http", Protocol::Http),
                ("grpc", Protocol::Grpc),
                ("tcp", Protocol::Tcp),
                ("tls", Protocol::Tls),
            ],
        ),
    }
}
