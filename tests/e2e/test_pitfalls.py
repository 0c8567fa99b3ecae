"""The limits of time that cut open WebSockets, by their names, each at one second or two: what keeps a socket, what does not,
and what the worker then says. And what a proxy holds after a socket's end, what a reload does to open ones, and how a worker
that was killed comes back."""

import os
import re
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import proxies
from support import expect_free, wait_for
from wire import HYBI, VERSIONS, Client, Closed, Refused, Stream, handshake

HEARTBEAT = 0.3
ROUTES = """
[[route]]
path = "/ws/alive"
handler = "echo"
heartbeat = "300ms"
close_timeout = "1s"
heartbeat_text = { receive = "Heartbeat" }

[[route]]
path = "/ws/mute"
app = "%s"
heartbeat = "off"

[[route]]
path = "/ws/watched"
app = "%s"
heartbeat = "300ms"
pong_timeout = "700ms"
"""


@dataclass(frozen=True)
class Limit:
    """A proxy's limit, made short: `change` rewrites the shipped file, `around` stands around it."""

    name: str
    front: str
    change: tuple
    around: str = ""
    # Seconds until a silent socket is cut, measured; lighttpd counts whole ones and adds one.
    cuts: float = 1.0


LIMITS = [
    Limit("Timeout", "apache", (" timeout=3600", ""), "Timeout 1"),
    Limit("ProxyTimeout", "apache-rewrite", ("ProxyTimeout 3600", "ProxyTimeout 1"), "Timeout 1"),
    Limit("timeout=", "apache-every-version", ("timeout=3600", "timeout=1"), "Timeout 1"),
    Limit("the larger of Timeout and timeout=", "apache", ("timeout=3600", "timeout=1"), "Timeout 2", cuts=2),
    Limit("proxy_read_timeout", "nginx", ("proxy_read_timeout 1h", "proxy_read_timeout 1s")),
    Limit("proxy_timeout", "nginx-stream", ("proxy_timeout 1h", "proxy_timeout 1s")),
    Limit("timeout tunnel", "haproxy", ("timeout tunnel 1h", "timeout tunnel 1s")),
    Limit("timeout client and server", "haproxy", ("    timeout tunnel 1h\n", ""), cuts=1),
    Limit("timeout tunnel, every version", "haproxy-every-version", ("timeout tunnel 1h", "timeout tunnel 1s")),
    Limit("timeout client, tcp", "haproxy-tcp", ("1h", "1s")),
    Limit("server.max-read-idle", "lighttpd", ("server.max-read-idle = 3600", "server.max-read-idle = 1"), cuts=1),
    Limit("server.max-write-idle", "lighttpd", ("server.max-write-idle = 3600", "server.max-write-idle = 1"), cuts=1),
]


def shortened(limit):
    def change(text):
        old, new = limit.change
        assert old in text, f"{old!r} is not in the shipped file"
        text = text.replace(old, new)
        if limit.name == "timeout client and server":
            text = text.replace("client 60s", "client 1s").replace("server 60s", "server 5s")
        return text
    return change


@pytest.fixture
def script(scripts):
    return scripts()


@pytest.fixture
def worker(workers, script):
    for port in (9000, 9002):
        expect_free(port)
    top = re.search(r"^listen.*?^\]\n", (proxies.DEPLOY / "proxies.toml").read_text(), re.M | re.S)[0]
    path = workers.config(top + 'trusted_proxies = ["127.0.0.1"]\n' + ROUTES % (script.url, script.url))
    return workers.start("serve", "--config", path, address=("127.0.0.1", 9000))


@pytest.fixture(params=LIMITS, ids=lambda limit: limit.name.replace(" ", "-"))
def limit(request):
    return request.param


@pytest.fixture
def front(worker, limit, tmp_path):
    # Tunnels of 75 through httpd have no limit to test.
    with proxies.front(proxies.named(limit.front), tmp_path, change=shortened(limit), around=limit.around) as started:
        yield started


def opened(front, path, tunnelled=True):
    versions = [v for v in front.tried if tunnelled or front.name != "apache-every-version" or v != "hixie-75"]
    return [Client(version, front.address, path, strict=front.strict(version)) for version in versions]


def live(clients, seconds, speak=True):
    """Lets browsers be browsers for a while: they answer pings, and pages of 75 and 76 send their text."""
    until, next_text = time.monotonic() + seconds, 0
    while (now := time.monotonic()) < until:
        if speak and now >= next_text:
            next_text = now + HEARTBEAT
            for client in clients:
                if client.is_hixie:
                    client.send("Heartbeat")
        ready, _, _ = select.select([client.stream.socket for client in clients], [], [], 0.05)
        for client in clients:
            if client.stream.socket in ready:
                kind, payload = client.event(1)
                assert kind == "ping", f"{client.version} heard {kind} {payload!r} after {seconds - (until - now):.1f} s"
                client.raw(b"\x8a" + bytes([0x80 | len(payload)]) + b"\0\0\0\0" + payload)


def test_the_heartbeat_keeps_the_socket(front, limit):
    """Pings and their pongs for 7, 8 and 13; a text of the page's for 75 and 76. lighttpd hears 75 and 76 as far as its
    limit is the one on reading: on the one on writing the worker itself would have to speak."""
    clients = opened(front, "/ws/alive")
    if limit.name == "server.max-write-idle":
        clients = [client for client in clients if not client.is_hixie]
    live(clients, 2.5 * limit.cuts + 1)
    for client in clients:
        client.send("still here")
        assert client.receive() == "still here"
        client.close()


def test_silence_is_cut_and_the_worker_says_why(front, limit, script):
    began = time.monotonic()
    clients = opened(front, "/ws/mute", tunnelled=False)
    hooks = script.wait("closed", len(clients), timeout=limit.cuts + 8)
    assert time.monotonic() - began > limit.cuts * 0.9
    for hook in hooks:
        assert hook["ws-closed-by"] == "client"
        if hook["ws-version"] != "hixie-75":  # Which has no closing handshake to miss.
            assert (hook["ws-close-code"], hook["ws-clean"]) == ("1006", "0")
            assert hook["ws-close-reason"] == "no%20closing%20handshake"
    for client in clients:
        assert client.receive(limit.cuts + 8) == Closed()


# -- where no proxy has a limit, the worker's own

UNLIMITED = [("apache-tunnel", "hixie-75"), ("apache-tunnel", "rfc6455"), ("apache-every-version", "hixie-75"), ("caddy", "rfc6455")]


@pytest.mark.parametrize("name,version", UNLIMITED)
def test_a_tunnel_without_a_limit_is_left_to_the_worker(worker, script, tmp_path, name, version):
    around = "Timeout 1" if name.startswith("apache") else ""
    change = lambda text: text.replace("timeout=3600", "timeout=1")
    with proxies.front(proxies.named(name), tmp_path, change=change, around=around) as front:
        client = Client(version, front.address, "/ws/mute")
        live([client], 3, speak=False)
        client.send("still here")
        script.wait("message")
        if version == "rfc6455":  # Who answers no ping is dropped, and the app hears why.
            silent = Client(version, front.address, "/ws/watched")
            (hook,) = script.wait("closed")
            silent.stream.close()
            assert (hook["ws-close-code"], hook["ws-close-reason"], hook["ws-closed-by"]) == ("1006", "pong%20missed", "worker")


# -- limits that have no say once a socket is open

HARMLESS = [
    ("KeepAliveTimeout", "apache", "KeepAlive On\nKeepAliveTimeout 1"),
    ("KeepAlive", "apache", "KeepAlive Off"),
    ("RequestReadTimeout", "apache", "RequestReadTimeout header=1 body=1"),
    ("client_body_timeout, send_timeout, proxy_send_timeout", "nginx",
     "client_body_timeout 1s; client_header_timeout 1s; send_timeout 1s; proxy_send_timeout 1s; keepalive_timeout 1s;"),
    ("timeout http-request, http-keep-alive", "haproxy", ""),
    ("server.max-keep-alive-idle", "lighttpd", "server.max-keep-alive-idle = 1"),
]


@pytest.mark.parametrize("name,which,around", HARMLESS, ids=[name.replace(" ", "-") for name, *_ in HARMLESS])
def test_a_limit_without_a_say(worker, script, tmp_path, name, which, around):
    change = lambda text: text.replace("http-request 10s", "http-request 1s\n    timeout http-keep-alive 1s")
    with proxies.front(proxies.named(which), tmp_path, change=change, around=around) as front:
        clients = opened(front, "/ws/mute")
        live(clients, 2.5, speak=False)
        for number, client in enumerate(clients):
            client.send("still here")
            script.wait("message", number + 1)


def test_a_slow_head_is_apaches_to_end(worker, tmp_path):
    """RequestReadTimeout counts until the head is whole, and for nothing of a WebSocket after it."""
    with proxies.front(proxies.named("apache"), tmp_path, around="RequestReadTimeout header=1") as front:
        stream = Stream(front.address)
        stream.write(handshake("/ws/alive")[:-2])
        assert stream.answer().status == 408


# -- KeepAlive, and what is held after the end

def sockets_of(port):
    """The states of the TCP sockets on this side of a port, as the kernel names them."""
    states = {"01": "ESTABLISHED", "04": "FIN_WAIT1", "05": "FIN_WAIT2", "08": "CLOSE_WAIT", "0A": "LISTEN"}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [states.get(line[3], line[3]) for line in lines if line[1].endswith(f":{port:04X}") and line[3] not in ("0A", "06")]


@pytest.mark.parametrize("keep", ["KeepAlive On\nKeepAliveTimeout 30", "KeepAlive Off"], ids=["on", "off"])
@pytest.mark.parametrize("which", ["apache", "apache-every-version"])
def test_keepalive_holds_nothing_of_a_socket_that_ended(worker, tmp_path, which, keep):
    """The old advice was KeepAlive Off. The client's end comes at once either way. Of a client that does not close in turn
    the worker holds its side for `close_timeout`, and httpd its own until the client goes."""
    before = worker.descriptors()
    with proxies.front(proxies.named(which), tmp_path, around=keep) as front:
        for version in front.tried:
            client = Client(version, front.address, "/ws/alive", strict=front.strict(version))
            began = time.monotonic()
            client.close()
            assert time.monotonic() - began < 3, version
        wait_for(lambda: worker.descriptors() <= before, "the worker to let go")
        wait_for(lambda: sockets_of(front.address[1]) == [], "httpd to let go")
        # A client that reads the end and does not close.
        client = Client("rfc6455", front.address, "/ws/alive")
        client.raw(b"\x88\x82\0\0\0\0\x03\xe8")
        assert client.receive() == Closed(1000, "", True)
        assert client.ended(2)
        wait_for(lambda: worker.descriptors() <= before, "the worker to let go")
        assert sockets_of(front.address[1]) == ["FIN_WAIT2"]
        client.stream.close()
        wait_for(lambda: sockets_of(front.address[1]) == [], "httpd to let go")


def test_keepalive_holds_the_connection_of_a_refused_handshake(worker, tmp_path):
    """KeepAliveTimeout is what counts for an answer that is no 101; the worker's own side is gone long before."""
    before = worker.descriptors()
    with proxies.front(proxies.named("apache"), tmp_path, around="KeepAlive On\nKeepAliveTimeout 1") as front:
        stream = Stream(front.address)
        stream.write(handshake("/nowhere").replace(b"/nowhere", b"/ws/nowhere"))
        assert stream.answer().status == 404
        began = time.monotonic()
        wait_for(lambda: worker.descriptors() <= before, "the worker to let go")
        assert stream.rest() == b""
        assert time.monotonic() - began > 0.7


# -- a proxy reloads

RELOADS = {"apache": signal.SIGUSR1, "apache-every-version": signal.SIGUSR1, "nginx": signal.SIGHUP, "nginx-stream": signal.SIGHUP,
           "haproxy": signal.SIGUSR2, "haproxy-every-version": signal.SIGUSR2, "haproxy-tcp": signal.SIGUSR2}


def children(pid):
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def reload(front, number):
    """Until new processes are there: HAProxy's master is deaf for a moment after its start."""
    before = children(front.process.pid)

    def ask():
        os.kill(front.process.pid, number)
        try:
            return wait_for(lambda: children(front.process.pid) - before, "the new processes", 2)
        except AssertionError:
            return None
    wait_for(ask, "the new processes")


@pytest.mark.parametrize("which", RELOADS)
def test_a_reload_keeps_open_sockets(worker, tmp_path, which):
    with proxies.front(proxies.named(which), tmp_path) as front:
        clients = opened(front, "/ws/alive")
        reload(front, RELOADS[which])
        live(clients, 1)
        for client in [*clients, *(wait_for(lambda v=v: reopened(front, v), "a new socket") for v in front.tried)]:
            client.send("still here")
            while (said := client.receive()) != "still here":
                assert not isinstance(said, Closed)
            client.close()


def reopened(front, version, path="/ws/alive"):
    try:
        return Client(version, front.address, path, strict=front.strict(version), timeout=5)
    except (Refused, OSError, EOFError):
        return None


@pytest.mark.parametrize("which", ["apache", "lighttpd", "caddy"])
def test_a_restart_ends_open_sockets_and_new_ones_come(worker, script, tmp_path, which):
    """Apache's restart is SIGHUP and takes ten seconds with an open socket, in which nobody comes in; for lighttpd and Caddy
    every reload is one, but new sockets come at once."""
    with proxies.front(proxies.named(which), tmp_path) as front:
        client = Client("rfc6455", front.address, "/ws/mute")
        script.wait("handshake")
        if which == "caddy":
            main = front.folder / "Caddyfile"
            admin = re.search(r"admin (\S+)", main.read_text())[1]
            main.write_text(main.read_text() + "\n# changed\n")
            subprocess.run([proxies.program("caddy"), "reload", "--config", main, "--address", admin, "--force"], check=True,
                           capture_output=True)
        else:
            os.kill(front.process.pid, signal.SIGHUP if which == "apache" else signal.SIGUSR1)
        if which != "apache":
            wait_for(lambda: reopened(front, "rfc6455"), "a new socket", 3).close()
        (hook,) = script.wait("closed", timeout=15)
        if which == "caddy":  # Its closing frame to the worker is not masked, which is an error; the client's is right.
            assert (hook["ws-close-code"], hook["ws-closed-by"]) == ("1002", "worker")
            # Caddy's own, or what the worker answered it, whichever is first.
            assert client.receive() in (Closed(1001, "", True), Closed(1002, "wrong masking", True))
        else:
            assert (hook["ws-close-code"], hook["ws-closed-by"]) == ("1006", "client")
            assert client.receive(15) == Closed()
        client.stream.close()
        wait_for(lambda: reopened(front, "rfc6455"), "a new socket", 15).close()


# -- the worker dies and comes back

@pytest.mark.parametrize("which", [front.name for front in proxies.FRONTS if not front.variant and front.name != "direct"])
def test_a_killed_worker_is_seen_at_once_and_found_again(worker, workers, tmp_path, which):
    with proxies.front(proxies.named(which), tmp_path) as front:
        clients = opened(front, "/ws/alive")
        worker.child.kill()
        worker.child.wait()  # Its port is free for the next one.
        for client in clients:
            while not isinstance(client.receive(3), Closed):
                pass
        version = front.versions[-1]
        assert reopened(front, version) is None
        workers.start("serve", "--config", next(workers.folder.glob("worker-*")), address=("127.0.0.1", 9000))
        wait_for(lambda: reopened(front, version), "the proxy to find the worker again", 15).close()
