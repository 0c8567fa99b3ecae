"""A WebSocket inside HTTP/2 (RFC 8441), as browsers take it to Apache with `H2WebSockets On` and to HAProxy: the shipped files, a
client that writes each frame itself, and the ends, which HTTP/2 has to tell by the stream's."""

import socket
import ssl

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RemoteSettingsChanged, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes

import proxies
from support import expect_free, wait_for
from wire import DEADLINE, frame

ROUTES = """
trusted_proxies = ["127.0.0.1"]

[[route]]
path = "/ws/app"
app = "%s"
"""


class Http2:
    """One connection and the events that came on it."""

    def __init__(self, address):
        context = ssl.create_default_context(cafile=proxies.certificate()[0])
        context.set_alpn_protocols(["h2"])
        self.socket = context.wrap_socket(socket.create_connection(address, DEADLINE), server_hostname=address[0])
        assert self.socket.selected_alpn_protocol() == "h2"
        self.connection = H2Connection(config=H2Configuration(client_side=True))
        self.connection.initiate_connection()
        self.data = b""
        self.flush()

    def flush(self):
        self.socket.sendall(self.connection.data_to_send())

    def wait(self, *kinds):
        """The next event of these kinds; data is kept on the way."""
        while True:
            for event in self.connection.receive_data(self.read()):
                if isinstance(event, DataReceived):
                    self.data += event.data
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if isinstance(event, kinds):
                    self.flush()
                    return event
            self.flush()

    def read(self):
        data = self.socket.recv(65536)
        assert data, "the connection ended"
        return data

    def wait_for_data(self, data):
        while data not in self.data:
            self.wait(DataReceived)

    def connect(self, path):
        """Extended CONNECT; returns the answer's status."""
        stream = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream, [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", path),
            (":authority", "www.example.org"), ("sec-websocket-version", "13"), ("origin", "https://www.example.org")])
        self.flush()
        answer = self.wait(ResponseReceived)
        return stream, dict(answer.headers)[b":status"]

    def send(self, stream, data, **options):
        size = self.connection.max_outbound_frame_size
        for start in range(0, max(len(data), 1), size):
            self.connection.send_data(stream, data[start:start + size], **options)
        self.flush()


@pytest.fixture(params=["apache-tls", "haproxy-tls"])
def front(request, workers, script, tmp_path):
    expect_free(9000)
    script.on("message", lambda hook: (hook.body, {"Ws-To": "self"}) if hook.text != "bye" else ("", {"Ws-Close": "4000 bye"}))
    workers.serve(ROUTES % script.url, address=("127.0.0.1", 9000))
    with proxies.front(proxies.named(request.param), tmp_path) as started:
        yield started


@pytest.fixture
def client(front):
    client = Http2(front.address)
    settings = client.wait(RemoteSettingsChanged).changed_settings
    assert settings[SettingCodes.ENABLE_CONNECT_PROTOCOL].new_value == 1
    yield client
    client.socket.close()


def test_messages_go_both_ways_inside_http2(client, script):
    stream, status = client.connect("/ws/app?x=1")
    assert status == b"200"
    for text in ["hello", "こんにちは 😀", "x" * 30_000]:
        client.send(stream, frame(1, text.encode()))
        client.wait_for_data(text.encode())
    (handshake,) = script.wait("handshake")
    assert handshake["ws-version"] == "rfc6455" and handshake["ws-resource"] == "/ws/app?x=1"
    assert handshake["ws-location"] == "wss://www.example.org/ws/app?x=1"
    assert handshake["ws-origin"] == "https://www.example.org" and "127.0.0.1" in handshake["ws-peer"]


def test_the_apps_end_is_the_streams(client, script):
    stream, _ = client.connect("/ws/app")
    client.send(stream, frame(1, b"bye"))
    client.wait_for_data(b"\x0f\xa0bye")
    client.send(stream, frame(8, b"\x0f\xa0"))
    client.wait(StreamEnded, StreamReset)
    (closed,) = script.wait("closed")
    assert (closed["ws-close-code"], closed["ws-closed-by"], closed["ws-clean"]) == ("4000", "app", "1")


@pytest.mark.parametrize("way", ["closing handshake", "end of stream", "reset"])
def test_the_clients_end_is_heard_at_once(client, script, way):
    stream, _ = client.connect("/ws/app")
    if way == "closing handshake":
        client.send(stream, frame(8, b"\x03\xe8"))
    elif way == "end of stream":
        client.send(stream, b"", end_stream=True)
    else:
        client.connection.reset_stream(stream)
        client.flush()
    (closed,) = script.wait("closed")
    assert (closed["ws-closed-by"], closed["ws-clean"]) == ("client", "1" if way == "closing handshake" else "0")


def test_a_killed_worker_is_the_streams_end(client, workers):
    """Without `SetEnv proxy-nohalfclose` Apache says nothing."""
    client.connect("/ws/app")
    workers.started[0].child.kill()
    client.wait(StreamEnded, StreamReset)


def test_a_refusal_reaches_the_client_and_the_connection_goes_on(client, script):
    script.on("handshake", 403)
    _, status = client.connect("/ws/app")
    assert status == b"403"
    script.on("handshake", 204)
    _, status = client.connect("/ws/app")
    assert status == b"200"
    wait_for(lambda: len(script.of("handshake")) == 2, "both handshakes")
