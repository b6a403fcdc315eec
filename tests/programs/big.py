"""A server of much: `GET /N` and `POST` over HTTP, and without it a length, so many bytes, and as many back."""

import pathlib
import socket
import sys
import threading

BLOCK = bytes(256 * 1024)


def take(connection, reader, total):
    while total > 0:
        got = reader.read1(min(total, len(BLOCK)))
        if not got:
            raise ConnectionError("cut off")
        total -= len(got)


def give(connection, total):
    while total > 0:
        connection.sendall(BLOCK[: min(total, len(BLOCK))])
        total -= len(BLOCK)


def serve(connection):
    with connection, connection.makefile("rb") as reader:
        while line := reader.readline():
            words = line.split()
            if len(words) == 1:
                total = int(line)
                take(connection, reader, total)
                give(connection, total)
                continue
            length = 0
            while header := reader.readline().strip():
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            take(connection, reader, length)
            total = int(words[1][1:])
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
            give(connection, total)


def attend(connection):
    # A head and what follows are two writes, which would wait for each other's acknowledgement.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        serve(connection)
    except ConnectionError:
        pass


threading.stack_size(256 * 1024)
listener = socket.create_server(("", int(sys.argv[1])), backlog=4096)
pathlib.Path(sys.argv[2]).touch()
while True:
    threading.Thread(target=attend, args=(listener.accept()[0],), daemon=True).start()
