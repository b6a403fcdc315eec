"""A server of bytes: says hello first, sends everything back, and after the client's end says how much it was."""

import pathlib
import socket
import sys
import threading


def serve(connection):
    total = 0
    with connection:
        connection.sendall(b"hello\n")
        try:
            while data := connection.recv(65536):
                total += len(data)
                connection.sendall(data)
            connection.sendall(b"\n%d\n" % total)
        except ConnectionError:
            pass


listener = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
pathlib.Path(sys.argv[2]).touch()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
