//! W3C trace context (<https://www.w3.org/TR/trace-context/>). The gateway continues a client's trace with its own span,
//! and starts a trace when the client has none, so that the logs of both sides can be correlated.
//!
//! A `traceparent` that is repeated or malformed is ignored and replaced, and its `tracestate` is removed.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::hex;
use crate::request::known_headers::{KnownHeader, KnownHeaders};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The length of a `traceparent` of version 00: `00-<32 hex>-<16 hex>-<2 hex>`.
const TRACEPARENT_LEN: usize = 55;
/// The length of `tracestate` that tracers must propagate. A longer one is propagated but not exported.
const MAX_TRACESTATE_LEN: usize = 512;
const TRACE_ID_RANGE: std::ops::Range<usize> = 3..35;
const SPAN_ID_RANGE: std::ops::Range<usize> = 36..52;
const FLAGS_RANGE: std::ops::Range<usize> = 53..55;

/// The `traceparent` that the gateway sends to the backend. It identifies the gateway's own span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    text: [u8; TRACEPARENT_LEN],
    /// True if the trace is the client's, so that its `tracestate` is propagated.
    continues_trace: bool,
    /// True if the request has a `tracestate`.
    has_state: bool,
}

impl TraceParent {
    /// Creates the span of a request. `id` is random and provides the id of the span and of a new trace.
    pub fn new(headers: &HeaderMap, known_headers: KnownHeaders, id: u128) -> Self {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
        let parent = if known_headers.contains(KnownHeader::TraceParent) { parse_traceparent(headers) } else { None };
        match parent {
            Some(parent) => {
                copy_into(&mut text, TRACE_ID_RANGE, parent.get(TRACE_ID_RANGE));
                copy_into(&mut text, FLAGS_RANGE, parent.get(FLAGS_RANGE));
            }
            // sampled, which is the default of a backend that starts a trace by itself
            None => copy_into(&mut text, TRACE_ID_RANGE, Some(&hex::encode_u128(id.max(1)))),
        }
        // mixed, so that the span's id is not a part of the trace's id
        let span = (id >> 64) as u64 ^ (id as u64).rotate_left(32);
        copy_into(&mut text, SPAN_ID_RANGE, Some(&hex::encode_u64(span.max(1))));
        Self { text, continues_trace: parent.is_some(), has_state: known_headers.contains(KnownHeader::TraceState) }
    }

    /// Creates the span of a request with a sampling decision: the client's, or that of `sample` for a new trace. Returns
    /// the client's span and `tracestate` as well when the trace is the client's.
    pub fn with_sampling(
        headers: &HeaderMap,
        known_headers: KnownHeaders,
        id: u128,
        sample: impl FnOnce(u128) -> bool,
    ) -> (Self, Option<ParentSpan>) {
        let mut span = Self::new(headers, known_headers, id);
        let Some(parent) = parse_traceparent(headers) else {
            if !sample(parse_hex(span.trace_id())) {
                copy_into(&mut span.text, FLAGS_RANGE, Some(b"00"));
            }
            return (span, None);
        };
        let id = parent.get(SPAN_ID_RANGE).map_or(0, parse_hex);
        let states = headers.get_all(TRACESTATE).iter().filter_map(|state| state.to_str().ok());
        let state = Some(states.collect::<Vec<_>>().join(",")).filter(|state| state.len() <= MAX_TRACESTATE_LEN);
        (span, Some(ParentSpan { span_id: id as u64, trace_state: state.unwrap_or_default() }))
    }

    /// Returns whether the trace is sampled, that is, exported by tracers that export.
    pub fn is_sampled(&self) -> bool {
        parse_hex(self.part(FLAGS_RANGE)) & 1 == 1
    }

    /// Returns the ids of the trace and of the span as numbers.
    pub fn ids(&self) -> (u128, u64) {
        (parse_hex(self.trace_id()), parse_hex(self.span_id()) as u64)
    }

    /// Writes the headers for the backend.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        if self.has_state && !self.continues_trace {
            headers.remove(TRACESTATE);
        }
        if let Ok(value) = HeaderValue::from_bytes(&self.text) {
            headers.insert(TRACEPARENT, value);
        }
    }

    /// Returns the id of the trace: 32 hexadecimal digits.
    pub fn trace_id(&self) -> &[u8] {
        self.part(TRACE_ID_RANGE)
    }

    /// Returns the id of the gateway's span: 16 hexadecimal digits.
    pub fn span_id(&self) -> &[u8] {
        self.part(SPAN_ID_RANGE)
    }

    fn part(&self, range: std::ops::Range<usize>) -> &[u8] {
        self.text.get(range).unwrap_or_default()
    }
}

/// The client's span, as reported in the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentSpan {
    /// The id of the span.
    pub span_id: u64,
    /// The `tracestate`, empty if it is absent or too long.
    pub trace_state: String,
}

fn parse_hex(hex: &[u8]) -> u128 {
    std::str::from_utf8(hex).ok().and_then(|hex| u128::from_str_radix(hex, 16).ok()).unwrap_or_default()
}

/// Returns the `traceparent` of a request if there is exactly one and it is valid.
fn parse_traceparent(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let (first, None) = (all.next()?.as_bytes(), all.next()) else { return None };
    let (version, rest) = first.split_at_checked(2)?;
    let length_ok = first.len() == TRACEPARENT_LEN || (version != b"00" && first.get(TRACEPARENT_LEN) == Some(&b'-'));
    let digits = |range: std::ops::Range<usize>| first.get(range).filter(|part| part.iter().all(is_lower_hex));
    let (trace, span) = (digits(TRACE_ID_RANGE)?, digits(SPAN_ID_RANGE)?);
    digits(FLAGS_RANGE)?;
    let dashes = [2, 35, 52].iter().all(|at| first.get(*at) == Some(&b'-'));
    let zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    let is_valid = length_ok && dashes && !rest.is_empty() && version.iter().all(is_lower_hex) && version != b"ff";
    (is_valid && !zero(trace) && !zero(span)).then_some(first)
}

fn is_lower_hex(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn copy_into(text: &mut [u8; TRACEPARENT_LEN], range: std::ops::Range<usize>, from: Option<&[u8]>) {
    if let (Some(to), Some(from)) = (text.get_mut(range), from) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn trace_parent(headers: &HeaderMap, id: u128) -> TraceParent {
        TraceParent::new(headers, KnownHeaders::from_headers(headers), id)
    }

    fn text(part: &[u8]) -> &str {
        std::str::from_utf8(part).unwrap()
    }

    const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_valid_trace_is_continued_with_a_new_span() {
        for (header, continues) in [
            (format!("00-{TRACE_ID}-b7ad6b7169203331-01"), true),
            (format!("00-{TRACE_ID}-b7ad6b7169203331-00"), true),
            (format!("cc-{TRACE_ID}-b7ad6b7169203331-01"), true),
            (format!("cc-{TRACE_ID}-b7ad6b7169203331-01-what-the-future-brings"), true),
            (format!("cc-{TRACE_ID}-b7ad6b7169203331-01.x"), false),
            (format!("00-{TRACE_ID}-b7ad6b7169203331-01-x"), false),
            (format!("ff-{TRACE_ID}-b7ad6b7169203331-01"), false),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), false),
            (format!("00-{TRACE_ID}-0000000000000000-01"), false),
            (format!("00-{}-b7ad6b7169203331-01", TRACE_ID.to_uppercase()), false),
            (format!("00-{TRACE_ID}-b7ad6b7169203331"), false),
            (format!("00-{TRACE_ID}_b7ad6b7169203331-01"), false),
            ("00".to_owned(), false),
            (String::new(), false),
        ] {
            let mut map = headers(&[("traceparent", &header), ("tracestate", "a=b")]);
            let span = trace_parent(&map, 7 << 64 | 9);
            span.write_headers(&mut map);
            let sent = map["traceparent"].to_str().unwrap();
            assert_eq!(text(span.trace_id()) == TRACE_ID, continues, "{header}");
            assert_eq!(map.contains_key("tracestate"), continues, "{header}");
            assert_eq!(sent, format!("00-{}-{}-{}", text(span.trace_id()), text(span.span_id()), &sent[53..]));
            assert_ne!(text(span.span_id()), "b7ad6b7169203331");
            assert_eq!(&sent[53..], if continues { &header[53..55] } else { "01" });
        }
    }

    #[test]
    fn a_missing_or_repeated_traceparent_starts_a_new_trace() {
        let traceparent = format!("00-{TRACE_ID}-b7ad6b7169203331-01");
        for lines in [&[][..], &[("traceparent", traceparent.as_str()), ("traceparent", &traceparent)]] {
            let mut map = headers(lines);
            let span = trace_parent(&map, u128::MAX - 5);
            assert_ne!(text(span.trace_id()), TRACE_ID);
            span.write_headers(&mut map);
            assert_eq!(map.get_all("traceparent").iter().count(), 1);
            assert_eq!(parse_traceparent(&map).unwrap().len(), TRACEPARENT_LEN);
        }
        let zero_id = trace_parent(&HeaderMap::new(), 0);
        assert!(zero_id.trace_id().ends_with(b"01") && zero_id.span_id().ends_with(b"01"), "never all zeros");
    }
}
