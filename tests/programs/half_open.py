"""Begins exchanges of every kind, and says of each when it has begun and how it ended."""

import socket
import sys
import threading
import time

import grpc

files, greeter, vault = (address.rsplit(":", 1) for address in sys.argv[1:])
saying = threading.Lock()


def say(case, what):
    with saying:
        print(case, what, flush=True)


def connect(address):
    return socket.create_connection((address[0], int(address[1])))


def rest(connection):
    """Everything until the end, and how that came."""
    got = b""
    try:
        while data := connection.recv(65536):
            got += data
        return got, "closed"
    except ConnectionError as error:
        return got, type(error).__name__


def request(connection, line, *headers):
    lines = [line + " HTTP/1.1", "host: files", *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode())


def pending(case):
    with connect(files) as connection:
        request(connection, "GET /wait", "connection: close")
        say(case, "begun")
        answer, ended = rest(connection)
        say(case, "answer " + (answer.split(b"\r\n")[0].decode() or ended))


def download(case):
    with connect(files) as connection:
        request(connection, "GET /silent")
        got = b""
        while b"begun" not in got:
            got += connection.recv(65536)
        say(case, "begun")
        more, _ = rest(connection)
        say(case, "whole" if b"\r\n0\r\n" in got + more else "broken off")


def upload(case):
    with connect(files) as connection:
        request(connection, "POST /upload", "transfer-encoding: chunked", "expect: 100-continue")
        answer = connection.recv(65536)
        say(case, "begun" if b" 100 " in answer else answer)
        try:
            while True:
                connection.sendall(b"4\r\nmore\r\n")
                time.sleep(0.05)
        except ConnectionError:
            # Whether the answer can still be read is up to who was faster.
            say(case, "whole" if b" 200 " in rest(connection)[0] else "broken off")


def call(case):
    with grpc.insecure_channel(":".join(greeter)) as channel:
        ended = threading.Event()

        def questions():
            yield b"abc"
            ended.wait()

        try:
            for answer in channel.stream_stream("/test.Greeter/Both")(questions()):
                say(case, "begun" if answer == b"cba" else answer)
            say(case, "whole")
        except grpc.RpcError as error:
            say(case, error.code().name)
        ended.set()


def silent(case):
    with connect(vault) as connection:
        say(case, "begun" if connection.recv(6, socket.MSG_WAITALL) == b"hello\n" else "refused")
        say(case, rest(connection)[1])


def talking(case):
    with connect(vault) as connection:
        say(case, "begun" if connection.recv(6, socket.MSG_WAITALL) == b"hello\n" else "refused")
        # The system tells of a reset once, whoever asks first.
        ended = []
        reading = threading.Thread(target=lambda: ended.append(rest(connection)[1]))
        reading.start()
        try:
            while reading.is_alive():
                connection.sendall(b"more")
                time.sleep(0.05)
        except ConnectionError as error:
            ended.append(type(error).__name__)
        reading.join()
        say(case, "ConnectionResetError" if "ConnectionResetError" in ended else ended)


for case in (pending, download, upload, call, silent, talking):
    threading.Thread(target=case, args=(case.__name__,)).start()
