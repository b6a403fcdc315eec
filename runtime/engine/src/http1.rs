//! HTTP/1 requests as bytes: where each head, body and chunk ends, strictly as RFC 9112 has it. What another parser
//! might read in another way is refused, for that is how requests are smuggled past a proxy; whatever is let through
//! has one reading. Judges framing and syntax alone: what a request means is for whoever parses it.

use crate::host::HostError;

mod chunk;
mod head;

pub use head::Http1Scan;

/// Bounds that an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// A head, blank lines before it and request line included.
    pub head_bytes: usize,
    /// Its target.
    pub target_bytes: usize,
    /// Its fields.
    pub fields: usize,
    /// Trailers, all lines together.
    pub trailer_bytes: usize,
}

/// What a connection is in the middle of, for its clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of the next request has come.
    Between,
    /// A part of a head.
    Head,
    /// A part of a body.
    Body,
}

/// A broken rule, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which rule.
    pub fault: Fault,
    /// Index of the byte in what was just read.
    pub at: usize,
    /// Whether the head has already been let through.
    pub in_body: bool,
}

/// Why bytes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A method that is no token, or none.
    #[error("the method is no token")]
    Method,
    /// A byte that no target has.
    #[error("the target holds a byte that no target has")]
    TargetByte,
    /// A fragment never travels.
    #[error("the target has a fragment")]
    Fragment,
    /// Neither a path nor a URL.
    #[error("the target is neither a path nor a URL")]
    TargetForm,
    /// A URL that is not of HTTP.
    #[error("the target is a URL of another scheme")]
    Scheme,
    /// A URL without a host that could be one.
    #[error("the target's host is none: {0}")]
    Host(HostError),
    /// Over its bound.
    #[error("the target is too long")]
    TargetTooLong,
    /// Nothing is tunnelled.
    #[error("the method is CONNECT")]
    Connect,
    /// Neither 1.0 nor 1.1.
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    /// A line that ends in a bare line feed.
    #[error("a line ends in a bare line feed")]
    BareLineFeed,
    /// Too many blank lines before a request.
    #[error("too many blank lines come before the request")]
    BlankLines,
    /// A field over several lines.
    #[error("a field goes over several lines")]
    FoldedField,
    /// A name that is no token, a space before the colon, or no colon.
    #[error("the name of a field is no token")]
    FieldName,
    /// A control byte.
    #[error("the value of a field holds a control byte")]
    FieldValue,
    /// Over their bound.
    #[error("there are too many fields")]
    TooManyFields,
    /// Over its bound.
    #[error("the head is too large")]
    HeadTooLarge,
    /// No number in its shortest form, or two that differ.
    #[error("Content-Length is not one number")]
    ContentLength,
    /// Not exactly one `chunked`, or one that HTTP/1.0 does not know.
    #[error("Transfer-Encoding is not exactly one `chunked`")]
    TransferEncoding,
    /// Both of them.
    #[error("there are Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    /// A chunk, or trailers over their bound.
    #[error("a chunk is malformed")]
    Chunk,
}

impl Fault {
    /// The name of the broken rule, for metrics and logs.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::TargetByte => "target_byte",
            Self::Fragment => "fragment",
            Self::TargetForm => "target_form",
            Self::Scheme => "scheme",
            Self::Host(error) => error.rule(),
            Self::TargetTooLong => "target_too_long",
            Self::Connect => "connect",
            Self::Version => "version",
            Self::BareLineFeed => "bare_line_feed",
            Self::BlankLines => "blank_lines",
            Self::FoldedField => "folded_field",
            Self::FieldName => "field_name",
            Self::FieldValue => "field_value",
            Self::TooManyFields => "too_many_fields",
            Self::HeadTooLarge => "head_too_large",
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::LengthAndEncoding => "length_and_encoding",
            Self::Chunk => "chunk",
        }
    }
}

/// Classes of bytes.
mod class {
    /// RFC 9110 section 5.6.2.
    pub(super) const TOKEN: u8 = 1;
    /// Of a path; RFC 3986 section 3.3, and what clients do not escape that no parser takes for something else.
    pub(super) const PATH: u8 = 2;
    /// Of a query.
    pub(super) const QUERY: u8 = 4;

    static OF: [u8; 256] = table();

    /// How many bytes at the start are of this class.
    pub(super) fn count(bytes: &[u8], class: u8) -> usize {
        let is_other = |byte: &u8| {
            let of = OF.get(usize::from(*byte)).copied().unwrap_or_default();
            of & class == 0
        };
        bytes.iter().position(is_other).unwrap_or(bytes.len())
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a constant is built of the numbers below 256"
    )]
    const fn table() -> [u8; 256] {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let byte = at as u8;
            if byte.is_ascii_alphanumeric() || is_in(byte, b"!#$%&'*+-.^_`|~") {
                table[at] |= TOKEN;
            }
            if byte.is_ascii_graphic() {
                if !is_in(byte, b"#?<>`") {
                    table[at] |= PATH;
                }
                if !is_in(byte, b"#<>\"") {
                    table[at] |= QUERY;
                }
            }
            at += 1;
        }
        table
    }

    #[expect(clippy::indexing_slicing, reason = "below the length")]
    const fn is_in(byte: u8, set: &[u8]) -> bool {
        let mut at = 0;
        while at < set.len() {
            if set[at] == byte {
                return true;
            }
            at += 1;
        }
        false
    }
}
