//! `port`, `address` and `unmeshed`: how a service is reached, beyond its endpoints.

use mesh_bundle::slice::Protocol;
use mesh_syntax::{Diagnostic, Value};

use super::Place::{self, External, Service};
use super::{Args, Entry, Keyword, Property, Reader, Repeats, mtls, tls};
use crate::code;
use crate::model::{Dial, Port, Reach};
use crate::value::{self, Wrong};

pub(super) static PORT: Keyword = Keyword {
    args: Args::list("PORT", &value::PORT, 1),
    repeats: Repeats::Many,
    props: &[
        Property::new(
            "protocol",
            &value::PROTOCOL,
            "What the application speaks: `http` (1.1 and 2, the default), `grpc`, `tcp`, or `tls` that it ends itself.",
        ),
        Property::new(
            "dial",
            &value::PORT,
            "The port really dialled, where no proxy of the mesh answers.",
        ),
    ],
    block: Some(Place::Port),
    ..Keyword::new(
        "port",
        &[Service, External],
        "Ports that the service answers on.",
    )
};

pub(super) static ADDRESS: Keyword = Keyword {
    args: Args::list("ADDRESS", &value::CIDR, 1),
    repeats: Repeats::Many,
    ..Keyword::new(
        "address",
        &[Service, External],
        "Virtual addresses, or ranges of them, that name the service.",
    )
};

pub(super) static UNMESHED: Keyword = Keyword {
    alone: true,
    ..Keyword::new(
        "unmeshed",
        &[Service],
        "No proxy stands beside the service, so that it is dialled without mutual TLS.",
    )
};

/// Takes what says how a service is reached; whatever else an entry is, it is left alone.
pub(super) fn decode(
    reader: &mut Reader<'_>,
    entry: Entry<'_>,
    ports: &mut Vec<Port>,
    reach: &mut Reach,
) {
    match entry.word() {
        "port" => {
            let protocol = entry
                .prop("protocol", value::protocol)
                .map_or(Protocol::Http, |protocol| protocol.value);
            let numbers = entry.args(0, value::port);
            let dial = entry.prop("dial", value::port);
            let (mut leg, mut mode) = (None, None);
            for child in reader.block(entry) {
                if child.word() == "mtls" {
                    mode = mtls::decode(child);
                    continue;
                }
                tls::check_client(reader, child);
                leg = Some(tls::decode(child));
            }
            ports.extend(numbers.iter().map(|number| Port {
                mtls: mode,
                ..Port::new(*number, protocol)
            }));
            if let (Some(dial), true) = (dial, numbers.len() > 1) {
                reader.report(
                    Diagnostic::error(
                        code::EXCLUSIVE,
                        dial.span,
                        "several ports would all be dialled as one",
                    )
                    .help("write a `port` line for each"),
                );
            }
            if dial.is_some() || leg.is_some() {
                reach.dials.push(Dial {
                    ports: numbers,
                    dial,
                    tls: leg,
                    span: entry.span(),
                });
            }
        }
        "address" => {
            let addresses = entry.args(0, address);
            reach.addresses.extend(addresses);
        }
        "unmeshed" => reach.unmeshed = Some(entry.span()),
        _ => {}
    }
}

fn address(value: &Value) -> Result<ipnet::IpNet, Wrong> {
    value::cidr(value)
}
