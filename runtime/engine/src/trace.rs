//! Trace context: which trace a request belongs to, and what the next hop is told of it. W3C Trace Context is read and
//! written always, B3 where it came. A trace that somebody began is never begun again; what is malformed is
//! replaced. Headers that cannot be understood never refuse a request.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use rand::Rng;
use rand::RngExt as _;

mod b3;
mod state;

use b3::B3;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const SAMPLED: u8 = 0b01;
/// The trace id is random, of level 2.
const RANDOM: u8 = 0b10;

/// Of 10,000.
const ALL: u32 = 10_000;

/// Name of a trace, never all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// Name of one hop of a trace, never all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

/// Where in a trace a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: TraceId,
    /// The hop.
    pub span: SpanId,
    flags: u8,
}

/// What was made of the headers of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// The context that the next hop is told; none: it belongs to no trace.
    pub context: Option<Context>,
    /// The hop before, if that began the trace.
    pub parent: Option<SpanId>,
    /// Whether this hop is to be told to the collector.
    pub recorded: bool,
}

impl TraceId {
    fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    fn random(rng: &mut impl Rng) -> Self {
        // All zero once in 2^128 times.
        Self::new(rng.random()).unwrap_or(Self([1; 16]))
    }

    /// As it is.
    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }

    /// In hexadecimal.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl SpanId {
    fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    fn random(rng: &mut impl Rng) -> Self {
        Self::new(rng.random()).unwrap_or(Self([1; 8]))
    }

    /// As it is.
    pub fn bytes(&self) -> [u8; 8] {
        self.0
    }

    /// In hexadecimal.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl Context {
    /// Whether it is told to collectors.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The flags of W3C Trace Context.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// A `traceparent` (W3C Trace Context section 3.2): version, trace, span, flags. Later versions begin like it.
    fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
        let mut parts = text.split('-');
        let version = lower_hex::<1>(parts.next()?)?;
        let trace = TraceId::new(lower_hex(parts.next()?)?)?;
        let span = SpanId::new(lower_hex(parts.next()?)?)?;
        let [flags] = lower_hex::<1>(parts.next()?)?;
        match version {
            [0xff] => return None,
            [0] if parts.next().is_some() => return None,
            _ => {}
        }
        Some(Self {
            trace,
            span,
            flags: flags & (SAMPLED | RANDOM),
        })
    }

    fn with(self, sampled: bool) -> Self {
        let flags = self.flags & !SAMPLED | if sampled { SAMPLED } else { 0 };
        Self { flags, ..self }
    }

    fn value(self) -> Option<HeaderValue> {
        let (trace, span) = (self.trace.hex(), self.span.hex());
        HeaderValue::try_from(format!("00-{trace}-{span}-{:02x}", self.flags)).ok()
    }
}

/// What `traceparent` says.
enum Parent {
    Absent,
    Malformed,
    Given(Context),
}

impl Parent {
    fn read(headers: &HeaderMap) -> Self {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Self::Absent,
            (Some(line), None) => {
                Context::parse(line.as_bytes()).map_or(Self::Malformed, Self::Given)
            }
            (Some(_), Some(_)) => Self::Malformed,
        }
    }
}

/// Reads a request's context and makes its headers those of the next hop. `share`: of 10,000 new traces so many are
/// recorded here; none: no hop is.
pub fn follow(headers: &mut HeaderMap, share: Option<u32>, rng: &mut impl Rng) -> Followed {
    let parent = Parent::read(headers);
    let b3 = B3::read(headers);
    let malformed =
        matches!(parent, Parent::Malformed) || b3.as_ref().is_some_and(|b3| b3.malformed);
    // W3C goes first, as OpenTelemetry has it.
    let (before, decided) = match (parent, &b3) {
        (Parent::Given(context), _) => (Some(context), Some(context.is_sampled())),
        (_, Some(b3)) => (b3.context, b3.sampled),
        (_, None) => (None, None),
    };
    let mut draw = || share.is_some_and(|share| rng.random_range(0..ALL) < share);
    let sampled = decided.unwrap_or_else(&mut draw);
    let recorded = sampled && share.is_some();
    let Some(before) = before else {
        if share.is_none() && !malformed {
            return Followed::default();
        }
        let context = Context {
            trace: TraceId::random(rng),
            span: SpanId::random(rng),
            flags: RANDOM,
        };
        // It spoke of another trace, or of none.
        state::remove(headers);
        return tell(headers, context.with(sampled), None, b3.as_ref(), recorded);
    };
    state::tidy(headers);
    if recorded {
        let own = Context {
            span: SpanId::random(rng),
            ..before.with(true)
        };
        return tell(headers, own, Some(before.span), b3.as_ref(), true);
    }
    let deferred = decided.is_none() && share.is_some();
    if malformed || deferred {
        return tell(headers, before.with(sampled), None, b3.as_ref(), false);
    }
    Followed {
        context: Some(before),
        parent: None,
        recorded: false,
    }
}

fn tell(
    headers: &mut HeaderMap,
    context: Context,
    parent: Option<SpanId>,
    b3: Option<&B3>,
    recorded: bool,
) -> Followed {
    if let Some(value) = context.value() {
        headers.insert(TRACEPARENT, value);
    }
    if let Some(b3) = b3 {
        b3.write(headers, context, parent);
    }
    Followed {
        context: Some(context),
        parent,
        recorded,
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)])
        .collect()
}

/// Exactly so many bytes, in lower-case digits.
fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16)?;
            *byte = *byte << 4 | u8::try_from(value).ok()?;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRng;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn followed(lines: &[(&'static str, &str)], share: Option<u32>) -> (HeaderMap, Followed) {
        let mut headers = headers(lines);
        let followed = follow(&mut headers, share, &mut TestRng(7));
        (headers, followed)
    }

    fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
        headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Trace Context section 3.2.2 and its test suite.
    #[test]
    fn traceparents_that_are_none() {
        let long = format!("00-{TRACE}-{SPAN}-01-x");
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            &long,
        ] {
            assert_eq!(Context::parse(bad.as_bytes()), None, "{bad}");
        }
        let later = format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like");
        assert!(Context::parse(later.as_bytes()).is_some());
        let spaced = format!(" 00-{TRACE}-{SPAN}-01\t");
        assert!(Context::parse(spaced.as_bytes()).is_some_and(|context| context.is_sampled()));
    }

    #[test]
    fn a_trace_goes_on_and_is_not_begun_again() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let lines = [("traceparent", parent.as_str()), ("tracestate", "a=1,b=2")];
        // Nobody here records: it is passed on as it is.
        let (headers, passed) = followed(&lines, None);
        assert_eq!(text(&headers, "traceparent"), parent);
        assert!(!passed.recorded);
        assert_eq!(passed.context.unwrap().trace.hex(), TRACE);
        // Recorded, it is the same trace with a hop of our own.
        let (headers, passed) = followed(&lines, Some(0));
        let own = passed.context.unwrap();
        assert_eq!((own.trace.hex().as_str(), passed.recorded), (TRACE, true));
        assert_eq!(passed.parent.unwrap().hex(), SPAN);
        assert_ne!(own.span.hex(), SPAN);
        let told = format!("00-{TRACE}-{}-01", own.span.hex());
        assert_eq!(text(&headers, "traceparent"), told);
        assert_eq!(text(&headers, "tracestate"), "a=1,b=2");
        // What is not sampled stays so, whatever our share.
        let unsampled = format!("00-{TRACE}-{SPAN}-00");
        let (headers, passed) = followed(&[("traceparent", &unsampled)], Some(ALL));
        assert_eq!(text(&headers, "traceparent"), unsampled);
        assert!(!passed.recorded);
    }

    #[test]
    fn a_trace_is_begun_where_there_is_none_and_its_fate_decided_once() {
        let (headers, none) = followed(&[], None);
        assert_eq!((headers.len(), none), (0, Followed::default()));
        let (headers, all) = followed(&[("tracestate", "a=1")], Some(ALL));
        assert!(all.recorded && all.parent.is_none());
        assert!(
            text(&headers, "traceparent").ends_with("-03"),
            "{headers:?}"
        );
        assert_eq!(text(&headers, "tracestate"), "");
        // Whoever comes next sees that it was decided.
        let (headers, nothing) = followed(&[], Some(0));
        assert!(!nothing.recorded);
        assert!(
            text(&headers, "traceparent").ends_with("-02"),
            "{headers:?}"
        );
        let mut rng = TestRng(1);
        let recorded =
            (0..10_000).filter(|_| follow(&mut HeaderMap::new(), Some(100), &mut rng).recorded);
        let recorded = recorded.count();
        assert!((50..200).contains(&recorded), "{recorded}");
    }

    #[test]
    fn what_is_malformed_is_replaced() {
        for share in [None, Some(0), Some(ALL)] {
            let (headers, passed) = followed(
                &[("traceparent", "00-nonsense-01"), ("tracestate", "a=1")],
                share,
            );
            let context = passed.context.unwrap();
            assert_eq!(text(&headers, "traceparent"), context.value().unwrap());
            assert_eq!(text(&headers, "tracestate"), "");
            assert_eq!(passed.recorded, share == Some(ALL));
        }
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let twice = [("traceparent", parent.as_str()), ("traceparent", &parent)];
        let (headers, _) = followed(&twice, None);
        assert_eq!(headers.get_all("traceparent").iter().count(), 1);
        assert!(!text(&headers, "traceparent").contains(TRACE));
    }

    #[test]
    fn b3_is_read_and_written_where_it_came() {
        let single = format!("{TRACE}-{SPAN}-1");
        let (headers, passed) = followed(&[("b3", &single)], Some(0));
        let own = passed.context.unwrap();
        assert!(passed.recorded);
        assert_eq!(own.trace.hex(), TRACE);
        let span = own.span.hex();
        assert_eq!(text(&headers, "b3"), format!("{TRACE}-{span}-1-{SPAN}"));
        assert_eq!(
            text(&headers, "traceparent"),
            format!("00-{TRACE}-{span}-01")
        );

        let several = [
            ("x-b3-traceid", "a3ce929d0e0e4736"),
            ("x-b3-spanid", SPAN),
            ("x-b3-parentspanid", "05e3ac9a4f6e3b90"),
            ("x-b3-sampled", "1"),
        ];
        let (headers, passed) = followed(&several, Some(0));
        let own = passed.context.unwrap();
        assert_eq!(own.trace.hex(), "0000000000000000a3ce929d0e0e4736");
        assert_eq!(text(&headers, "x-b3-traceid"), "a3ce929d0e0e4736");
        assert_eq!(text(&headers, "x-b3-spanid"), own.span.hex());
        assert_eq!(text(&headers, "x-b3-parentspanid"), SPAN);
        assert_eq!(text(&headers, "b3"), "");

        // Only a decision: it holds for the trace that begins here.
        for (no, name) in [("0", "b3"), ("0", "x-b3-sampled")] {
            let (headers, passed) = followed(&[(name, no)], Some(ALL));
            assert!(!passed.recorded, "{name}");
            assert!(
                text(&headers, "traceparent").ends_with("-02"),
                "{headers:?}"
            );
        }
        // Nothing decided: it is here, once.
        let open = format!("{TRACE}-{SPAN}");
        let (headers, passed) = followed(&[("b3", &open)], Some(ALL));
        assert!(passed.recorded && text(&headers, "b3").contains("-1-"));
        let (headers, passed) = followed(&[("b3", &open)], Some(0));
        assert!(
            !passed.recorded && text(&headers, "b3").ends_with("-0"),
            "{headers:?}"
        );
        let (headers, _) = followed(&[("b3", &open)], None);
        assert_eq!(text(&headers, "b3"), open);
    }

    #[test]
    fn one_request_is_of_one_trace() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let other = "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-0";
        let (headers, passed) = followed(&[("traceparent", &parent), ("b3", other)], Some(0));
        let span = passed.context.unwrap().span.hex();
        assert_eq!(text(&headers, "b3"), format!("{TRACE}-{span}-1-{SPAN}"));
        // Debugging is kept, which B3 has and W3C has not.
        let debug = format!("{TRACE}-{SPAN}-d");
        let (headers, passed) = followed(&[("b3", &debug)], Some(0));
        assert!(
            passed.recorded && text(&headers, "b3").contains("-d-"),
            "{headers:?}"
        );
        for bad in ["x", "0-0-0-0-0", "zz-yy-1", &format!("{TRACE}-{SPAN}-7")] {
            let (headers, passed) = followed(&[("b3", bad)], None);
            let context = passed.context.unwrap();
            assert!(
                text(&headers, "b3").starts_with(&context.trace.hex()),
                "{bad}"
            );
        }
    }
}
