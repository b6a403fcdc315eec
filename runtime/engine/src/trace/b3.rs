//! B3 propagation, in one header or in several (openzipkin/b3-propagation).

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::{Context, SpanId, TraceId, hex, lower_hex};

const B3_HEADER: HeaderName = HeaderName::from_static("b3");
const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// What came as B3.
#[derive(Debug, Default)]
pub(super) struct B3 {
    /// In one header.
    single: bool,
    /// In several.
    several: bool,
    /// The hop before.
    pub(super) context: Option<Context>,
    /// None: that is left to us.
    pub(super) sampled: Option<bool>,
    debug: bool,
    /// Something of it cannot be understood.
    pub(super) malformed: bool,
}

impl B3 {
    /// None: there is none.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let single = headers.get(B3_HEADER);
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let (trace, span) = (text(TRACE_ID), text(SPAN_ID));
        let (sampled, flags) = (text(SAMPLED), text(FLAGS));
        let several = trace.or(span).or(sampled).or(flags).is_some();
        let mut b3 = Self {
            single: single.is_some(),
            several,
            ..Self::default()
        };
        // The one header goes first, as its specification has it.
        let read = match single {
            Some(value) => b3.read_single(value.to_str().unwrap_or("?")),
            None if several => b3.read_several(trace.zip(span), trace.xor(span), sampled, flags),
            None => return None,
        };
        if read.is_none() {
            b3.malformed = true;
            b3.context = None;
        }
        Some(b3)
    }

    fn read_single(&mut self, text: &str) -> Option<()> {
        let parts: Vec<&str> = text.split('-').collect();
        match parts.as_slice() {
            [state] => self.decide(state),
            [trace, span] => self.place(trace, span),
            [trace, span, state] => self.place(trace, span).and_then(|()| self.decide(state)),
            [trace, span, state, parent] => {
                lower_hex::<8>(&parent.to_ascii_lowercase())?;
                self.place(trace, span).and_then(|()| self.decide(state))
            }
            _ => None,
        }
    }

    fn read_several(
        &mut self,
        ids: Option<(&str, &str)>,
        half: Option<&str>,
        sampled: Option<&str>,
        flags: Option<&str>,
    ) -> Option<()> {
        if let Some((trace, span)) = ids {
            self.place(trace, span)?;
        }
        if let Some(sampled) = sampled {
            // Old programs write words.
            self.sampled = Some(match sampled {
                "1" | "true" => true,
                "0" | "false" => false,
                _ => return None,
            });
        }
        if flags == Some("1") {
            self.decide("d")?;
        }
        half.is_none().then_some(())
    }

    fn place(&mut self, trace: &str, span: &str) -> Option<()> {
        let trace = trace.to_ascii_lowercase();
        // Half as long is the lower half.
        let whole = match trace.len() {
            16 => format!("{trace:0>32}"),
            _ => trace,
        };
        self.context = Some(Context {
            trace: TraceId::new(lower_hex(&whole)?)?,
            span: SpanId::new(lower_hex(&span.to_ascii_lowercase())?)?,
            flags: 0,
        });
        Some(())
    }

    fn decide(&mut self, state: &str) -> Option<()> {
        let sampled = match state {
            "1" | "d" => true,
            "0" => false,
            _ => return None,
        };
        self.debug = state == "d";
        self.sampled = Some(sampled);
        Some(())
    }

    /// Tells the next hop in the form, or forms, in which it came.
    pub(super) fn write(&self, headers: &mut HeaderMap, context: Context, parent: Option<SpanId>) {
        let (trace, span) = (short(context.trace), context.span.hex());
        let state = match (context.is_sampled(), self.debug) {
            (true, true) => "d",
            (true, false) => "1",
            (false, _) => "0",
        };
        let parent = parent.map(|parent| parent.hex());
        let mut insert = |name, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        if self.single {
            let before = parent.iter().map(|parent| format!("-{parent}"));
            let before: String = before.collect();
            insert(B3_HEADER, format!("{trace}-{span}-{state}{before}"));
        }
        if !self.several {
            return;
        }
        insert(TRACE_ID, trace);
        insert(SPAN_ID, span);
        if state == "d" {
            insert(FLAGS, "1".to_owned());
        } else {
            insert(SAMPLED, state.to_owned());
        }
        match parent {
            Some(parent) => insert(PARENT_ID, parent),
            None => drop(headers.remove(PARENT_ID)),
        }
    }
}

/// Half as long where the upper half is empty: who wrote it so may not read it otherwise.
fn short(trace: TraceId) -> String {
    match trace.bytes() {
        [0, 0, 0, 0, 0, 0, 0, 0, lower @ ..] => hex(&lower),
        whole => hex(&whole),
    }
}
