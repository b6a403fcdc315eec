//! What a route does with its requests besides sending them somewhere.

use super::exchange::{duration, millis, optional_duration};
use super::{
    Result, header_name, header_names, name, narrow, not_empty, optional_name, optional_port,
    pattern, share, target_from, target_to, unless_default, unspecified,
};
use crate::canonical::{
    Wire, ascending, ascending_by_bytes, counted, each, enumeration, invalid, set, set_by_bytes,
    text_or_empty,
};
use crate::limits;
use crate::messages::bundle as wire;
use crate::slice::{
    Cors, Fault, FaultAbort, FaultDelay, HeaderEdits, HeaderLine, Mirror, PathAccepts, Redirect,
    Respond, Rewrite, RouteFilters, Upgrade,
};

impl Wire for Redirect {
    type Message = wire::Redirect;

    fn to_message(&self) -> wire::Redirect {
        wire::Redirect {
            scheme: self.scheme.clone().unwrap_or_default(),
            host: self.host.clone().unwrap_or_default(),
            port: self.port.map_or(0, u32::from),
            path: self.path.clone().unwrap_or_default(),
            status: self.status.into(),
        }
    }

    fn from_message(message: wire::Redirect) -> Result<Self> {
        if !["", "http", "https"].contains(&message.scheme.as_str()) {
            return Err(invalid("redirect.scheme", "neither http nor https"));
        }
        if ![301, 302, 303, 307, 308].contains(&message.status) {
            return Err(invalid("redirect.status", "not a status of a redirect"));
        }
        Ok(Self {
            scheme: optional_name("redirect.scheme", message.scheme)?,
            host: optional_name("redirect.host", message.host)?,
            port: optional_port("redirect.port", message.port)?,
            path: optional_path("redirect.path", message.path)?,
            status: narrow("redirect.status", message.status, 301, 308)?,
        })
    }
}

/// The empty text stands for none.
fn optional_path(field: &'static str, path: String) -> Result<Option<String>> {
    if path.is_empty() {
        return Ok(None);
    }
    if !path.starts_with('/') {
        return Err(invalid(field, "does not begin with \"/\""));
    }
    pattern(field, path).map(Some)
}

impl Wire for Respond {
    type Message = wire::Respond;

    fn to_message(&self) -> wire::Respond {
        wire::Respond {
            status: self.status.into(),
            body: self.body.clone(),
            headers: self.headers.iter().map(Wire::to_message).collect(),
        }
    }

    fn from_message(message: wire::Respond) -> Result<Self> {
        // A body may have lines; it is data, and the proxy sends it as it is.
        if message.body.len() > limits::RESPOND_BYTES_MAX {
            return Err(invalid("respond.body", "too long"));
        }
        counted("respond.headers", &message.headers, limits::HEADERS_MAX)?;
        Ok(Self {
            status: narrow("respond.status", message.status, 200, 599)?,
            body: message.body,
            headers: each(message.headers)?,
        })
    }
}

impl Wire for HeaderLine {
    type Message = wire::HeaderLine;

    fn to_message(&self) -> wire::HeaderLine {
        wire::HeaderLine {
            name: self.name.clone(),
            value: self.value.clone(),
        }
    }

    fn from_message(message: wire::HeaderLine) -> Result<Self> {
        Ok(Self {
            name: header_name("header_line.name", message.name)?,
            value: text_or_empty("header_line.value", message.value, limits::TEXT_BYTES_MAX)?,
        })
    }
}

impl Wire for HeaderEdits {
    type Message = wire::HeaderEdits;

    fn to_message(&self) -> wire::HeaderEdits {
        let mut set_lines: Vec<_> = self.set.iter().map(Wire::to_message).collect();
        set_lines.sort_by(|a: &wire::HeaderLine, b| a.name.cmp(&b.name));
        wire::HeaderEdits {
            set: set_lines,
            add: self.add.iter().map(Wire::to_message).collect(),
            remove: set(&self.remove),
        }
    }

    fn from_message(message: wire::HeaderEdits) -> Result<Self> {
        ascending(
            "header_edits.set",
            &message.set,
            limits::HEADERS_MAX,
            |a, b| a.name < b.name,
        )?;
        counted("header_edits.add", &message.add, limits::HEADERS_MAX)?;
        Ok(Self {
            set: each(message.set)?,
            add: each(message.add)?,
            remove: header_names("header_edits.remove", message.remove)?,
        })
    }
}

impl Wire for RouteFilters {
    type Message = wire::RouteFilters;

    fn to_message(&self) -> wire::RouteFilters {
        let mut mirrors: Vec<_> = self.mirrors.iter().map(Wire::to_message).collect();
        mirrors.sort_by(|a: &wire::Mirror, b| {
            (&a.service, &a.subset, a.port).cmp(&(&b.service, &b.subset, b.port))
        });
        wire::RouteFilters {
            rewrite: self.rewrite.as_ref().map(Wire::to_message),
            mirrors,
            fault: self.fault.as_ref().map(Wire::to_message),
            request_headers: unless_default(self.request_headers.to_message()),
            response_headers: unless_default(self.response_headers.to_message()),
            cors: self.cors.as_ref().map(Wire::to_message),
            upgrade: match self.upgrade {
                None => wire::Upgrade::Unspecified,
                Some(Upgrade::None) => wire::Upgrade::None,
                Some(Upgrade::Websocket) => wire::Upgrade::Websocket,
            } as i32,
            path_accepts: accepts_to(&self.path_accepts),
            streaming: self.streaming,
            sticky: set_by_bytes(&self.sticky),
        }
    }

    fn from_message(message: wire::RouteFilters) -> Result<Self> {
        ascending_by_bytes(
            "route_filters.sticky",
            &message.sticky,
            limits::REQUEST_KEYS_MAX,
        )?;
        ascending(
            "route_filters.mirrors",
            &message.mirrors,
            limits::DESTINATIONS_MAX,
            |a, b| (&a.service, &a.subset, a.port) < (&b.service, &b.subset, b.port),
        )?;
        Ok(Self {
            rewrite: message.rewrite.map(Rewrite::from_message).transpose()?,
            mirrors: each(message.mirrors)?,
            fault: message.fault.map(Fault::from_message).transpose()?,
            request_headers: HeaderEdits::from_message(
                message.request_headers.unwrap_or_default(),
            )?,
            response_headers: HeaderEdits::from_message(
                message.response_headers.unwrap_or_default(),
            )?,
            cors: message.cors.map(Cors::from_message).transpose()?,
            upgrade: match enumeration("route_filters.upgrade", message.upgrade)? {
                wire::Upgrade::Unspecified => None,
                wire::Upgrade::None => Some(Upgrade::None),
                wire::Upgrade::Websocket => Some(Upgrade::Websocket),
            },
            path_accepts: accepts_from("route_filters.path_accepts", message.path_accepts)?,
            streaming: message.streaming,
            sticky: each(message.sticky)?,
        })
    }
}

pub(super) fn accepts_to(list: &[PathAccepts]) -> Vec<i32> {
    let message = |accepts| match accepts {
        PathAccepts::EncodedSlash => wire::PathAccepts::EncodedSlash as i32,
        PathAccepts::EncodedBackslash => wire::PathAccepts::EncodedBackslash as i32,
        PathAccepts::Semicolon => wire::PathAccepts::Semicolon as i32,
    };
    set(&list.iter().copied().map(message).collect::<Vec<_>>())
}

pub(super) fn accepts_from(field: &'static str, list: Vec<i32>) -> Result<Vec<PathAccepts>> {
    ascending(field, &list, limits::VALUES_MAX, |a, b| a < b)?;
    let value = |accepts| {
        Ok(match enumeration(field, accepts)? {
            wire::PathAccepts::Unspecified => return unspecified(field),
            wire::PathAccepts::EncodedSlash => PathAccepts::EncodedSlash,
            wire::PathAccepts::EncodedBackslash => PathAccepts::EncodedBackslash,
            wire::PathAccepts::Semicolon => PathAccepts::Semicolon,
        })
    };
    list.into_iter().map(value).collect()
}

impl Wire for Rewrite {
    type Message = wire::Rewrite;

    fn to_message(&self) -> wire::Rewrite {
        wire::Rewrite {
            path: self.path.clone().unwrap_or_default(),
            host: self.host.clone().unwrap_or_default(),
        }
    }

    fn from_message(message: wire::Rewrite) -> Result<Self> {
        let rewrite = Self {
            path: optional_path("rewrite.path", message.path)?,
            host: optional_name("rewrite.host", message.host)?,
        };
        if rewrite == Self::default() {
            return Err(invalid("rewrite", "changes nothing"));
        }
        Ok(rewrite)
    }
}

impl Wire for Mirror {
    type Message = wire::Mirror;

    fn to_message(&self) -> wire::Mirror {
        let target = target_to(&self.target);
        wire::Mirror {
            service: target.service,
            subset: target.subset,
            port: target.port,
            share: self.share,
        }
    }

    fn from_message(message: wire::Mirror) -> Result<Self> {
        let target = wire::Fallback {
            service: message.service,
            subset: message.subset,
            port: message.port,
        };
        Ok(Self {
            target: target_from("mirror", target)?,
            share: share("mirror.share", message.share)?,
        })
    }
}

impl Wire for Fault {
    type Message = wire::Fault;

    fn to_message(&self) -> wire::Fault {
        wire::Fault {
            delay: self.delay.map(|delay| wire::FaultDelay {
                by_ms: millis(delay.by),
                share: delay.share,
            }),
            abort: self.abort.map(|abort| wire::FaultAbort {
                status: abort.status.into(),
                share: abort.share,
            }),
            until: self.until.unwrap_or(0),
        }
    }

    fn from_message(message: wire::Fault) -> Result<Self> {
        let delay = |delay: wire::FaultDelay| {
            Ok(FaultDelay {
                by: duration("fault_delay.by_ms", delay.by_ms)?,
                share: share("fault_delay.share", delay.share)?,
            })
        };
        let abort = |abort: wire::FaultAbort| {
            Ok(FaultAbort {
                status: narrow("fault_abort.status", abort.status, 200, 599)?,
                share: share("fault_abort.share", abort.share)?,
            })
        };
        if message.delay.is_none() && message.abort.is_none() {
            return Err(invalid("fault", "neither delays nor aborts"));
        }
        Ok(Self {
            delay: message.delay.map(delay).transpose()?,
            abort: message.abort.map(abort).transpose()?,
            until: (message.until != 0).then_some(message.until),
        })
    }
}

impl Wire for Cors {
    type Message = wire::Cors;

    fn to_message(&self) -> wire::Cors {
        wire::Cors {
            origins: set(&self.origins),
            methods: set(&self.methods),
            headers: set(&self.headers),
            expose: set(&self.expose),
            credentials: self.credentials,
            max_age_ms: self.max_age.map(millis),
        }
    }

    fn from_message(message: wire::Cors) -> Result<Self> {
        not_empty("cors.origins", &message.origins)?;
        let names = |field, list: Vec<String>| -> Result<Vec<String>> {
            ascending(field, &list, limits::HEADERS_MAX, |a, b| a < b)?;
            list.into_iter().map(|value| name(field, value)).collect()
        };
        Ok(Self {
            origins: names("cors.origins", message.origins)?,
            methods: names("cors.methods", message.methods)?,
            headers: header_names("cors.headers", message.headers)?,
            expose: header_names("cors.expose", message.expose)?,
            credentials: message.credentials,
            max_age: optional_duration("cors.max_age_ms", message.max_age_ms)?,
        })
    }
}
