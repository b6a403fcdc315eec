//! Conditions on requests, and the patterns inside them.

use ipnet::IpNet;

use super::{Result, name, names, not_empty, pattern, port};
use crate::canonical::{
    Wire, ascending, ascending_by_bytes, each, invalid, required, set, set_by_bytes, text_or_empty,
};
use crate::limits;
use crate::messages::bundle as wire;
use crate::slice::{
    Condition, FieldMatch, PathPattern, PathPatternKind, StringMatch, StringMatchKind,
};

impl Wire for Condition {
    type Message = wire::Condition;

    fn to_message(&self) -> wire::Condition {
        use wire::condition::Kind;
        wire::Condition {
            kind: Some(match self {
                Self::Method(methods) => Kind::Method(strings(methods)),
                Self::Path(patterns) => Kind::Path(wire::Paths {
                    values: set_by_bytes(patterns),
                }),
                Self::Host(hosts) => Kind::Host(strings(hosts)),
                Self::Port(ports) => Kind::Port(wire::Ports {
                    values: set(ports).into_iter().map(u32::from).collect(),
                }),
                Self::Header(field) => Kind::Header(field.to_message()),
                Self::Query(field) => Kind::Query(field.to_message()),
                Self::Cookie(field) => Kind::Cookie(field.to_message()),
                Self::Claim(field) => Kind::Claim(field.to_message()),
                Self::ClientIp(nets) => Kind::ClientIp(wire::Strings {
                    values: nets_to(nets),
                }),
                Self::PeerIp(nets) => Kind::PeerIp(wire::Strings {
                    values: nets_to(nets),
                }),
                Self::From(who) => Kind::From(wire::Principals {
                    values: set_by_bytes(who),
                }),
                Self::Not(inner) => Kind::Not(Box::new(inner.to_message())),
            }),
        }
    }

    fn from_message(message: wire::Condition) -> Result<Self> {
        condition_from(message, 0)
    }
}

fn condition_from(message: wire::Condition, depth: usize) -> Result<Condition> {
    use wire::condition::Kind;
    Ok(match required("condition.kind", message.kind)? {
        Kind::Method(methods) => {
            let methods = values("condition.method", methods)?;
            if !methods.iter().all(|method| is_method(method)) {
                return Err(invalid("condition.method", "not an upper-case token"));
            }
            Condition::Method(methods)
        }
        Kind::Path(paths) => {
            not_empty("condition.path", &paths.values)?;
            ascending_by_bytes("condition.path", &paths.values, limits::VALUES_MAX)?;
            Condition::Path(each(paths.values)?)
        }
        Kind::Host(hosts) => Condition::Host(values("condition.host", hosts)?),
        Kind::Port(ports) => {
            not_empty("condition.port", &ports.values)?;
            ascending(
                "condition.port",
                &ports.values,
                limits::VALUES_MAX,
                |a, b| a < b,
            )?;
            let ports = ports.values.into_iter();
            Condition::Port(
                ports
                    .map(|number| port("condition.port", number))
                    .collect::<Result<_>>()?,
            )
        }
        Kind::Header(field) => {
            let field = FieldMatch::from_message(field)?;
            if field.name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return Err(invalid("condition.header", "name is not lower-case"));
            }
            Condition::Header(field)
        }
        Kind::Query(field) => Condition::Query(FieldMatch::from_message(field)?),
        Kind::Cookie(field) => Condition::Cookie(FieldMatch::from_message(field)?),
        Kind::Claim(field) => Condition::Claim(FieldMatch::from_message(field)?),
        Kind::ClientIp(nets) => Condition::ClientIp(some_nets("condition.client_ip", &nets)?),
        Kind::PeerIp(nets) => Condition::PeerIp(some_nets("condition.peer_ip", &nets)?),
        Kind::From(who) => {
            not_empty("condition.from", &who.values)?;
            ascending_by_bytes("condition.from", &who.values, limits::VALUES_MAX)?;
            Condition::From(each(who.values)?)
        }
        Kind::Not(inner) => {
            if depth == limits::CONDITION_DEPTH_MAX {
                return Err(invalid("condition.not", "nested too deep"));
            }
            Condition::Not(Box::new(condition_from(*inner, depth + 1)?))
        }
    })
}

pub(super) fn conditions_from(
    field: &'static str,
    conditions: Vec<wire::Condition>,
) -> Result<Vec<Condition>> {
    ascending_by_bytes(field, &conditions, limits::VALUES_MAX)?;
    each(conditions)
}

/// RFC 9110 §5.6.2, without lower-case letters.
fn is_method(text: &str) -> bool {
    text.bytes().all(|byte| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
    })
}

impl Wire for PathPattern {
    type Message = wire::PathPattern;

    fn to_message(&self) -> wire::PathPattern {
        use wire::path_pattern::Kind;
        wire::PathPattern {
            kind: Some(match &self.kind {
                PathPatternKind::Template(template) => Kind::Template(template.clone()),
                PathPatternKind::Regex(regex) => Kind::Regex(regex.clone()),
            }),
            ignore_case: self.ignore_case,
        }
    }

    fn from_message(message: wire::PathPattern) -> Result<Self> {
        use wire::path_pattern::Kind;
        Ok(Self {
            kind: match required("path_pattern.kind", message.kind)? {
                Kind::Template(template) => {
                    if !template.starts_with('/') {
                        return Err(invalid(
                            "path_pattern.template",
                            "does not begin with \"/\"",
                        ));
                    }
                    PathPatternKind::Template(pattern("path_pattern.template", template)?)
                }
                Kind::Regex(regex) => PathPatternKind::Regex(pattern("path_pattern.regex", regex)?),
            },
            ignore_case: message.ignore_case,
        })
    }
}

impl Wire for FieldMatch {
    type Message = wire::FieldMatch;

    fn to_message(&self) -> wire::FieldMatch {
        wire::FieldMatch {
            name: self.name.clone(),
            values: set_by_bytes(&self.values),
        }
    }

    fn from_message(message: wire::FieldMatch) -> Result<Self> {
        ascending_by_bytes("field_match.values", &message.values, limits::VALUES_MAX)?;
        Ok(Self {
            name: name("field_match.name", message.name)?,
            values: each(message.values)?,
        })
    }
}

impl Wire for StringMatch {
    type Message = wire::StringMatch;

    fn to_message(&self) -> wire::StringMatch {
        use wire::string_match::Kind;
        wire::StringMatch {
            kind: Some(match &self.kind {
                StringMatchKind::Exact(text) => Kind::Exact(text.clone()),
                StringMatchKind::Prefix(text) => Kind::Prefix(text.clone()),
                StringMatchKind::Suffix(text) => Kind::Suffix(text.clone()),
                StringMatchKind::Contains(text) => Kind::Contains(text.clone()),
                StringMatchKind::Regex(text) => Kind::Regex(text.clone()),
            }),
            ignore_case: self.ignore_case,
        }
    }

    fn from_message(message: wire::StringMatch) -> Result<Self> {
        use wire::string_match::Kind;
        Ok(Self {
            kind: match required("string_match.kind", message.kind)? {
                // A header may be empty, and an exact match may ask for that.
                Kind::Exact(value) => StringMatchKind::Exact(text_or_empty(
                    "string_match.exact",
                    value,
                    limits::TEXT_BYTES_MAX,
                )?),
                Kind::Prefix(value) => {
                    StringMatchKind::Prefix(pattern("string_match.prefix", value)?)
                }
                Kind::Suffix(value) => {
                    StringMatchKind::Suffix(pattern("string_match.suffix", value)?)
                }
                Kind::Contains(value) => {
                    StringMatchKind::Contains(pattern("string_match.contains", value)?)
                }
                Kind::Regex(value) => StringMatchKind::Regex(pattern("string_match.regex", value)?),
            },
            ignore_case: message.ignore_case,
        })
    }
}

fn strings(values: &[String]) -> wire::Strings {
    wire::Strings {
        values: set(values),
    }
}

fn values(field: &'static str, list: wire::Strings) -> Result<Vec<String>> {
    not_empty(field, &list.values)?;
    names(field, &list.values, limits::VALUES_MAX)?;
    Ok(list.values)
}

/// Host bits are dropped, so that one network has one text.
pub(super) fn nets_to(nets: &[IpNet]) -> Vec<String> {
    let texts: Vec<_> = nets.iter().map(|net| net.trunc().to_string()).collect();
    set(&texts)
}

pub(super) fn nets_from(field: &'static str, list: &[String]) -> Result<Vec<IpNet>> {
    names(field, list, limits::VALUES_MAX)?;
    list.iter()
        .map(|text| match text.parse::<IpNet>() {
            Ok(net) if net == net.trunc() => Ok(net),
            Ok(_) => Err(invalid(field, "has host bits")),
            Err(_) => Err(invalid(field, "not a network")),
        })
        .collect()
}

fn some_nets(field: &'static str, list: &wire::Strings) -> Result<Vec<IpNet>> {
    not_empty(field, &list.values)?;
    nets_from(field, &list.values)
}
