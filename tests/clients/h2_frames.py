"""HTTP/2 that no library would send, frame by frame: `h2_frames.py PORT`.

Each row is a request made by hand and what may become of it: `H404` an answer with this status, `RST1` a stream error
and `GOAWAY1` a connection error with this code (RFC 9113 section 7). After it the gateway serves others as before.
"""

import socket
import sys

import h2.config
import h2.connection
import h2.events
import hpack
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PLAIN = {":method": "GET", ":scheme": "http", ":authority": "a", ":path": "/"}


def request(*more, body=None, trailers=None, **pseudo):
    """A request with these pseudo fields in place of the usual ones; None leaves one out."""
    fields = {**PLAIN, **{f":{name}": value for name, value in pseudo.items()}}
    encoder = hpack.Encoder()
    head = HeadersFrame(1, data=encoder.encode([f for f in fields.items() if f[1] is not None] + list(more)))
    head.flags.add("END_HEADERS")
    frames = [head] + [DataFrame(1, data=piece) for piece in body or []]
    if trailers is not None:
        frames.append(HeadersFrame(1, data=encoder.encode(trailers)))
        frames[-1].flags.add("END_HEADERS")
    frames[-1].flags.add("END_STREAM")
    return b"".join(frame.serialize() for frame in frames)


def post(*more, body=(b"hello",), **others):
    return request(*more, method="POST", body=body, **others)


ROWS = [
    ("a request", request(), {"H200"}),
    ("a path without slash", request(path="admin"), {"RST1", "H400"}),
    ("an empty path", request(path=""), {"RST1", "H400"}),
    ("a whole URL as path", request(path="http://a/x"), {"RST1", "H400"}),
    ("an asterisk", request(path="*"), {"H400"}),
    ("an asterisk with OPTIONS", request(path="*", method="OPTIONS"), {"H404"}),
    ("a backslash", request(path="/a\\b"), {"H400"}),
    ("dot segments", request(path="/x/../denied"), {"H403"}),
    ("a fragment", request(path="/denied#x"), {"H403"}),
    ("an authority as path", request(path="//evil/denied"), {"H200"}),
    ("a space in the path", request(path="/a b"), {"RST1", "H400"}),
    ("a line end in the path", request(path="/a\r\nx: y"), {"RST1", "GOAWAY1", "H400"}),
    ("raw UTF-8 in the path", request(path="/\u00e9"), {"H400"}),
    ("raw UTF-8 in the query", request(path="/?\u00e9"), {"H400"}),
    ("TLS that ended before", request(scheme="https"), {"H200"}),
    ("another scheme", request(scheme="ftp"), {"H400"}),
    ("no scheme", request(scheme=None), {"RST1", "H400"}),
    ("no method", request(method=None), {"RST1", "H400"}),
    ("no path", request(path=None), {"RST1", "H400"}),
    ("no authority", request(authority=None), {"H400"}),
    ("a host in its place", request(("host", "a"), authority=None), {"H200"}),
    ("an empty authority", request(authority=""), {"RST1", "H400"}),
    ("a user", request(authority="u@a"), {"H400"}),
    ("port 0", request(authority="a:0"), {"H400"}),
    ("another host", request(("host", "b")), {"H400"}),
    ("the same host", request(("host", "A:80")), {"H200"}),
    ("two hosts", request(("host", "a"), ("host", "a")), {"H400"}),
    ("a method with a space", request(method="GE T"), {"RST1", "GOAWAY1", "H400"}),
    ("CONNECT", request(method="CONNECT", scheme=None, path=None), {"H405"}),
    ("extended CONNECT", request((":protocol", "websocket"), method="CONNECT"), {"RST1"}),
    ("TRACE", request(method="TRACE"), {"H405"}),
    ("a second path", request((":path", "/x")), {"RST1", "GOAWAY1"}),
    ("an unknown pseudo field", request((":foo", "x")), {"RST1", "GOAWAY1"}),
    ("a status", request((":status", "200")), {"RST1"}),
    ("a pseudo field behind others", request(("x", "y"), (":path", "/x"), path=None), {"RST1"}),
    ("an upper-case name", request(("X-A", "1")), {"RST1", "GOAWAY1"}),
    ("Connection", request(("connection", "close")), {"RST1"}),
    ("Keep-Alive", request(("keep-alive", "1")), {"RST1"}),
    ("Proxy-Connection", request(("proxy-connection", "x")), {"RST1"}),
    ("Upgrade", request(("upgrade", "websocket")), {"RST1"}),
    ("Transfer-Encoding", post(("transfer-encoding", "chunked")), {"RST1"}),
    ("TE: gzip", request(("te", "gzip")), {"RST1"}),
    ("TE: trailers", request(("te", "trailers")), {"H200"}),
    ("a length that is too long", post(("content-length", "9")), {"RST1"}),
    ("a length that is too short", post(("content-length", "2")), {"RST1"}),
    ("a length over several frames", post(("content-length", "9"), body=[b"hell", b"o"]), {"RST1"}),
    ("a length without a body", request(("content-length", "9")), {"RST1"}),
    ("a length with a sign", post(("content-length", "+5")), {"RST1", "H400"}),
    ("a list of lengths", post(("content-length", "5, 5")), {"RST1", "H400"}),
    ("two lengths", post(("content-length", "5"), ("content-length", "6")), {"RST1", "H400"}),
    ("an absurd length", post(("content-length", "9" * 30)), {"RST1", "H400"}),
    ("a line end in a value", request(("x", "a\r\nb: c")), {"RST1", "GOAWAY1"}),
    ("NUL in a value", request(("x", "a\0b")), {"RST1", "GOAWAY1"}),
    ("a value in spaces", request(("x", " a ")), {"H400"}),
    ("an empty name", request(("", "a")), {"RST1", "GOAWAY1"}),
    ("a colon in a name", request(("a:b", "a")), {"RST1", "GOAWAY1"}),
    ("a space in a name", request(("a b", "a")), {"RST1", "GOAWAY1"}),
    ("trailers", post(trailers=[("a", "1"), ("authorization", "x"), ("host", "b")]), {"H200"}),
    ("pseudo fields in trailers", post(trailers=[(":path", "/evil")]), {"H200", "RST1"}),
    ("Connection in trailers", post(trailers=[("connection", "x")]), {"RST1"}),
]


def outcome(port, raw):
    """The first thing that is said of stream 1 or of the whole connection."""
    decoder = hpack.Decoder()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(PREFACE + SettingsFrame(0).serialize() + raw)
        with connection.makefile("rb") as stream:
            while head := stream.read(9):
                frame, length = Frame.parse_frame_header(memoryview(head))
                frame.parse_body(memoryview(stream.read(length)))
                if isinstance(frame, HeadersFrame):
                    return "H" + dict(decoder.decode(frame.data))[":status"]
                if isinstance(frame, (RstStreamFrame, GoAwayFrame)):
                    return f"{'RST' if isinstance(frame, RstStreamFrame) else 'GOAWAY'}{frame.error_code}"
    return "closed"


def exchange(port, size):
    """A well-behaved client, with small windows: `size` bytes up and down."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        client.initiate_connection()
        client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000})
        head = list({**PLAIN, ":method": "POST", ":path": "/echo"}.items()) + [("content-length", str(size))]
        client.send_headers(1, head)
        left, got, ended = size, 0, False
        while not ended:
            while left and (room := min(client.local_flow_control_window(1), client.max_outbound_frame_size, left)):
                left -= room
                client.send_data(1, b"x" * room, end_stream=not left)
            connection.sendall(client.data_to_send())
            for event in client.receive_data(connection.recv(65536)):
                if isinstance(event, h2.events.ResponseReceived):
                    assert dict(event.headers)[":status"] == "200", event.headers
                elif isinstance(event, h2.events.DataReceived):
                    got += len(event.data)
                    client.acknowledge_received_data(event.flow_controlled_length, 1)
                elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                    raise AssertionError(event)
                ended = ended or isinstance(event, h2.events.StreamEnded)
        assert got == size, got


def main(port):
    wrong = []
    for name, raw, expected in ROWS:
        if (got := outcome(port, raw)) not in expected:
            wrong.append(f"{name}: {got}, not {' or '.join(sorted(expected))}")
    exchange(port, 1 << 20)
    print("\n".join(wrong) or "ok")


main(int(sys.argv[1]))
