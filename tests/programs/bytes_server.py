"""A server of bytes that speaks first, and then does as the client's first byte says. It tells what it has seen."""

import pathlib
import socket
import struct
import sys
import threading

RESET = struct.pack("ii", 1, 0)
seen = {}
changed = threading.Condition()


def tell(case, what):
    with changed:
        seen[case] = what
        changed.notify_all()


def take(connection):
    """How many bytes come, and how they end."""
    total = 0
    try:
        while data := connection.recv(65536):
            total += len(data)
        return f"{total} closed"
    except ConnectionResetError:
        return f"{total} reset"


def serve(connection):
    with connection:
        connection.sendall(b"hello\n")
        case = connection.recv(1)
        if case == b"e":
            # Everything back, until the client's end, and then how much that was.
            total = 0
            while data := connection.recv(65536):
                total += len(data)
                connection.sendall(data)
            connection.sendall(b"\n%d\n" % total)
        elif case == b"h":
            # Its own end first.
            connection.sendall(b"bye")
            connection.shutdown(socket.SHUT_WR)
            tell("h", take(connection))
        elif case == b"r":
            connection.sendall(b"gone")
            assert connection.recv(2, socket.MSG_WAITALL) == b"ok"
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif case == b"b":
            # It closes with much that nobody has read yet: all of it still arrives.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 10))
            connection.sendall(bytes(2_000_000))
            connection.shutdown(socket.SHUT_WR)
            take(connection)
        elif case == b"t":
            tell("t", take(connection))
        elif case == b"u":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
            got = b""
            while data := connection.recv(65536):
                got += data
            connection.sendall(got)
        elif case == b"?":
            wanted = connection.recv(1).decode()
            with changed:
                changed.wait_for(lambda: wanted in seen, timeout=10)
                connection.sendall(seen.get(wanted, "nothing").encode())


listener = socket.create_server(("", int(sys.argv[1])))
pathlib.Path(sys.argv[2]).touch()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
