"""An HTTP server of exchanges that do not end by themselves: `/silent` begins to answer, `/upload` takes what comes."""

import pathlib
import socket
import sys
import threading


def serve(connection):
    with connection, connection.makefile("rb") as reader:
        path = reader.readline().split()[1]
        while reader.readline().strip():
            pass
        if path == b"/silent":
            connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n")
        elif path == b"/upload":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            while reader.read1(65536):
                pass
        except ConnectionError:
            pass


listener = socket.create_server(("", int(sys.argv[1])))
pathlib.Path(sys.argv[2]).touch()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
