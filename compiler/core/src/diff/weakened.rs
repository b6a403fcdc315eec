//! Where a change protects less what is on the wire: mutual TLS that is no longer demanded, and TLS to or from the
//! world outside that is gone or may be older. No request shows this, for the same ones get in.

use mesh_bundle::slice::{MtlsMode, TlsVersion};
use mesh_syntax::Span;

use super::{Change, Kept};
use crate::analysis::entrance::is_unguarded;
use crate::linked::{Kind, Service};
use crate::model::Tls;

/// One leg that is protected less.
#[derive(Clone, Debug)]
pub struct Weakened {
    /// Whose it is.
    pub service: Kept,
    /// Where it is written in the head.
    pub span: Span,
    /// What changed.
    pub what: What,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Peers may come without mutual TLS, or, with `off`, only so.
    Mtls(MtlsMode),
    /// A port is dialled in plaintext.
    Dialled {
        /// The port.
        port: u16,
    },
    /// Clients of a listener come in plaintext.
    Listened {
        /// The port.
        port: u16,
    },
    /// An older version of TLS will do on this port.
    Version {
        /// The port.
        port: u16,
        /// The lowest now.
        min: TlsVersion,
    },
}

/// All that is weaker, in the order of services.
pub fn of(change: Change<'_>) -> Vec<Weakened> {
    let mut found = Vec::new();
    for kept in change.kept() {
        let (before, after) = (
            change.base.service(kept.base),
            change.head.service(kept.head),
        );
        let mut tell = |(span, what)| {
            found.push(Weakened {
                service: kept,
                span,
                what,
            });
        };
        mtls(before, after).into_iter().for_each(&mut tell);
        dialled(before, after).into_iter().for_each(&mut tell);
        listened(before, after).into_iter().for_each(&mut tell);
    }
    found
}

/// The first port that asks less of its peers than before.
fn mtls(before: &Service, after: &Service) -> Option<(Span, What)> {
    let is_guarded =
        |service: &Service| matches!(service.kind, Kind::Service) && !is_unguarded(service);
    if !is_guarded(before) || !is_guarded(after) {
        return None;
    }
    let strength = |mode: Option<MtlsMode>| match mode {
        None => 2,
        Some(MtlsMode::Permissive) => 1,
        Some(MtlsMode::Off) => 0,
    };
    after.ports.iter().find_map(|port| {
        let mut earlier = before.ports.iter();
        let was = earlier.find(|was| was.number.value == port.number.value)?;
        let (old, new) = (before.mtls_of(was), after.mtls_of(port));
        let span = port
            .mtls
            .map(|mode| mode.span)
            .or_else(|| after.mtls.source.span());
        let mode = new.filter(|_| strength(new) < strength(old))?;
        Some((span.unwrap_or(after.name.span), What::Mtls(mode)))
    })
}

fn dialled(before: &Service, after: &Service) -> Vec<(Span, What)> {
    let tls = |service: &Service, port: u16| -> Option<Tls> {
        let mut dials = service.reach.dials.iter();
        let dial = dials.find(|dial| dial.ports.iter().any(|own| own.value == port))?;
        dial.tls.clone()
    };
    let mut found = Vec::new();
    for port in &after.ports {
        let number = port.number.value;
        let has_it = |was: &crate::model::Port| was.number.value == number;
        let Some(old) = tls(before, number).filter(|_| before.ports.iter().any(has_it)) else {
            continue;
        };
        let new = tls(after, number);
        let plain = What::Dialled { port: number };
        found.extend(compared(
            &old,
            new.as_ref(),
            number,
            plain,
            port.number.span,
        ));
    }
    found
}

fn listened(before: &Service, after: &Service) -> Vec<(Span, What)> {
    let (Some(old), Some(new)) = (before.gateway(), after.gateway()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for listener in &new.listeners {
        // The one that took what this one takes: the same port, and some of its hosts or any.
        let meets = |was: &&crate::linked::Listener| {
            was.port.value == listener.port.value
                && (was.hosts.is_empty()
                    || listener.hosts.is_empty()
                    || was.hosts.iter().any(|host| listener.hosts.contains(host)))
        };
        let mut was = old.listeners.iter().filter(meets);
        let Some(tls) = was.find_map(|was| was.tls.as_ref()) else {
            continue;
        };
        let number = listener.port.value;
        let plain = What::Listened { port: number };
        let is = listener.tls.as_ref();
        found.extend(compared(tls, is, number, plain, listener.port.span));
    }
    found
}

/// What is weaker on one port: nothing at all, or a lower version.
fn compared(
    old: &Tls,
    new: Option<&Tls>,
    port: u16,
    plain: What,
    span: Span,
) -> Option<(Span, What)> {
    let Some(new) = new else {
        return Some((span, plain));
    };
    let least = |tls: &Tls| tls.min.map(|min| min.value).unwrap_or_default();
    let min = least(new);
    let span = new.min.map_or(new.span, |min| min.span);
    (min < least(old)).then_some((span, What::Version { port, min }))
}
