//! The one encoding of a value.
//!
//! Bytes are canonical when they decode to a valid value of the domain type and that value encodes
//! to exactly these bytes. That one rule covers field order, unknown and repeated fields, defaults
//! written out, over-long varints and unsorted lists. The conversion into the domain type refuses
//! what protobuf lets through: enum value 0 and unknown enum values, unset oneofs, missing
//! messages, lists that are not strictly ascending, more elements than [`crate::limits`] allows.

use prost::Message;

use crate::reject::{RejectReason, Rejection};
use crate::spiffe::{SpiffeId, TrustDomain};

/// Bytes or a message are not the one encoding of a valid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub(crate) struct NonCanonical {
    field: &'static str,
    problem: String,
}

impl From<NonCanonical> for Rejection {
    fn from(error: NonCanonical) -> Self {
        Self::new(RejectReason::NonCanonical, error.to_string())
    }
}

/// A domain type and its message.
pub(crate) trait Wire: Sized {
    /// The generated message.
    type Message: Message + Default;

    /// The message of this value; lists that the format orders are sorted.
    fn to_message(&self) -> Self::Message;

    /// The value, if the message is valid.
    fn from_message(message: Self::Message) -> Result<Self, NonCanonical>;
}

/// The canonical bytes of a value.
pub(crate) fn encode<T: Wire>(value: &T) -> Vec<u8> {
    value.to_message().encode_to_vec()
}

/// The value of which these are the canonical bytes.
pub(crate) fn decode<T: Wire>(what: &'static str, bytes: &[u8]) -> Result<T, Rejection> {
    let message = decode_message::<T::Message>(what, bytes)?;
    let value = T::from_message(message)?;
    if encode(&value) != bytes {
        return Err(not_the_encoding(what).into());
    }
    Ok(value)
}

/// What [`decode`] makes of the bytes of a value, given the value's message.
///
/// Bytes are a function of the message, one message has one encoding, and decoding gives it back. So comparing messages
/// is comparing bytes, and a value that comes back unchanged has the same message by itself.
pub(crate) fn recode<T: Wire + PartialEq>(
    what: &'static str,
    value: &T,
    message: T::Message,
) -> Result<T, NonCanonical>
where
    T::Message: PartialEq,
{
    let read = T::from_message(message)?;
    if read != *value && read.to_message() != value.to_message() {
        return Err(not_the_encoding(what));
    }
    Ok(read)
}

/// Decodes without judging the content.
pub(crate) fn decode_message<M: Message + Default>(
    what: &'static str,
    bytes: &[u8],
) -> Result<M, Rejection> {
    M::decode(bytes).map_err(|error| {
        if ends_early(bytes) {
            Rejection::new(RejectReason::Truncated, format!("{what}: {error}"))
        } else {
            Rejection::new(RejectReason::NonCanonical, format!("{what}: {error}"))
        }
    })
}

fn not_the_encoding(what: &'static str) -> NonCanonical {
    invalid(what, "not the canonical encoding of its content")
}

pub(crate) fn invalid(field: &'static str, problem: &str) -> NonCanonical {
    NonCanonical {
        field,
        problem: problem.to_owned(),
    }
}

/// A message that must be there.
pub(crate) fn required<T>(field: &'static str, message: Option<T>) -> Result<T, NonCanonical> {
    message.ok_or_else(|| invalid(field, "missing"))
}

/// A known enum value. Whether 0 is refused is the caller's match, which names it.
pub(crate) fn enumeration<E: TryFrom<i32>>(
    field: &'static str,
    value: i32,
) -> Result<E, NonCanonical> {
    match E::try_from(value) {
        Ok(known) => Ok(known),
        Err(_) => Err(invalid(field, "unknown value")),
    }
}

/// A text that is neither empty nor too long and has no control characters.
pub(crate) fn text(
    field: &'static str,
    value: String,
    bytes_max: usize,
) -> Result<String, NonCanonical> {
    if value.is_empty() {
        return Err(invalid(field, "empty"));
    }
    text_or_empty(field, value, bytes_max)
}

/// Like [`text`], but may be empty.
pub(crate) fn text_or_empty(
    field: &'static str,
    value: String,
    bytes_max: usize,
) -> Result<String, NonCanonical> {
    if value.len() > bytes_max {
        return Err(invalid(field, &format!("longer than {bytes_max} bytes")));
    }
    if value.chars().any(char::is_control) {
        return Err(invalid(field, "has a control character"));
    }
    Ok(value)
}

/// A number within bounds.
pub(crate) fn within<N: PartialOrd + Copy + std::fmt::Display>(
    field: &'static str,
    value: N,
    low: N,
    high: N,
) -> Result<N, NonCanonical> {
    if value < low || value > high {
        return Err(invalid(
            field,
            &format!("{value} is not from {low} to {high}"),
        ));
    }
    Ok(value)
}

pub(crate) fn trust_domain(field: &'static str, text: &str) -> Result<TrustDomain, NonCanonical> {
    TrustDomain::parse(text).map_err(|error| invalid(field, &error.to_string()))
}

pub(crate) fn spiffe_id(field: &'static str, text: &str) -> Result<SpiffeId, NonCanonical> {
    SpiffeId::parse(text).map_err(|error| invalid(field, &error.to_string()))
}

/// Bytes of a fixed length.
pub(crate) fn array<const N: usize>(
    field: &'static str,
    bytes: &[u8],
) -> Result<[u8; N], NonCanonical> {
    match bytes.try_into() {
        Ok(array) => Ok(array),
        Err(_) => Err(invalid(field, &format!("not {N} bytes"))),
    }
}

/// A list that is strictly ascending by this comparison and no longer than its cap.
pub(crate) fn ascending<T>(
    field: &'static str,
    list: &[T],
    count_max: usize,
    less: impl Fn(&T, &T) -> bool,
) -> Result<(), NonCanonical> {
    counted(field, list, count_max)?;
    if !list.is_sorted_by(less) {
        return Err(invalid(field, "not strictly ascending"));
    }
    Ok(())
}

/// A list of messages that is strictly ascending by their encoded bytes.
pub(crate) fn ascending_by_bytes<M: Message>(
    field: &'static str,
    list: &[M],
    count_max: usize,
) -> Result<(), NonCanonical> {
    counted(field, list, count_max)?;
    let keys: Vec<_> = list.iter().map(Message::encode_to_vec).collect();
    ascending(field, &keys, count_max, |a, b| a < b)
}

/// A list no longer than its cap.
pub(crate) fn counted<T>(
    field: &'static str,
    list: &[T],
    count_max: usize,
) -> Result<(), NonCanonical> {
    if list.len() > count_max {
        return Err(invalid(
            field,
            &format!("{} elements, at most {count_max}", list.len()),
        ));
    }
    Ok(())
}

/// Converts each element. What is read lives long and in thousands: it has no room for more elements.
pub(crate) fn each<T: Wire>(list: Vec<T::Message>) -> Result<Vec<T>, NonCanonical> {
    let mut all: Vec<T> = list
        .into_iter()
        .map(T::from_message)
        .collect::<Result<_, _>>()?;
    all.shrink_to_fit();
    Ok(all)
}

/// The messages of a set, sorted by their encoded bytes, each once.
pub(crate) fn set_by_bytes<T: Wire>(values: &[T]) -> Vec<T::Message> {
    let mut keyed: Vec<_> = values
        .iter()
        .map(|value| {
            let message = value.to_message();
            (message.encode_to_vec(), message)
        })
        .collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    keyed.dedup_by(|a, b| a.0 == b.0);
    keyed.into_iter().map(|(_, message)| message).collect()
}

/// A sorted copy, each value once.
pub(crate) fn set<T: Ord + Clone>(values: &[T]) -> Vec<T> {
    let mut sorted = values.to_vec();
    sorted.sort();
    sorted.dedup();
    sorted
}

/// Whether the top-level fields of a message run beyond its end: what cutting bytes off does.
fn ends_early(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(key) = varint(&mut rest) else {
            return rest.is_empty();
        };
        let skipped = match key & 7 {
            0 => match varint(&mut rest) {
                Some(_) => continue,
                None => return rest.is_empty(),
            },
            1 => 8,
            2 => match varint(&mut rest) {
                Some(length) => length,
                None => return rest.is_empty(),
            },
            5 => 4,
            _ => return false,
        };
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        match rest.get(skipped..) {
            Some(after) => rest = after,
            None => return true,
        }
    }
    false
}

/// Takes a varint from the front; none if it is cut off (then nothing is left) or too long.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
