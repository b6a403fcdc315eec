"""A client of `bytes.py`: waits for it to speak, sends a lot, ends its own half, and reads to the end."""

import socket
import sys
import threading

host, port = sys.argv[1:]
with socket.create_connection((host, int(port)), timeout=10) as connection:
    assert connection.recv(6, socket.MSG_WAITALL) == b"hello\n"
    sent = b"".join(b"%07d\n" % number for number in range(200_000))

    def send():
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)

    sending = threading.Thread(target=send)
    sending.start()
    got = b"".join(iter(lambda: connection.recv(65536), b""))
    sending.join()
    assert got == sent + b"\n%d\n" % len(sent), (len(got), got[-20:])
print("ok")
