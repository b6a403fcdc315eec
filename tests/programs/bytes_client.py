"""What TCP can do, tried on `bytes_server.py`. Prints each case that went as without anything in between."""

import socket
import struct
import sys

RESET = struct.pack("ii", 1, 0)


def connect(case):
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
    # The server speaks first.
    assert connection.recv(6, socket.MSG_WAITALL) == b"hello\n"
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(case)
    return connection


def rest(connection):
    return b"".join(iter(lambda: connection.recv(65536), b""))


def told(case):
    with connect(b"?") as connection:
        connection.sendall(case)
        return rest(connection).decode()


def server_first():
    with connect(b"e") as connection:
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection) == b"\n0\n"


def half_close_by_client():
    sent = b"".join(b"%07d\n" % number for number in range(10_000))
    with connect(b"e") as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection) == sent + b"\n%d\n" % len(sent)


def half_close_by_server():
    with connect(b"h") as connection:
        assert rest(connection) == b"bye"
        connection.sendall(bytes(100_000))
    assert told(b"h") == "100000 closed", told(b"h")


def reset_by_server():
    with connect(b"r") as connection:
        assert connection.recv(4, socket.MSG_WAITALL) == b"gone"
        connection.sendall(b"ok")
        try:
            raise AssertionError(rest(connection))
        except ConnectionResetError:
            pass


def reset_by_client():
    with connect(b"t") as connection:
        connection.sendall(bytes(1000))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    # What a reset overtakes is lost, with or without a proxy.
    assert told(b"t").endswith(" reset"), told(b"t")


def linger():
    with connect(b"b") as connection:
        assert len(rest(connection)) == 2_000_000


def single_bytes():
    sent = bytes(number % 251 for number in range(2_000))
    got = b""
    with connect(b"e") as connection:
        for byte in sent:
            connection.sendall(bytes([byte]))
            got += connection.recv(1)
        connection.shutdown(socket.SHUT_WR)
        assert got == sent
        assert rest(connection) == b"\n2000\n"


def urgent():
    with connect(b"u") as connection:
        connection.sendall(b"before ")
        connection.send(b"!", socket.MSG_OOB)
        connection.sendall(b" after")
        connection.shutdown(socket.SHUT_WR)
        got = rest(connection)
        assert got == b"before ! after", got


for case in (
    server_first,
    half_close_by_client,
    half_close_by_server,
    reset_by_server,
    reset_by_client,
    linger,
    single_bytes,
    urgent,
):
    case()
    print(case.__name__, flush=True)
