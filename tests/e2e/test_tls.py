"""Apps behind `https://`: who is believed to be the app, what a broken or silent TLS costs, and that little is paid twice."""

import os
import signal
import socket
import ssl
import subprocess
import threading

import pytest

from apps import Script
from support import command, free_port, wait_for
from wire import VERSIONS, Client, Refused

SETTINGS = """
[ca]
default_ca = ca
[ca]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = policy
copy_extensions = copy
unique_subject = no
[policy]
commonName = supplied
"""


class Authority:
    """Signs what it is told to, by the openssl of the command line."""

    def __init__(self, folder, name="An authority of tests"):
        self.folder = folder
        folder.mkdir()
        (folder / "index.txt").touch()
        self.settings = folder / "settings"
        self.settings.write_text(SETTINGS.format(folder=folder))
        self.key, self.certificate = folder / "ca.key", folder / "ca.pem"
        self.run("req", "-x509", *NEW_KEY, self.key, "-subj", f"/CN={name}", "-days", 2, "-out", self.certificate)

    def run(self, *arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def signs(self, name, alternatives, start="20200101000000Z", end="20491231000000Z"):
        """A server's context whose certificate is for these names from `start` to `end`."""
        key, wish, certificate = (self.folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        self.run("req", "-new", *NEW_KEY, key, "-subj", f"/CN={name}", "-addext", f"subjectAltName={alternatives}", "-out", wish)
        self.run("ca", "-batch", "-notext", "-config", self.settings, "-cert", self.certificate, "-keyfile", self.key,
                 "-in", wish, "-out", certificate, "-startdate", start, "-enddate", end)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout")
OURS = "DNS:localhost,IP:127.0.0.1"


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="session")
def context(authority):
    return authority.signs("right", OURS)


@pytest.fixture
def secure(context):
    script = Script(tls=context)
    script.on("message", echo)
    yield script
    script.stop()


def echo(hook):
    return hook.body, {"Ws-To": "self"}


def serve(workers, url, authority, route="", top="", **options):
    return workers.serve(f'[[route]]\npath = "/ws"\napp = "{url}"\nca_file = "{authority.certificate}"\n{route}\n'
                         '[[route]]\npath = "/echo"\nhandler = "echo"\n', top=top, **options)


def opens(worker, version="rfc6455", path="/ws", **options):
    return Client(version, worker.address, path, **options)


def is_refused(worker, status=503):
    with pytest.raises(Refused) as refused:
        opens(worker)
    assert refused.value.answer.status == status


# -- who is believed

@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_hooks_go_to_an_app_that_is_who_it_should_be(workers, authority, context, secure, host, version):
    asked_for = []
    context.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    worker = serve(workers, f"https://{host}:{secure.port}/ws", authority)
    with opens(worker, version) as client:
        client.send("こんにちは")
        assert client.receive() == "こんにちは"
    secure.wait("closed")
    context.sni_callback = None
    assert set(asked_for) == {host if host == "localhost" else None}, "a name is asked for, an address never"
    assert {protocol for _, protocol, _ in secure.agreed} == {"http/1.1"}
    assert secure.hooks[0]["host"] == f"{host}:{secure.port}"


def test_what_the_machine_trusts_is_believed(workers, authority, secure):
    route = f'[[route]]\npath = "/ws"\napp = "{secure.url}"\n'
    env = {"SSL_CERT_FILE": str(authority.certificate), "SSL_CERT_DIR": "/nonexistent"}
    with opens(workers.serve(route, env=env)) as client:
        client.send("x")
        assert client.receive() == "x"


def test_where_a_file_is_named_the_machine_is_not_asked(workers, authority, secure, tmp_path):
    other = Authority(tmp_path / "other")  # Of the same name, but with another key.
    worker = serve(workers, secure.url, other, env={"SSL_CERT_FILE": str(authority.certificate)})
    is_refused(worker)
    worker.wait_for_log("nobody trusted has signed")


@pytest.mark.parametrize("kind, said", [
    ("another name", "is for another host"), ("an address only", "is for another host"), ("no name", "is for another host"),
    ("expired", "not valid at this time"), ("not yet valid", "not valid at this time"),
    ("an unknown authority", "nobody trusted has signed")])
def test_whoever_is_not_the_app_gets_no_hook(workers, authority, tmp_path, kind, said):
    signer = Authority(tmp_path / "other", "Another authority") if kind == "an unknown authority" else authority
    name = kind.replace(" ", "-")
    context = {"another name": lambda: signer.signs(name, "DNS:other.example"),
               "an address only": lambda: signer.signs(name, "IP:127.0.0.1"),
               "no name": lambda: signer.signs("localhost", "email:somebody@localhost"),
               "expired": lambda: signer.signs(name, OURS, end="20210101000000Z"),
               "not yet valid": lambda: signer.signs(name, OURS, start="20480101000000Z"),
               "an unknown authority": lambda: signer.signs(name, OURS)}[kind]()
    imposter = Script(tls=context)
    try:
        worker = serve(workers, f"https://localhost:{imposter.port}/ws", authority)
        is_refused(worker)
        worker.wait_for_log(said)
        assert not imposter.hooks
        with opens(worker, path="/echo") as client:
            client.send("still here")
            assert client.receive() == "still here"
    finally:
        imposter.stop()


def test_what_speaks_no_tls_gets_no_hook(workers, authority, script):
    worker = serve(workers, script.url.replace("http:", "https:"), authority)
    is_refused(worker)
    worker.wait_for_log("what answers there speaks none")
    assert not script.hooks


def test_an_app_that_wants_tls_hears_no_http(workers, authority, secure):
    worker = workers.serve(f'[[route]]\npath = "/ws"\napp = "{secure.url.replace("https:", "http:")}"\n')
    is_refused(worker)


def test_old_tls_is_spoken_down_to_1_2_and_not_below(workers, authority):
    context = authority.signs("old", OURS)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    old = Script(tls=context).on("message", echo)
    try:
        with opens(serve(workers, old.url, authority)) as client:
            client.send("x")
            assert client.receive() == "x"
        assert {version for version, _, _ in old.agreed} == {"TLSv1.2"}
    finally:
        old.stop()


def test_a_reload_reads_whom_to_believe_anew(workers, authority, secure, tmp_path):
    other, file = Authority(tmp_path / "other"), tmp_path / "ca.pem"
    file.write_bytes(authority.certificate.read_bytes())
    worker = workers.serve(f'[[route]]\npath = "/ws"\napp = "{secure.url}"\nca_file = "{file}"\n', top="threads = 1")

    def reload():
        said = worker.log.count('"reloaded')
        worker.child.send_signal(signal.SIGHUP)
        wait_for(lambda: worker.log.count('"reloaded') > said, "the reload")
    with opens(worker) as client:
        reload()
        client.send("the same")
        assert client.receive() == "the same"
        assert len(secure.connections) == 1, "nothing has changed, so the connection is kept"
        file.write_bytes(other.certificate.read_bytes())
        reload()
        is_refused(worker)
        file.write_bytes(authority.certificate.read_bytes())
        reload()
        client.send("believed again")
        assert client.receive() == "believed again"


# -- time

def test_a_handshake_that_hangs_has_the_deadline_of_an_answer(workers, authority):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/ws"
        worker = serve(workers, url, authority, 'hook_timeout = "300ms"')
        with opens(worker, path="/echo") as other:
            waiting = threading.Thread(target=is_refused, args=(worker,))
            waiting.start()
            hung, _ = silent.accept()
            assert hung.recv(1), "the ClientHello, and nothing after it"
            for n in range(10):
                other.send(str(n))
                assert other.receive() == str(n), "nobody else waits"
            waiting.join(10)
            assert not waiting.is_alive()
        worker.wait_for_log("does not answer in time")
        hung.settimeout(10)
        while hung.recv(4096):
            pass  # The worker hangs up.
        hung.close()


def test_a_slow_handshake_is_waited_for(workers, authority, context):
    """Longer than a loopback is given to take a connection, and longer than that it is not mistaken for a crowded one."""
    gate = threading.Event()

    class Late(ssl.SSLContext):
        def wrap_socket(self, *arguments, **options):
            gate.wait(10)
            return context.wrap_socket(*arguments, **options)
    script = Script(tls=Late(ssl.PROTOCOL_TLS_SERVER)).on("message", echo)
    try:
        worker = serve(workers, script.url, authority)
        opened = []
        opening = threading.Thread(target=lambda: opened.append(opens(worker)))
        opening.start()
        opening.join(0.5)
        gate.set()
        opening.join(10)
        opened[0].send("x")
        assert opened[0].receive() == "x"
        assert len(script.connections) == 1, "it was not called again meanwhile"
    finally:
        script.stop()


# -- nothing is lost, and nothing is paid twice

def test_connections_are_kept(workers, authority, secure):
    worker = serve(workers, secure.url, authority, "concurrency = 1", "threads = 1")
    with opens(worker) as one, opens(worker) as two:
        for n in range(20):
            for client in (one, two):
                client.send(str(n))
                assert client.receive() == str(n)
    secure.wait("closed", 2)
    assert len(secure.connections) == 1


def test_a_session_is_taken_up_again(workers, authority, secure):
    secure.on("message", lambda hook: (hook.body, {"Ws-To": "self", "Connection": "close"}))
    with opens(serve(workers, secure.url, authority, 'concurrency = 1')) as client:
        for n in range(5):
            client.send(str(n))
            assert client.receive() == str(n)
        # The handshake's connection carries the first message too, then each has one of its own.
        assert [reused for _, _, reused in secure.agreed] == [False, True, True, True, True]


@pytest.mark.parametrize("size", [16_383, 16_384, 100_000, 1_000_000])  # Around a record; more than a socket takes at once.
def test_long_messages_pass_both_ways(workers, authority, secure, size):
    text = "0123456789abcdef" * (size // 16) + "x" * (size % 16)
    with opens(serve(workers, secure.url, authority, 'max_hook_answer = "2MiB"')) as client:
        for _ in range(2):
            client.send(text)
            assert client.receive() == text


def test_many_sockets_on_two_threads(workers, authority, secure):
    worker = serve(workers, secure.url, authority, "concurrency = 8", "threads = 2")
    clients = [opens(worker) for _ in range(30)]
    for n in range(5):
        for client in clients:
            client.send(str(n))
    for client in clients:
        assert [client.receive() for _ in range(5)] == list("01234")
    for client in clients:
        client.leave()
    secure.wait("closed", 30)


EOF_DELIMITED = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nWs-To: self\r\n\r\nall of it"


def test_an_answer_that_ends_with_the_session_is_whole(workers, authority, secure):
    secure.on("message", lambda _hook: EOF_DELIMITED)
    with opens(serve(workers, secure.url, authority)) as client:
        client.send("x")
        assert client.receive() == "all of it"
    assert len(secure.of("message")) == 1


def test_an_answer_that_somebody_may_have_cut_is_none(workers, authority, secure):
    secure.says_goodbye = False
    left = [EOF_DELIMITED, EOF_DELIMITED[:-3]]
    secure.on("message", lambda hook: left.pop() if left else echo(hook))
    with opens(serve(workers, secure.url, authority)) as client:
        client.send("x")
        assert client.receive() == "x"
    attempts = secure.of("message")
    assert [hook["ws-attempt"] for hook in attempts] == [None, "2", "3"]
    assert len({hook.key for hook in attempts}) == 1


def test_an_app_that_returns_is_found_again(workers, authority, secure):
    with opens(serve(workers, secure.url, authority)) as client:
        client.send("before")
        assert client.receive() == "before"
        secure.stop()
        client.send("meanwhile")
        secure.listen()
        assert client.receive() == "meanwhile"


def test_no_descriptor_is_left_behind(workers, authority, tmp_path):
    imposter = Script(tls=Authority(tmp_path / "other").signs("imposter", OURS))
    try:
        worker = serve(workers, imposter.url, authority)
        before = worker.descriptors()
        for _ in range(3):
            is_refused(worker)
        wait_for(lambda: worker.descriptors() <= before, "the connections that came to nothing to be closed")
    finally:
        imposter.stop()


# -- what is written wrongly

@pytest.mark.parametrize("content, said", [
    (None, "cannot be read"), ("", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\nAAAA\n", "broken PEM"),
    ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "makes no sense")])
def test_a_file_without_authorities_stops_the_start(tmp_path, content, said):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    done = command("serve", "--listen", f"127.0.0.1:{free_port()}", "--app", "https://127.0.0.1/ws", "--ca-file", path)
    assert done.returncode == 78 and said in done.stderr and "ca-file" in done.stderr, done.stderr


def test_a_machine_that_trusts_nobody_stops_the_start(tmp_path):
    empty = tmp_path / "none.pem"
    empty.touch()
    environment = {**os.environ, "SSL_CERT_FILE": str(empty), "SSL_CERT_DIR": str(tmp_path / "none")}
    from support import WORKER
    done = subprocess.run([WORKER, "check", "--config", "/dev/stdin"], input='app = "https://127.0.0.1/ws"\n', capture_output=True,
                          text=True, env=environment, timeout=10)
    assert done.returncode == 78 and "ca-certificates" in done.stderr, (done.stdout, done.stderr)
