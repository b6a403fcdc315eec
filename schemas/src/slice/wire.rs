//! Slices to messages and back. Whatever the message allows and the domain type does not is refused
//! here; which lists are sets, and by what they ascend, is written beside the fields of
//! `bundle.proto`.

use prost::Message;

use super::{Access, Callee, Recoded, SLICE_FORMAT, Slice, Target};
use crate::canonical::{
    self, NonCanonical, Wire, ascending, each, invalid, required, set, text, within,
};
use crate::envelope::too_large;
use crate::limits;
use crate::messages::bundle as wire;
use crate::reject::Rejection;
use crate::statement::judge_features;

mod access;
mod action;
mod callee;
mod condition;
mod exchange;
mod gate;
mod limit;
mod pool;
mod route;
mod telemetry;
mod tls;

type Result<T> = std::result::Result<T, NonCanonical>;

/// What is read of a slice before anything else; every format keeps these two fields.
#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, repeated, tag = "2")]
    required_features: Vec<String>,
}

pub(super) fn encode(slice: &Slice) -> Vec<u8> {
    canonical::encode(slice)
}

pub(super) fn encode_access(access: &Access) -> Vec<u8> {
    canonical::encode(access)
}

pub(super) fn decode(bytes: &[u8], supported: &[&str]) -> std::result::Result<Slice, Rejection> {
    if bytes.len() > limits::SLICE_BYTES_MAX {
        return Err(too_large("slice", bytes.len(), limits::SLICE_BYTES_MAX));
    }
    let header: Header = canonical::decode_message("slice", bytes)?;
    judge_features(
        "slice",
        header.format,
        SLICE_FORMAT,
        &header.required_features,
        supported,
    )?;
    canonical::decode("slice", bytes)
}

pub(super) fn recode(
    slice: &Slice,
    supported: &[&str],
) -> std::result::Result<Recoded<Slice>, Rejection> {
    let message = slice.to_message();
    let bytes = message.encoded_len();
    if bytes > limits::SLICE_BYTES_MAX {
        return Err(too_large("slice", bytes, limits::SLICE_BYTES_MAX));
    }
    judge_features(
        "slice",
        message.format,
        SLICE_FORMAT,
        &message.required_features,
        supported,
    )?;
    let value = canonical::recode("slice", slice, message)?;
    Ok(Recoded { value, bytes })
}

pub(super) fn recode_callee(callee: &Callee) -> std::result::Result<Recoded<Callee>, Rejection> {
    let message = callee.to_message();
    let bytes = message.encoded_len();
    let value = canonical::recode("callee", callee, message)?;
    Ok(Recoded { value, bytes })
}

impl Wire for Slice {
    type Message = wire::Slice;

    fn to_message(&self) -> wire::Slice {
        let mut callees: Vec<_> = self.callees.iter().map(Wire::to_message).collect();
        callees.sort_by(|a: &wire::Callee, b| a.service.cmp(&b.service));
        let mut gateways: Vec<_> = self.gateways.iter().map(Wire::to_message).collect();
        gateways.sort_by(|a: &wire::Gateway, b| a.name.cmp(&b.name));
        let mut telemetry: Vec<_> = self.telemetry.iter().map(Wire::to_message).collect();
        telemetry.sort_by(|a: &wire::Telemetry, b| a.service.cmp(&b.service));
        wire::Slice {
            format: SLICE_FORMAT,
            required_features: set(&self.required_features),
            identity: self.identity.to_string(),
            access: Some(self.access.to_message()),
            callees,
            gateways,
            telemetry,
        }
    }

    fn from_message(message: wire::Slice) -> Result<Self> {
        within("slice.format", message.format, SLICE_FORMAT, SLICE_FORMAT)?;
        names(
            "slice.required_features",
            &message.required_features,
            limits::FEATURES_MAX,
        )?;
        ascending(
            "slice.callees",
            &message.callees,
            limits::CALLEES_MAX,
            |a, b| a.service < b.service,
        )?;
        ascending(
            "slice.gateways",
            &message.gateways,
            limits::INBOUND_SERVICES_MAX,
            |a, b| a.name < b.name,
        )?;
        ascending(
            "slice.telemetry",
            &message.telemetry,
            limits::INBOUND_SERVICES_MAX,
            |a, b| a.service < b.service,
        )?;
        Ok(Self {
            required_features: message.required_features,
            identity: canonical::spiffe_id("slice.identity", &message.identity)?,
            access: Access::from_message(required("slice.access", message.access)?)?,
            callees: each(message.callees)?,
            gateways: each(message.gateways)?,
            telemetry: each(message.telemetry)?,
        })
    }
}

fn name(field: &'static str, value: String) -> Result<String> {
    text(field, value, limits::NAME_BYTES_MAX)
}

fn pattern(field: &'static str, value: String) -> Result<String> {
    text(field, value, limits::TEXT_BYTES_MAX)
}

/// A strictly ascending list of names.
fn names(field: &'static str, list: &[String], count_max: usize) -> Result<()> {
    ascending(field, list, count_max, |a, b| a < b)?;
    for value in list {
        name(field, value.clone())?;
    }
    Ok(())
}

fn not_empty<T>(field: &'static str, list: &[T]) -> Result<()> {
    if list.is_empty() {
        return Err(invalid(field, "empty"));
    }
    Ok(())
}

fn port(field: &'static str, number: u32) -> Result<u16> {
    narrow(field, number, 1, u16::MAX.into())
}

/// A number within bounds that fit the narrower type.
fn narrow<N: TryFrom<u32>>(field: &'static str, number: u32, low: u32, high: u32) -> Result<N> {
    match N::try_from(within(field, number, low, high)?) {
        Ok(narrowed) => Ok(narrowed),
        Err(_) => Err(invalid(field, "out of range")),
    }
}

fn unspecified<T>(field: &'static str) -> Result<T> {
    Err(invalid(field, "unspecified"))
}

/// The empty text stands for none.
fn optional_name(field: &'static str, value: String) -> Result<Option<String>> {
    if value.is_empty() {
        return Ok(None);
    }
    name(field, value).map(Some)
}

/// 0 stands for none.
fn optional_port(field: &'static str, number: u32) -> Result<Option<u16>> {
    if number == 0 {
        return Ok(None);
    }
    port(field, number).map(Some)
}

/// Of 10,000.
fn share(field: &'static str, value: u32) -> Result<u32> {
    within(field, value, 0, 10_000)
}

/// A lower-case header name (RFC 9110 §5.1, `token`).
fn header_name(field: &'static str, value: String) -> Result<String> {
    let token = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
    };
    if !value.bytes().all(token) {
        return Err(invalid(field, "not a lower-case header name"));
    }
    name(field, value)
}

/// A strictly ascending list of lower-case header names.
fn header_names(field: &'static str, list: Vec<String>) -> Result<Vec<String>> {
    ascending(field, &list, limits::HEADERS_MAX, |a, b| a < b)?;
    list.into_iter()
        .map(|value| header_name(field, value))
        .collect()
}

/// A message that is left out when nothing is in it.
fn unless_default<M: Message + Default + PartialEq>(message: M) -> Option<M> {
    (message != M::default()).then_some(message)
}

fn target_to(target: &Target) -> wire::Fallback {
    wire::Fallback {
        service: target.service.clone(),
        subset: target.subset.clone().unwrap_or_default(),
        port: target.port.map_or(0, u32::from),
    }
}

fn target_from(field: &'static str, message: wire::Fallback) -> Result<Target> {
    Ok(Target {
        service: name(field, message.service)?,
        subset: optional_name(field, message.subset)?,
        port: optional_port(field, message.port)?,
    })
}
