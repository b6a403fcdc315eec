//! How connections are taken and made, as one line of text, and when that lets in more than before.

use mesh_bundle::slice::{ClientAddress, ClientCertificate, TlsVersion};
use mesh_compiler::linked::{Kind, Listener, Service};
use mesh_compiler::model::{Dial, Port, Spanned, Tls};

fn tls_version(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    }
}

/// Properties of a `tls`.
fn tls(tls: &Tls) -> String {
    let mut text = String::new();
    let named = [
        ("certificate", &tls.certificate),
        ("trust", &tls.trust),
        ("sni", &tls.sni),
        ("san", &tls.san),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            text = format!("{text} {name}={}", value.value);
        }
    }
    match client(tls) {
        ClientCertificate::None => {}
        ClientCertificate::Optional => text.push_str(" client=optional"),
        ClientCertificate::Required => text.push_str(" client=required"),
    }
    format!("{text} min={}", tls_version(min(tls)))
}

/// Whether clients need a certificate.
fn client(tls: &Tls) -> ClientCertificate {
    let client = tls.client.as_ref();
    client.map_or(ClientCertificate::None, |client| client.value)
}

fn min(tls: &Tls) -> TlsVersion {
    tls.min.as_ref().map_or(TlsVersion::V1_2, |min| min.value)
}

/// Whether another one may be accepted on the other side than before.
fn is_looser(before: &Tls, now: &Tls) -> bool {
    let rank = |tls: &Tls| match client(tls) {
        ClientCertificate::None => 0,
        ClientCertificate::Optional => 1,
        ClientCertificate::Required => 2,
    };
    let text = |value: &Option<Spanned<String>>| value.as_ref().map(|value| value.value.clone());
    rank(now) < rank(before)
        || min(now) < min(before)
        || (before.trust.is_some() && text(&now.trust) != text(&before.trust))
        || text(&now.san) != text(&before.san)
        || (before.san.is_none() && text(&now.sni) != text(&before.sni))
}

/// A `listen`.
pub(in crate::difference) fn listener(listener: &Listener) -> String {
    let mut text = listener.port.value.to_string();
    for host in &listener.hosts {
        text = format!("{text} host={host}");
    }
    if let Some(own) = &listener.tls {
        text = format!("{text} tls{}", tls(own));
    }
    match listener.client_address {
        ClientAddress::Peer => text,
        ClientAddress::ProxyProtocol => format!("{text} client-ip=proxy-protocol"),
        ClientAddress::ForwardedFor { hops } => {
            format!("{text} client-ip=forwarded-for hops={hops}")
        }
    }
}

/// How ports are dialled.
pub(in crate::difference) fn dial(dial: &Dial) -> String {
    let ports = dial.ports.iter().map(|port| port.value.to_string());
    let ports: Vec<String> = ports.collect();
    let to = dial
        .dial
        .map_or(String::new(), |to| format!(" as {}", to.value));
    let tls = dial
        .tls
        .as_ref()
        .map_or(String::new(), |own| format!(" tls{}", tls(own)));
    format!("{}{to}{tls}", ports.join(" "))
}

/// Whether a listener may let in a client that an earlier one of its port refused.
pub(in crate::difference) fn listens_looser(before: &Service, after: &Service) -> bool {
    let (Some(before), Some(after)) = (before.gateway(), after.gateway()) else {
        return false;
    };
    after.listeners.iter().any(|now| {
        let same = |was: &&Listener| {
            let shares = |host| was.hosts.contains(host);
            let open = was.hosts.is_empty() || now.hosts.is_empty();
            was.port.value == now.port.value && (open || now.hosts.iter().any(shares))
        };
        before.listeners.iter().filter(same).any(|was| {
            was.client_address != now.client_address
                || match (&was.tls, &now.tls) {
                    (Some(was), Some(now)) => is_looser(was, now),
                    (Some(_), None) => true,
                    (None, _) => false,
                }
        })
    })
}

/// Whether another may answer for a port than before.
pub(in crate::difference) fn dials_looser(before: &Service, after: &Service) -> bool {
    before.reach.dials.iter().any(|was| {
        let Some(own) = &was.tls else {
            return false;
        };
        was.ports.iter().any(|port| {
            let same = |now: &&Dial| now.ports.iter().any(|each| each.value == port.value);
            let now = after.reach.dials.iter().find(same);
            match now.and_then(|now| now.tls.as_ref()) {
                Some(now) => is_looser(own, now),
                None => after
                    .ports
                    .iter()
                    .any(|each| each.number.value == port.value),
            }
        })
    })
}

/// Whether a port takes peers without mutual TLS that it refused. That of a gateway or an external is no proxy's.
pub(in crate::difference) fn mtls_looser(before: &Service, after: &Service) -> bool {
    let is_service = matches!(after.kind, Kind::Service);
    is_service
        && after.ports.iter().any(|port| {
            let same = |was: &&Port| was.number.value == port.number.value;
            let was = before.ports.iter().find(same);
            was.is_some_and(|was| before.mtls_of(was) != after.mtls_of(port))
                && after.mtls_of(port).is_some()
        })
}
