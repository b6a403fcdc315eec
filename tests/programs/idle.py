"""Opens so many connections, uses each once, and keeps them: `idle.py http1|http2|tcp ADDRESS COUNT`.

It prints a line once all are there at the same time, and lets go of them when its own input ends."""

import resource
import socket
import sys

kind, address, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
host, port = address.rsplit(":", 1)
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def field(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def http1(connection):
    connection.sendall(b"GET /1 HTTP/1.1\r\nhost: idle\r\n\r\n")
    got = b""
    while not got.endswith(b"\r\n\r\n\0"):
        more = connection.recv(4096)
        assert more, got
        got += more
    assert got.startswith(b"HTTP/1.1 200 "), got


def http2(connection):
    fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"idle")]
    head = b"".join(field(*each) for each in fields)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 5, 1, head))
    reader = connection.makefile("rb", buffering=0)
    while True:
        start = reader.read(9)
        assert len(start) == 9, start
        length, kind, flags = int.from_bytes(start[:3], "big"), start[3], start[4]
        stream = int.from_bytes(start[5:], "big")
        while length > 0:
            length -= len(reader.read(length))
        if kind == 4 and not flags & 1:
            connection.sendall(frame(4, 1, 0, b""))
        if stream == 1 and flags & 1:
            return


def tcp(connection):
    connection.sendall(b"1\n\0")
    assert connection.recv(1) == b"\0"


kept = []
for _ in range(count):
    connection = socket.create_connection((host, int(port)), timeout=20)
    globals()[kind](connection)
    kept.append(connection)
for connection in kept:
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
        sys.exit("one of them was closed")
    except BlockingIOError:
        pass
print("ok", flush=True)
sys.stdin.read()
