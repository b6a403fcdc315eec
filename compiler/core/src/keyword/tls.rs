//! `tls`: this leg is TLS that is not the mesh's own. Certificates and authorities are names of key
//! material that the proxy is given; none is ever in a repository.

use mesh_syntax::{Diagnostic, Value};

use super::Place::{self, Listen};
use super::{Entry, Keyword, Merge, Property, Reader};
use crate::code;
use crate::model::{ClientCertificate, Tls, TlsVersion};
use crate::value::{self, Kind, Wrong};

pub(super) static TLS: Keyword = Keyword {
    props: &[
        Property::new(
            "certificate",
            &value::NAME,
            "Name of the certificate and key that the proxy shows.",
        ),
        Property::new(
            "trust",
            &value::NAME,
            "Name of the authorities that the other side's certificate must come from.",
        ),
        Property::new(
            "client",
            &CLIENT,
            "Whether clients need a certificate; without it none is asked for.",
        ),
        Property::new(
            "sni",
            &value::HOST,
            "Name that is asked for, when it is not the host.",
        ),
        Property::new(
            "san",
            &value::HOST,
            "Name that the other side's certificate must have, when it is not the SNI.",
        ),
        Property::new("min", &VERSION, "Lowest version; 1.2 if unsaid."),
    ],
    merge: Some(Merge::Whole),
    alone: true,
    ..Keyword::new("tls", &[Listen, Place::Port], "This leg is TLS.")
};

const CLIENTS: [(&str, ClientCertificate); 2] = [
    ("required", ClientCertificate::Required),
    ("optional", ClientCertificate::Optional),
];

static CLIENT: Kind = Kind {
    expected: "required or optional",
    words: &["required", "optional"],
    check: |value| client(value).map(drop),
};

fn client(value: &Value) -> Result<ClientCertificate, Wrong> {
    value::one_of(value, &CLIENTS)
}

static VERSION: Kind = Kind {
    expected: "\"1.2\" or \"1.3\"",
    words: &[],
    check: |value| version(value).map(drop),
};

fn version(value: &Value) -> Result<TlsVersion, Wrong> {
    match value.as_str() {
        Some("1.2") => Ok(TlsVersion::V1_2),
        Some("1.3") => Ok(TlsVersion::V1_3),
        Some("1.0" | "1.1") => Err(Wrong::range("versions of TLS below 1.2 are broken")
            .help("RFC 8996 forbids them")
            .instead("\"1.2\"")),
        _ => Err(Wrong::kind()),
    }
}

pub(super) fn decode(entry: Entry<'_>) -> Tls {
    Tls {
        certificate: entry.prop("certificate", value::name),
        trust: entry.prop("trust", value::name),
        client: entry.prop("client", client),
        sni: entry.prop("sni", value::host),
        san: entry.prop("san", value::host),
        min: entry.prop("min", version),
        span: entry.node.name.span,
    }
}

/// What only makes sense where clients connect.
pub(super) fn check_client(reader: &mut Reader<'_>, entry: Entry<'_>) {
    if let Some(given) = entry.node.prop("client") {
        reader.report(
            Diagnostic::error(
                code::EXCLUSIVE,
                given.span,
                "`client=` is for a leg that clients open",
            )
            .help("to show a certificate to the other side, name it: `certificate=`"),
        );
    }
}

/// What only makes sense, or is needed, where clients connect.
pub(super) fn check_server(reader: &mut Reader<'_>, entry: Entry<'_>) {
    let node = entry.node;
    if node.prop("certificate").is_none() {
        reader.report(
            Diagnostic::error(
                code::MISSING,
                node.name.span,
                "a listener's `tls` needs `certificate=`",
            )
            .help("name the certificate that the gateway shows; its key is given to the proxy, not to git"),
        );
    }
    for name in ["sni", "san"] {
        if let Some(given) = node.prop(name) {
            reader.report(
                Diagnostic::error(
                    code::EXCLUSIVE,
                    given.span,
                    format!("`{name}=` is for a leg that the proxy dials"),
                )
                .help("a listener serves the names of its `host`"),
            );
        }
    }
    match (node.prop("client"), node.prop("trust")) {
        (Some(client), None) => reader.report(
            Diagnostic::error(
                code::MISSING,
                client.span,
                "certificates of clients need `trust=`",
            )
            .help("name the authorities that may have issued them"),
        ),
        (None, Some(trust)) => reader.report(
            Diagnostic::error(
                code::MISSING,
                trust.span,
                "`trust=` of a listener needs `client=`",
            )
            .help("say `client=required` or `client=optional`: without it no certificate is asked for"),
        ),
        _ => {}
    }
}
