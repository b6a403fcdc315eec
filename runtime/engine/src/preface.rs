//! The first bytes of a connection of bytes between two proxies, whose ALPN is [`ALPN`]: which port of which
//! service is meant, and whether it may be had. Knows neither sockets nor TLS.
//!
//! ```text
//! caller:  length (2)  field…            length: of all fields, at most PREFACE_BYTES_MAX
//! field:   kind (1)  length (1)  bytes   kinds ascend, none comes twice
//!            1  name of the service      at least one byte of printable ASCII
//!            2  its port                 2 bytes, not 0
//!          128  its place in a trace     as the header `traceparent` has it
//! callee:  answer (1)                    0: from here on the bytes are the application's
//! ```
//!
//! Numbers have their highest byte first. A kind of 128 or more is a hint, which a reader that does not
//! know it skips; any other unknown kind is refused. What cannot be said so gets an ALPN of its own.

use std::borrow::Cow;

use crate::limits;

/// What proxies agree on for bytes.
pub const ALPN: &[u8] = b"mesh-tcp/1";

/// Bytes before the fields: their length.
pub const LENGTH_BYTES: usize = 2;

const SERVICE: u8 = 1;
const PORT: u8 = 2;
/// A hint: who knows it not, tells nobody.
const TRACE: u8 = 0x80;
/// From here on kinds may be skipped.
const HINTS: u8 = 0x80;

/// Which port of which service a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preface<'b> {
    /// Name of the service.
    pub service: Cow<'b, str>,
    /// Its port.
    pub port: u16,
    /// Where in a trace the connection is, as `traceparent` has it; whether it is well-formed is not looked at.
    pub trace: Option<Cow<'b, str>>,
}

/// Why a preface is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefaceError {
    /// Longer than any.
    #[error("the preface is too long")]
    TooLong,
    /// A field ends after the preface.
    #[error("the preface ends within a field")]
    Cut,
    /// Fields that do not ascend.
    #[error("the fields are not in order")]
    Order,
    /// A field that must be known and is not.
    #[error("the field {0} is not known")]
    Unknown(u8),
    /// A name or port that is none.
    #[error("the field {0} has no such value")]
    Value(u8),
    /// Name or port is missing.
    #[error("the field {0} is missing")]
    Missing(u8),
}

/// How the callee's proxy answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The application has accepted.
    Accepted,
    /// The caller may not.
    Denied,
    /// There is no such service or port here, or none of bytes.
    NoSuchPort,
    /// The application did not accept.
    ConnectFailure,
    /// It did not in time.
    ConnectTimeout,
    /// The proxy has no room, or no configuration, or is ending.
    Unavailable,
    /// The preface, or what followed it, is malformed.
    Malformed,
}

const ANSWERS: [Answer; 7] = [
    Answer::Accepted,
    Answer::Denied,
    Answer::NoSuchPort,
    Answer::ConnectFailure,
    Answer::ConnectTimeout,
    Answer::Unavailable,
    Answer::Malformed,
];

impl Answer {
    /// As sent.
    pub fn to_byte(self) -> u8 {
        let position = ANSWERS.iter().position(|answer| *answer == self);
        position
            .and_then(|at| u8::try_from(at).ok())
            .unwrap_or(0xff)
    }

    /// As received; what a later release may say is not known.
    pub fn from_byte(byte: u8) -> Option<Self> {
        ANSWERS.get(usize::from(byte)).copied()
    }
}

/// How many bytes of fields follow.
pub fn length(bytes: [u8; LENGTH_BYTES]) -> Result<usize, PrefaceError> {
    let length = usize::from(u16::from_be_bytes(bytes));
    if length > limits::PREFACE_BYTES_MAX {
        return Err(PrefaceError::TooLong);
    }
    Ok(length)
}

impl<'b> Preface<'b> {
    /// Reads the fields.
    pub fn decode(mut fields: &'b [u8]) -> Result<Self, PrefaceError> {
        if fields.len() > limits::PREFACE_BYTES_MAX {
            return Err(PrefaceError::TooLong);
        }
        let (mut service, mut port, mut trace) = (None, None, None);
        let mut last = 0;
        while let Some((&kind, rest)) = fields.split_first() {
            let (&length, rest) = rest.split_first().ok_or(PrefaceError::Cut)?;
            let split = rest.split_at_checked(usize::from(length));
            let (value, rest) = split.ok_or(PrefaceError::Cut)?;
            if kind <= last {
                return Err(PrefaceError::Order);
            }
            match kind {
                SERVICE => service = Some(name(value).ok_or(PrefaceError::Value(kind))?),
                PORT => port = Some(number(value).ok_or(PrefaceError::Value(kind))?),
                // A hint that is none refuses nobody.
                TRACE => trace = name(value),
                other if other >= HINTS => {}
                _ => return Err(PrefaceError::Unknown(kind)),
            }
            (last, fields) = (kind, rest);
        }
        Ok(Self {
            service: Cow::Borrowed(service.ok_or(PrefaceError::Missing(SERVICE))?),
            port: port.ok_or(PrefaceError::Missing(PORT))?,
            trace: trace.map(Cow::Borrowed),
        })
    }

    /// Writes length and fields. Fails for a name that no service has.
    pub fn encode(&self) -> Result<Vec<u8>, PrefaceError> {
        let wrong = PrefaceError::Value(SERVICE);
        let service = name(self.service.as_bytes()).ok_or(wrong)?;
        let service_length = u8::try_from(service.len()).map_err(|_too_long| wrong)?;
        let mut fields = vec![SERVICE, service_length];
        fields.extend_from_slice(service.as_bytes());
        fields.extend_from_slice(&[PORT, 2]);
        fields.extend_from_slice(&self.port.to_be_bytes());
        let trace = self.trace.as_ref().and_then(|trace| name(trace.as_bytes()));
        let trace = trace.and_then(|trace| Some((trace, u8::try_from(trace.len()).ok()?)));
        if let Some((trace, length)) = trace {
            fields.extend_from_slice(&[TRACE, length]);
            fields.extend_from_slice(trace.as_bytes());
        }
        let length = u16::try_from(fields.len()).map_err(|_too_long| PrefaceError::TooLong)?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.append(&mut fields);
        Ok(bytes)
    }
}

fn name(value: &[u8]) -> Option<&str> {
    let is_name = !value.is_empty() && value.iter().all(u8::is_ascii_graphic);
    is_name.then(|| str::from_utf8(value).ok()).flatten()
}

fn number(value: &[u8]) -> Option<u16> {
    let bytes = <[u8; 2]>::try_from(value).ok()?;
    Some(u16::from_be_bytes(bytes)).filter(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(fields: &[u8], expected: Result<(&str, u16), PrefaceError>) {
        let decoded = Preface::decode(fields);
        let decoded = decoded.as_ref().map(|read| (&*read.service, read.port));
        assert_eq!(decoded.map_err(|error| *error), expected, "{fields:?}");
    }

    #[test]
    fn prefaces() {
        let whole = [1, 2, b'd', b'b', 2, 2, 0x15, 0x38];
        check(&whole, Ok(("db", 5432)));
        // A hint of a later release.
        let with_hint = [&whole[..], &[200, 1, 7]].concat();
        check(&with_hint, Ok(("db", 5432)));
        let traced = [&whole[..], &[128, 2, b'0', b'0']].concat();
        assert_eq!(
            Preface::decode(&traced).unwrap().trace.as_deref(),
            Some("00")
        );
        let no_text = [&whole[..], &[128, 1, 0xff]].concat();
        assert_eq!(Preface::decode(&no_text).unwrap().trace, None);
        check(&[], Err(PrefaceError::Missing(1)));
        check(&whole[..4], Err(PrefaceError::Missing(2)));
        check(&whole[4..], Err(PrefaceError::Missing(1)));
        check(&whole[..7], Err(PrefaceError::Cut));
        check(&[1], Err(PrefaceError::Cut));
        check(&[1, 0], Err(PrefaceError::Value(1)));
        check(&[1, 1, b' '], Err(PrefaceError::Value(1)));
        check(&[2, 2, 0, 0], Err(PrefaceError::Value(2)));
        check(&[2, 1, 9], Err(PrefaceError::Value(2)));
        check(&[3, 0], Err(PrefaceError::Unknown(3)));
        check(&[0, 0], Err(PrefaceError::Order));
        check(&[2, 2, 0, 1, 1, 1, b'a'], Err(PrefaceError::Order));
        check(&[1, 1, b'a', 1, 1, b'a'], Err(PrefaceError::Order));
        check(&[0xff; 513], Err(PrefaceError::TooLong));
        assert_eq!(length([2, 1]), Err(PrefaceError::TooLong));
        assert_eq!(length([2, 0]), Ok(512));
    }

    #[test]
    fn answers_survive_their_bytes() {
        for answer in ANSWERS {
            assert_eq!(Answer::from_byte(answer.to_byte()), Some(answer));
        }
        assert_eq!(Answer::Accepted.to_byte(), 0);
        assert_eq!(Answer::from_byte(7), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            service in "[!-~]{1,253}",
            port in 1_u16..,
            trace in proptest::option::of("[!-~]{1,55}"),
        ) {
            let trace = trace.map(Cow::Owned);
            let written = Preface { service: service.into(), port, trace };
            let bytes = written.encode().unwrap();
            let (head, fields) = bytes.split_first_chunk().unwrap();
            prop_assert_eq!(length(*head), Ok(fields.len()));
            prop_assert_eq!(Preface::decode(fields), Ok(written));
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(read) = Preface::decode(&bytes) {
                prop_assert!(read.port != 0 && !read.service.is_empty());
            }
        }
    }
}
