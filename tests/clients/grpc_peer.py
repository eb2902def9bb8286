"""gRPC as its own library speaks it: `serve` prints a port and serves, `call PORT TOKEN [CA]` asks through the gateway.

Messages are plain bytes, so that nothing has to be generated: a handler gets and gives what stands on the wire.
"""

import sys
import threading
import time
from concurrent import futures

import grpc


def serve():
    def unary(request, context):
        if request == b"fail":
            context.set_trailing_metadata((("reason", "because"),))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: 100% sure\n")
        if request == b"slow":
            time.sleep(5)
        context.set_trailing_metadata((("sum-bin", bytes([0, 255, len(request) % 256])),))
        return request

    def deadline(request, context):
        return str(context.time_remaining()).encode()

    def counted(request, context):
        for number in range(int(request)):
            yield b"%d" % number
        if int(request) == 3:
            time.sleep(5)  # the client's deadline comes first

    def summed(requests, context):
        return b"%d" % sum(int(request) for request in requests)

    def echoed(requests, context):
        yield from requests

    def seen(request, context):
        return repr(sorted(tuple(pair) for pair in context.invocation_metadata())).encode()

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Deadline": grpc.unary_unary_rpc_method_handler(deadline),
        "Counted": grpc.unary_stream_rpc_method_handler(counted),
        "Summed": grpc.stream_unary_rpc_method_handler(summed),
        "Echoed": grpc.stream_stream_rpc_method_handler(echoed),
        "Seen": grpc.unary_unary_rpc_method_handler(seen),
    }
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 1 << 24)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Peer", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


def fails(code, call):
    try:
        result = call()
        result = list(result) if hasattr(result, "__next__") else result
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details(), code)
        return error
    raise AssertionError(f"{result!r} instead of {code}")


def call(port, token, ca=None):
    options = [("grpc.max_receive_message_length", 1 << 24)]
    if ca:
        with open(ca, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        channel = grpc.secure_channel(f"localhost:{port}", credentials, options)
    else:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
    good = (("authorization", f"Bearer {token}"), ("x-user", "root"))
    unary = channel.unary_unary("/test.Peer/Unary")
    code = grpc.StatusCode

    # both ways of one message, of a large one, and of trailers
    answer, state = unary.with_call(b"hello", metadata=good)
    assert answer == b"hello", answer
    assert ("sum-bin", bytes([0, 255, 5])) in state.trailing_metadata(), state.trailing_metadata()
    large = bytes(range(256)) * (3 << 12)
    assert unary(large, metadata=good) == large
    # streams, each way and both ways at a time
    assert list(channel.unary_stream("/test.Peer/Counted")(b"100", metadata=good)) == [b"%d" % n for n in range(100)]
    assert channel.stream_unary("/test.Peer/Summed")((b"%d" % n for n in range(100)), metadata=good) == b"4950"
    turn = threading.Semaphore(1)

    def asked():
        for number in range(20):
            assert turn.acquire(timeout=5), "the answer to the one before has not come"
            yield b"%d" % number

    count = 0
    for answer in channel.stream_stream("/test.Peer/Echoed")(asked(), metadata=good):
        assert answer == b"%d" % count, answer
        count += 1
        turn.release()
    assert count == 20
    # what the backend says when it fails
    error = fails(code.FAILED_PRECONDITION, lambda: unary(b"fail", metadata=good))
    assert error.details() == "not now: 100% sure\n", error.details()
    assert ("reason", "because") in error.trailing_metadata()
    # deadlines: known to the backend, kept by the gateway
    left = float(channel.unary_unary("/test.Peer/Deadline")(b"", metadata=good, timeout=20))
    assert 15 < left < 21, left
    began = time.monotonic()
    fails(code.DEADLINE_EXCEEDED, lambda: unary(b"slow", metadata=good, timeout=0.3))
    fails(code.DEADLINE_EXCEEDED, lambda: channel.unary_stream("/test.Peer/Counted")(b"3", metadata=good, timeout=0.3))
    assert time.monotonic() - began < 4
    # what the gateway refuses
    error = fails(code.UNAUTHENTICATED, lambda: unary(b"x"))
    assert error.details() == "authentication failure: no bearer token found", error.details()
    fails(code.UNAUTHENTICATED, lambda: unary(b"x", metadata=(("authorization", "Bearer a.b.c"),)))
    fails(code.UNAUTHENTICATED, lambda: channel.stream_unary("/test.Peer/Summed")(b"%d" % n for n in range(1000)))
    fails(code.PERMISSION_DENIED, lambda: channel.unary_unary("/test.Peer/Denied")(b"x", metadata=good))
    fails(code.UNIMPLEMENTED, lambda: channel.unary_unary("/other.Peer/Unary")(b"x", metadata=good))
    fails(code.UNAVAILABLE, lambda: channel.unary_unary("/dead.Peer/Unary")(b"x", metadata=good))
    fails(code.UNIMPLEMENTED, lambda: channel.unary_unary("/test.Peer/Nothing")(b"x", metadata=good))
    # a call that its client gives up, and then one more on the same connection
    endless = channel.stream_stream("/test.Peer/Echoed")(iter([b"1"]), metadata=good)
    assert next(endless) == b"1"
    endless.cancel()
    seen = channel.unary_unary("/test.Peer/Seen")(b"", metadata=good).decode()
    assert "'x-user', 'alice'" in seen and "root" not in seen, seen
    assert token not in seen, "the credential is not passed on"
    print("ok")


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else call(*sys.argv[2:])
