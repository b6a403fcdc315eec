"""A WebSocket client over HTTP/2 (RFC 8441): h2 and wsproto, from PyPI. Short, fragmented, large, ping, close."""

import socket
import sys

import h2.config
import h2.connection
import h2.events
import wsproto.connection
import wsproto.events

host, port = sys.argv[1].rsplit(":", 1)
peer = sys.argv[2]
LARGE = 16 << 20

tcp = socket.create_connection((host, int(port)), timeout=20)
http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
http2.initiate_connection()
tcp.sendall(http2.data_to_send())
websocket = wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT)
stream, status, waiting, is_over, has_ended = None, None, b"", False, False


def turn():
    """Waits for something to come, and takes it in."""
    global status, has_ended
    got = tcp.recv(1 << 18)
    assert got, "the connection ended"
    for event in http2.receive_data(got):
        if isinstance(event, h2.events.ResponseReceived):
            status = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if not is_over:
                websocket.receive_data(event.data)
        elif isinstance(event, h2.events.StreamEnded):
            has_ended = True
        elif isinstance(event, h2.events.StreamReset):
            raise AssertionError(event)
    tcp.sendall(http2.data_to_send())


def flush():
    """Sends what the windows let through."""
    global waiting
    while waiting:
        room = min(http2.local_flow_control_window(stream), http2.max_outbound_frame_size)
        if room == 0:
            turn()
            continue
        http2.send_data(stream, waiting[:room])
        waiting = waiting[room:]
        tcp.sendall(http2.data_to_send())


def send(event):
    global waiting
    waiting += websocket.send(event)
    flush()


messages = []


def receive(kind):
    """The next whole message, or control frame, of a kind."""
    parts = []
    while True:
        for event in websocket.events():
            messages.append(event)
        while messages:
            event = messages.pop(0)
            assert isinstance(event, kind), event
            if not isinstance(event, wsproto.events.Message):
                return event
            parts.append(event.data)
            if event.message_finished:
                return parts[0][:0].join(parts)
        turn()


while http2.remote_settings.enable_connect_protocol != 1:
    turn()
stream = http2.get_next_available_stream_id()
head = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/echo"),
    (":authority", sys.argv[1]),
    ("sec-websocket-version", "13"),
    ("sec-websocket-protocol", "echo"),
]
http2.send_headers(stream, head)
tcp.sendall(http2.data_to_send())
while status is None:
    turn()
assert status[b":status"] == b"200" and status[b"sec-websocket-protocol"] == b"echo", status
greeting = receive(wsproto.events.TextMessage)
assert greeting == f"2 {peer}", greeting
print("open")

send(wsproto.events.TextMessage("grüße"))
assert receive(wsproto.events.TextMessage) == "grüße"
print("short")

for number in range(10):
    send(wsproto.events.BytesMessage(bytes([number]) * 1000, message_finished=number == 9))
assert receive(wsproto.events.BytesMessage) == b"".join(bytes([number]) * 1000 for number in range(10))
print("fragmented")

send(wsproto.events.Ping(b"are you there"))
assert bytes(receive(wsproto.events.Pong).payload) == b"are you there"
print("ping")

large = bytes(range(256)) * (LARGE // 256)
send(wsproto.events.BytesMessage(large))
assert receive(wsproto.events.BytesMessage) == large
print("large")

send(wsproto.events.CloseConnection(4001, "enough"))
assert receive(wsproto.events.CloseConnection).code == 4001
is_over = True
http2.end_stream(stream)
tcp.sendall(http2.data_to_send())
while not has_ended:
    turn()
print("close")
