//! The cases of h2spec, a conformance suite for RFC 9113 and RFC 7541, with frames built here. Each case has its section and
//! number in h2spec. With `PORTCULLIS_VECTORS` set, the list of its cases is compared, so that none is missing.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::{Backend, InProcessGateway, ScriptedResponse, TEST_TIMEOUT};

/// The expected outcome of a case.
#[derive(Debug, Clone, Copy)]
enum Expect {
    /// The request on stream 1 gets a response with status 200.
    Served,
    /// The connection stays open.
    Alive,
    /// The connection stays open or is closed without an error.
    AliveOrClosed,
    /// The stream or the connection ends with one of these codes, or the connection is closed.
    StreamError(&'static [u32]),
    /// The connection ends, with one of these codes if it sends GOAWAY.
    ConnectionError(&'static [u32]),
    /// The settings are acknowledged.
    Acknowledged,
    /// The last DATA frame so far has one byte, since the window does not allow more.
    OneByte,
}

use Expect::{Acknowledged, Alive, AliveOrClosed, ConnectionError, OneByte, Served, StreamError};

/// The time at which the rest of a case is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SendRest {
    Immediately,
    /// After the end of the response on stream 1.
    AfterResponse,
    /// After the first DATA frame of a response.
    AfterFirstChunk,
}

struct Case {
    id: &'static str,
    first: Vec<u8>,
    when: SendRest,
    rest: Vec<u8>,
    expect: Expect,
}

fn case(id: &'static str, frames: &[Vec<u8>], expect: Expect) -> Case {
    Case { id, first: frames.concat(), when: SendRest::Immediately, rest: Vec::new(), expect }
}

fn case_with_rest(id: &'static str, first: &[Vec<u8>], when: SendRest, rest: &[Vec<u8>], expect: Expect) -> Case {
    Case { id, first: first.concat(), when, rest: rest.concat(), expect }
}

const PROTOCOL: &[u32] = &[1];
const FLOW: &[u32] = &[3];
const CLOSED: &[u32] = &[5];
const SIZE: &[u32] = &[6];
const COMPRESSION: &[u32] = &[9];

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
const ALL: u8 = END_STREAM | END_HEADERS;

/// `GET http://a/` and `POST http://a/`: entries of the static table and a literal.
const GET: &[u8] = &[0x82, 0x84, 0x86, 0x41, 1, b'a'];
const POST: &[u8] = &[0x83, 0x84, 0x86, 0x41, 1, b'a'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn data(flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(0, flags, stream, payload)
}

fn headers(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    frame(1, flags, stream, block)
}

fn priority(stream: u32, dependency: u32, weight: u8) -> Vec<u8> {
    frame(2, 0, stream, &[&dependency.to_be_bytes()[..], &[weight]].concat())
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(3, 0, stream, &code.to_be_bytes())
}

fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        pairs.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(4, 0, 0, &payload)
}

fn ping(flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(6, flags, stream, payload)
}

fn goaway(stream: u32, code: u32) -> Vec<u8> {
    frame(7, 0, stream, &[&[0; 4][..], &code.to_be_bytes()].concat())
}

fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(8, 0, stream, &increment.to_be_bytes())
}

fn continuation(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    frame(9, flags, stream, block)
}

/// Encodes a header field without indexing.
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// Encodes a GET with this block after its usual fields.
fn get_with(block: &[u8]) -> Vec<Vec<u8>> {
    vec![headers(ALL, 1, &[GET, block].concat())]
}

/// Encodes a GET of only these fields.
fn get_from(fields: &[&[u8]]) -> Vec<Vec<u8>> {
    vec![headers(ALL, 1, &fields.concat())]
}

fn generic() -> Vec<Case> {
    const AGENT: u8 = 43; // after a prefix of four bits: `user-agent`, entry 58
    let huffman_value: &[u8] = &[0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
    let huffman_pair: &[u8] = &[
        0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 0x89, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4,
        0xbf,
    ];
    let pair: &[u8] = &[3, b'x', b'-', b'a', 1, b'1'];
    let get = || headers(ALL, 1, GET);
    let post = || headers(END_HEADERS, 1, POST);
    let hpack = |first: &[u8], rest: &[u8]| get_with(&[first, rest].concat());
    vec![
        case("generic/1/1", &[], Alive),
        case("generic/2/1", &[priority(1, 0, 255), get()], Served),
        case("generic/2/2", &[get(), window_update(1, 1)], Served),
        case("generic/2/3", &[get(), priority(1, 0, 255)], Served),
        case("generic/2/4", &[get(), reset(1, 8)], Alive),
        case_with_rest("generic/2/5", &[get()], SendRest::AfterResponse, &[priority(1, 0, 255)], Alive),
        case("generic/3.1/1", &[post(), data(END_STREAM, 1, b"test")], Served),
        case("generic/3.1/2", &[post(), data(0, 1, b"test"), data(END_STREAM, 1, b"test")], Served),
        case("generic/3.1/3", &[post(), data(END_STREAM | PADDED, 1, b"\x03test\0\0\0")], Served),
        case("generic/3.2/1", &[get()], Served),
        case("generic/3.2/2", &[headers(ALL | PADDED, 1, &[&[2], GET, &[0, 0]].concat())], Served),
        case("generic/3.2/3", &[headers(ALL | PRIORITY, 1, &[&[0, 0, 0, 0, 15], GET].concat())], Served),
        case("generic/3.3/1", &[priority(1, 0, 0), get()], Served),
        case("generic/3.3/2", &[priority(1, 0, 255), get()], Served),
        case("generic/3.3/3", &[priority(1, 3, 15), get()], Served),
        case("generic/3.3/4", &[priority(1, 1 << 31 | 3, 15), get()], Served),
        case("generic/3.3/5", &[priority(3, 0, 15), get()], Served),
        case("generic/3.4/1", &[post(), reset(1, 8)], Alive),
        case("generic/3.5/1", &[settings(&[(3, 100)])], Acknowledged),
        case("generic/3.7/1", &[ping(0, 0, &[7; 8])], Alive),
        case("generic/3.8/1", &[goaway(0, 0)], AliveOrClosed),
        case("generic/3.9/1", &[window_update(0, 1), get()], Served),
        case("generic/3.9/2", &[get(), window_update(1, 1)], Served),
        case("generic/3.10/1", &[headers(END_STREAM, 1, GET), continuation(END_HEADERS, 1, &field("x", "y"))], Served),
        case(
            "generic/3.10/2",
            &[
                headers(END_STREAM, 1, GET),
                continuation(0, 1, &field("x", "y")),
                continuation(END_HEADERS, 1, &field("x", "z")),
            ],
            Served,
        ),
        case("generic/4/1", &[get()], Served),
        case("generic/4/2", &get_from(&[&[2, 4], b"HEAD", &GET[1..]]), Served),
        case("generic/4/3", &[post(), data(END_STREAM, 1, b"test")], Served),
        case("generic/4/4", &[post(), data(0, 1, b"test"), headers(ALL, 1, &field("x", "y"))], Served),
        case("generic/5/1", &[get()], Served),
        case("generic/5/2", &hpack(&[0x7a], b"\x01a"), Served),
        case("generic/5/3", &hpack(&[0x7a], huffman_value), Served),
        case("generic/5/4", &hpack(&[0x40], pair), Served),
        case("generic/5/5", &hpack(&[0x40], huffman_pair), Served),
        case("generic/5/6", &hpack(&[0x0f, AGENT], b"\x01a"), Served),
        case("generic/5/7", &hpack(&[0x0f, AGENT], huffman_value), Served),
        case("generic/5/8", &hpack(&[0], pair), Served),
        case("generic/5/9", &hpack(&[0], huffman_pair), Served),
        case("generic/5/10", &hpack(&[0x1f, AGENT], b"\x01a"), Served),
        case("generic/5/11", &hpack(&[0x1f, AGENT], huffman_value), Served),
        case("generic/5/12", &hpack(&[0x10], pair), Served),
        case("generic/5/13", &hpack(&[0x10], huffman_pair), Served),
        case("generic/5/14", &get_from(&[&[0x3f, 0x61], GET]), Served),
        case("generic/5/15", &get_from(&[&[0x3f, 0x61, 0x3f, 0xe1, 0x1f], GET]), Served),
    ]
}

fn frames_and_streams() -> Vec<Case> {
    let get = || headers(ALL, 1, GET);
    let post = || headers(END_HEADERS, 1, POST);
    let open_headers = || headers(END_STREAM, 1, GET); // without END_HEADERS
    let x = || field("x", "y");
    let large = |length: usize| field("x", "y").repeat(length / 5 + 1);
    vec![
        case("http2/3.5/1", &[], Alive),
        case("http2/4.1/1", &[frame(0x16, 0, 0, &[0; 8])], Alive),
        case("http2/4.1/2", &[ping(0x16, 0, &[7; 8])], Alive),
        case("http2/4.1/3", &[ping(0, 1 << 31, &[7; 8])], Alive),
        case("http2/4.2/1", &[post(), data(END_STREAM, 1, &[0; 16384])], Served),
        case("http2/4.2/2", &[post(), data(END_STREAM, 1, &[0; 16385])], StreamError(SIZE)),
        case("http2/4.2/3", &get_with(&large(16385)), ConnectionError(SIZE)),
        case("http2/4.3/1", &get_with(&[0xff; 12]), ConnectionError(COMPRESSION)),
        case("http2/4.3/2", &[open_headers(), priority(1, 0, 255)], ConnectionError(PROTOCOL)),
        case("http2/4.3/3", &[open_headers(), headers(ALL, 3, GET)], ConnectionError(PROTOCOL)),
        case("http2/5.1/1", &[data(END_STREAM, 1, b"test")], ConnectionError(&[1, 5])),
        case("http2/5.1/2", &[reset(1, 8)], ConnectionError(PROTOCOL)),
        case("http2/5.1/3", &[window_update(1, 100)], ConnectionError(PROTOCOL)),
        case("http2/5.1/4", &[continuation(END_HEADERS, 1, &x())], ConnectionError(PROTOCOL)),
        case("http2/5.1/5", &[get(), data(END_STREAM, 1, b"test")], StreamError(CLOSED)),
        case("http2/5.1/6", &[get(), get()], StreamError(CLOSED)),
        case("http2/5.1/7", &[get(), continuation(END_HEADERS, 1, &x())], ConnectionError(PROTOCOL)),
        case("http2/5.1/8", &[post(), reset(1, 8), data(END_STREAM, 1, b"test")], StreamError(CLOSED)),
        case("http2/5.1/9", &[post(), reset(1, 8), get()], StreamError(CLOSED)),
        case("http2/5.1/10", &[post(), reset(1, 8), continuation(END_HEADERS, 1, &x())], ConnectionError(&[1, 5])),
        case_with_rest(
            "http2/5.1/11",
            &[get()],
            SendRest::AfterResponse,
            &[data(END_STREAM, 1, b"test")],
            StreamError(CLOSED),
        ),
        case_with_rest("http2/5.1/12", &[get()], SendRest::AfterResponse, &[get()], StreamError(CLOSED)),
        case_with_rest(
            "http2/5.1/13",
            &[get()],
            SendRest::AfterResponse,
            &[continuation(END_HEADERS, 1, &x())],
            ConnectionError(PROTOCOL),
        ),
        case("http2/5.1.1/1", &[headers(ALL, 2, GET)], ConnectionError(PROTOCOL)),
        case("http2/5.1.1/2", &[headers(ALL, 5, GET), headers(ALL, 3, GET)], ConnectionError(PROTOCOL)),
        case(
            "http2/5.1.2/1",
            &(0..110).map(|n| headers(END_HEADERS, 2 * n + 1, POST)).collect::<Vec<_>>(),
            StreamError(&[1, 7]),
        ),
        case("http2/5.3.1/1", &[headers(ALL | PRIORITY, 1, &[&[0, 0, 0, 1, 15], GET].concat())], StreamError(PROTOCOL)),
        case("http2/5.3.1/2", &[priority(1, 1, 15)], StreamError(PROTOCOL)),
        case("http2/5.4.1/1", &[ping(0, 3, &[7; 8])], ConnectionError(PROTOCOL)),
        case("http2/5.5/1", &[frame(0xfe, 0, 0, &[0; 3])], Alive),
        case("http2/5.5/2", &[open_headers(), frame(0xfe, 0, 0, &[0; 3])], ConnectionError(PROTOCOL)),
        case("http2/6.1/1", &[data(END_STREAM, 0, b"test")], ConnectionError(PROTOCOL)),
        case("http2/6.1/2", &[get(), data(END_STREAM, 1, b"test")], StreamError(CLOSED)),
        case("http2/6.1/3", &[post(), data(END_STREAM | PADDED, 1, b"\x06test")], ConnectionError(PROTOCOL)),
        case("http2/6.2/1", &[open_headers(), priority(1, 0, 255)], ConnectionError(PROTOCOL)),
        case("http2/6.2/2", &[open_headers(), headers(ALL, 3, GET)], ConnectionError(PROTOCOL)),
        case("http2/6.2/3", &[headers(ALL, 0, GET)], ConnectionError(PROTOCOL)),
        case("http2/6.2/4", &[headers(ALL | PADDED, 1, &[&[7], GET].concat())], ConnectionError(PROTOCOL)),
        case("http2/6.3/1", &[priority(0, 1, 255)], ConnectionError(PROTOCOL)),
        case("http2/6.3/2", &[frame(2, 0, 1, &[0; 4])], StreamError(SIZE)),
        case("http2/6.4/1", &[reset(0, 8)], ConnectionError(PROTOCOL)),
        case("http2/6.4/2", &[reset(1, 8)], ConnectionError(PROTOCOL)),
        case("http2/6.4/3", &[post(), frame(3, 0, 1, &[0; 3])], ConnectionError(SIZE)),
    ]
}

fn settings_and_windows() -> Vec<Case> {
    let get = || headers(ALL, 1, GET);
    let post = || headers(END_HEADERS, 1, POST);
    let open_headers = || headers(END_STREAM, 1, GET);
    let x = || field("x", "y");
    const MAX_INCREMENT: u32 = (1 << 31) - 1;
    vec![
        case("http2/6.5/1", &[frame(4, 1, 0, &[0; 6])], ConnectionError(SIZE)),
        case("http2/6.5/2", &[frame(4, 0, 1, &[0, 3, 0, 0, 0, 100])], ConnectionError(PROTOCOL)),
        case("http2/6.5/3", &[frame(4, 0, 0, &[0; 3])], ConnectionError(SIZE)),
        case("http2/6.5.2/1", &[settings(&[(2, 2)])], ConnectionError(PROTOCOL)),
        case("http2/6.5.2/2", &[settings(&[(4, 1 << 31)])], ConnectionError(FLOW)),
        case("http2/6.5.2/3", &[settings(&[(5, 16383)])], ConnectionError(PROTOCOL)),
        case("http2/6.5.2/4", &[settings(&[(5, 1 << 24)])], ConnectionError(PROTOCOL)),
        case("http2/6.5.2/5", &[settings(&[(0xff, 1)])], Alive),
        case("http2/6.5.3/1", &[settings(&[(4, 100), (4, 1)]), get()], OneByte),
        case("http2/6.5.3/2", &[settings(&[])], Acknowledged),
        case("http2/6.7/1", &[ping(0, 0, &[7; 8])], Alive),
        case("http2/6.7/2", &[ping(1, 0, &[7; 8])], Alive),
        case("http2/6.7/3", &[ping(0, 1, &[7; 8])], ConnectionError(PROTOCOL)),
        case("http2/6.7/4", &[ping(0, 0, &[7; 6])], ConnectionError(SIZE)),
        case("http2/6.8/1", &[goaway(1, 0)], ConnectionError(PROTOCOL)),
        case("http2/6.9/1", &[window_update(0, 0)], ConnectionError(PROTOCOL)),
        case("http2/6.9/2", &[post(), window_update(1, 0)], StreamError(PROTOCOL)),
        case("http2/6.9/3", &[frame(8, 0, 0, &[0; 3])], ConnectionError(SIZE)),
        case("http2/6.9.1/1", &[settings(&[(4, 1)]), get()], OneByte),
        case(
            "http2/6.9.1/2",
            &[window_update(0, MAX_INCREMENT), window_update(0, MAX_INCREMENT)],
            ConnectionError(FLOW),
        ),
        case(
            "http2/6.9.1/3",
            &[post(), window_update(1, MAX_INCREMENT), window_update(1, MAX_INCREMENT)],
            StreamError(FLOW),
        ),
        case("http2/6.9.2/1", &[settings(&[(4, 0)]), get(), settings(&[(4, 1)])], OneByte),
        case_with_rest(
            "http2/6.9.2/2",
            &[settings(&[(4, 3)]), get()],
            SendRest::AfterFirstChunk,
            &[settings(&[(4, 2)]), window_update(1, 2)],
            OneByte,
        ),
        case("http2/6.9.2/3", &[settings(&[(4, 1 << 31)])], ConnectionError(FLOW)),
        case("http2/6.10/1", &[open_headers(), continuation(0, 1, &x()), continuation(END_HEADERS, 1, &x())], Served),
        case(
            "http2/6.10/2",
            &[open_headers(), continuation(0, 1, &x()), data(END_STREAM, 1, b"test")],
            ConnectionError(PROTOCOL),
        ),
        case("http2/6.10/3", &[open_headers(), continuation(END_HEADERS, 0, &x())], ConnectionError(PROTOCOL)),
        case("http2/6.10/4", &[get(), continuation(END_HEADERS, 1, &x())], ConnectionError(PROTOCOL)),
        case(
            "http2/6.10/5",
            &[open_headers(), continuation(END_HEADERS, 1, &x()), continuation(0, 1, &x())],
            ConnectionError(PROTOCOL),
        ),
        case(
            "http2/6.10/6",
            &[post(), data(0, 1, b"test"), continuation(END_HEADERS, 1, &x())],
            ConnectionError(PROTOCOL),
        ),
        case("http2/7/1", &[goaway(0, 0xff)], AliveOrClosed),
        case("http2/7/2", &[post(), reset(1, 0xff)], Alive),
    ]
}

fn messages() -> Vec<Case> {
    let post = || headers(END_HEADERS, 1, POST);
    let sized = |length: &str| headers(END_HEADERS, 1, &[POST, &field("content-length", length)].concat());
    let (method, path, scheme, authority) = (&GET[..1], &GET[1..2], &GET[2..3], &GET[3..]);
    let bad = StreamError(PROTOCOL);
    vec![
        case("http2/8.1/1", &[post(), data(0, 1, b"test"), headers(END_HEADERS, 1, &field("x", "y"))], bad),
        case("http2/8.1.2/1", &get_with(&field("X-Test", "y")), bad),
        case("http2/8.1.2.1/1", &get_with(&field(":test", "y")), bad),
        case("http2/8.1.2.1/2", &get_with(&field(":status", "200")), bad),
        case("http2/8.1.2.1/4", &get_from(&[method, scheme, authority, &field("x", "y"), path]), bad),
        case("http2/8.1.2.2/1", &get_with(&field("connection", "keep-alive")), bad),
        case("http2/8.1.2.2/2", &get_with(&field("te", "trailers, deflate")), bad),
        case("http2/8.1.2.3/1", &get_from(&[method, scheme, authority, &field(":path", "")]), bad),
        case("http2/8.1.2.3/2", &get_from(&[scheme, path, authority]), bad),
        case("http2/8.1.2.3/3", &get_from(&[method, path, authority]), bad),
        case("http2/8.1.2.3/4", &get_from(&[method, scheme, authority]), bad),
        case("http2/8.1.2.3/5", &get_from(&[method, method, scheme, path, authority]), bad),
        case("http2/8.1.2.3/6", &get_from(&[method, scheme, scheme, path, authority]), bad),
        case("http2/8.1.2.3/7", &get_from(&[method, scheme, path, path, authority]), bad),
        case("http2/8.1.2.6/1", &[sized("1"), data(END_STREAM, 1, b"test")], bad),
        case("http2/8.1.2.6/2", &[sized("1"), data(0, 1, b"test"), data(END_STREAM, 1, b"test")], bad),
        case("http2/8.2/1", &[frame(5, END_HEADERS, 1, &[&[0, 0, 0, 2], GET].concat())], ConnectionError(PROTOCOL)),
    ]
}

fn compression() -> Vec<Case> {
    let broken = ConnectionError(COMPRESSION);
    // `x-test`, with a value that is invalid by RFC 7541 §5.2
    let huffman = |value: &[u8]| get_with(&[&[0, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff], value].concat());
    vec![
        case("hpack/2.3.3/1", &get_with(&[0xc6]), broken),
        case("hpack/2.3.3/2", &get_with(&[0x7f, 0x07, 1, b'a']), broken),
        case("hpack/4.2/1", &get_with(&[0x3f, 0x61]), broken),
        case("hpack/5.2/1", &huffman(&[0x84, 0x49, 0x50, 0x9f, 0xff]), broken),
        case("hpack/5.2/2", &huffman(&[0x83, 0x49, 0x50, 0x90]), broken),
        case("hpack/5.2/3", &huffman(&[0x84, 0xff, 0xff, 0xff, 0xff]), broken),
        case("hpack/6.1/1", &get_with(&[0x80]), broken),
        case("hpack/6.3/1", &get_from(&[&[0x3f, 0xe2, 0x1f], GET]), broken),
    ]
}

/// Cases with separate tests, and deliberate differences.
const COVERED_ELSEWHERE: [(&str, &str); 2] = [
    (
        "http2/3.5/2",
        "a connection without the preface is treated as HTTP/1: `connection_without_a_valid_preface_is_closed`",
    ),
    ("http2/8.1.2.1/3", "pseudo-header fields in trailers are dropped: `pseudo_header_fields_in_trailers_are_dropped`"),
];

/// The outcome of a case, as far as it matters.
#[derive(Debug, Default)]
struct Outcome {
    statuses: Vec<u8>,
    chunks: Vec<usize>,
    completed: bool,
    acknowledged: usize,
    pong: bool,
    reset: Option<u32>,
    goaway: Option<u32>,
    closed: bool,
}

const PING: [u8; 8] = *b"are you?";

fn run_case(address: SocketAddr, case: &Case) -> Outcome {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut outcome = Outcome::default();
    let opening = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings(&[])[..], &case.first].concat();
    let _ = stream.write_all(&opening);
    // a PING at the end tests whether the connection is still open
    let mut pinged = case.when == SendRest::Immediately && !matches!(case.expect, Served | OneByte);
    if pinged {
        let _ = stream.write_all(&ping(0, 0, &PING));
    }
    let mut rest = (case.when != SendRest::Immediately).then_some(&case.rest);
    loop {
        if rest.is_some()
            && (if case.when == SendRest::AfterFirstChunk { !outcome.chunks.is_empty() } else { outcome.completed })
        {
            let _ = stream.write_all(rest.take().unwrap());
        }
        let served = outcome.completed || !matches!(case.expect, Served);
        let pieces = usize::from(case.when == SendRest::AfterFirstChunk) + 1;
        if !pinged && rest.is_none() && served && (!matches!(case.expect, OneByte) || outcome.chunks.len() >= pieces) {
            pinged = true;
            let _ = stream.write_all(&ping(0, 0, &PING));
        }
        let mut head = [0; 9];
        if reader.read_exact(&mut head).is_err() {
            outcome.closed = true;
            return outcome;
        }
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        if reader.read_exact(&mut payload).is_err() {
            outcome.closed = true;
            return outcome;
        }
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match (head[3], head[4]) {
            (0, flags) => {
                outcome.chunks.push(length);
                outcome.completed |= flags & END_STREAM != 0;
            }
            (1, flags) => {
                outcome.statuses.push(payload[0]);
                outcome.completed |= flags & END_STREAM != 0;
            }
            (3, _) => outcome.reset = Some(code(0)),
            (4, 1) => outcome.acknowledged += 1,
            (6, 1) if payload == PING => outcome.pong = true,
            (7, _) => outcome.goaway = Some(code(4)),
            _ => {}
        }
        // the end of a stream may arrive after the PING response
        let waits = matches!(case.expect, StreamError(_)) && outcome.reset.is_none() && outcome.goaway.is_none();
        if outcome.pong && !waits && !matches!(case.expect, ConnectionError(_)) {
            return outcome;
        }
    }
}

/// Returns whether the outcome is expected. The library reports most connection errors with the most general code,
/// PROTOCOL_ERROR, which h2spec accepts too.
fn meets_expectation(expect: Expect, outcome: &Outcome) -> bool {
    let named = |codes: &[u32], code: u32| codes.contains(&code) || PROTOCOL == [code];
    let no_error = outcome.goaway.is_none_or(|code| code == 0);
    match expect {
        Served => outcome.statuses == [0x88] && outcome.completed && outcome.pong && no_error,
        Alive => outcome.pong && no_error,
        AliveOrClosed => (outcome.pong || outcome.closed) && no_error,
        Acknowledged => outcome.acknowledged == 2 && no_error,
        OneByte => outcome.chunks.last() == Some(&1) && no_error,
        StreamError(codes) => match (outcome.reset, outcome.goaway) {
            (Some(code), _) => codes.contains(&code),
            (None, Some(code)) => outcome.closed && named(codes, code),
            (None, None) => outcome.closed,
        },
        ConnectionError(codes) => outcome.closed && outcome.goaway.is_none_or(|code| named(codes, code)),
    }
}

fn gateway(backend: &Backend) -> InProcessGateway {
    InProcessGateway::start(&format!(
        "binds: [{{port: 0, listeners: [{{routes: [{{backends: [{{host: '{}'}}]}}]}}]}}]",
        backend.address()
    ))
}

fn all_cases() -> Vec<Case> {
    [generic(), frames_and_streams(), settings_and_windows(), messages(), compression()].into_iter().flatten().collect()
}

#[test]
fn http2_conforms_to_h2spec() {
    let backend = Backend::start(|_| ScriptedResponse::new(200, &[], "0123456789"));
    let gateway = gateway(&backend);
    let cases = all_cases();
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let outcome = run_case(gateway.address(), case);
            (!meets_expectation(case.expect, &outcome))
                .then(|| format!("{}: not {:?} but {outcome:?}", case.id, case.expect))
        })
        .collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
#[ignore = "needs PORTCULLIS_VECTORS"]
fn h2spec_vectors_list_is_fully_covered() {
    let cases = all_cases();
    let mut covered: Vec<&str> =
        cases.iter().map(|case| case.id).chain(COVERED_ELSEWHERE.iter().map(|(id, _)| *id)).collect();
    covered.sort_unstable();
    let list = std::fs::read_to_string(crate::support::vectors().join("h2spec/cases.txt")).expect("the list of cases");
    let mut listed = case_ids(&list);
    listed.sort_unstable();
    assert_eq!(covered, listed);
}

/// Parses the list of cases: part, section and number.
fn case_ids(list: &str) -> Vec<String> {
    let (mut part, mut section, mut ids) = ("", "", Vec::new());
    for line in list.lines() {
        let text = line.trim();
        match text.split_once(' ') {
            Some(("Generic", _)) if text == line => part = "generic",
            Some(("Hypertext", _)) if text == line => part = "http2",
            Some(("HPACK:", _)) if text == line => part = "hpack",
            Some((number, _)) => match (number.strip_suffix('.'), number.strip_suffix(':')) {
                (Some(number), _) => section = number,
                (_, Some(number)) => ids.push(format!("{part}/{section}/{number}")),
                _ => panic!("unknown kind of line: {line}"),
            },
            None => {}
        }
    }
    ids
}

#[test]
fn connection_without_a_valid_preface_is_closed() {
    let backend = Backend::ok();
    let gateway = gateway(&backend);
    for bytes in
        ["INVALID CONNECTION PREFACE\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI / HTTP/1.1\r\nHost: a\r\n\r\n"]
    {
        let mut client = gateway.client();
        client.send(bytes);
        client.read_to_close();
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn pseudo_header_fields_in_trailers_are_dropped() {
    let backend = Backend::ok();
    let gateway = gateway(&backend);
    let trailers = headers(ALL, 1, &[field(":path", "/evil"), field("sum", "1")].concat());
    let head = headers(END_HEADERS, 1, &[POST, &field("trailer", "sum")].concat());
    let case = case("", &[head, data(0, 1, b"test"), trailers], Served);
    let outcome = run_case(gateway.address(), &case);
    assert!(meets_expectation(Served, &outcome), "{outcome:?}");
    let seen = &backend.requests()[0];
    assert_eq!((seen.target(), &seen.trailers.0), ("/", &vec![("sum".to_owned(), "1".to_owned())]));
}
