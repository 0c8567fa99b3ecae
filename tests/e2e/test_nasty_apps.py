"""Apps whose HTTP is odd, late, early, or cut where it hurts most, held against the checker: nothing lost, nothing told twice under
another key, nothing out of order. What such an app answers is right or can be repeated; only its manners are bad."""

import time

import pytest

from apps import Hook, Raw
from checker import Crowd, Unruly, check
from support import wait_for


def head(lines, status="200 OK"):
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode()


def fields(hook):
    """What makes an answer to this hook an echo, and its body."""
    if hook.event != "message":
        return "", b""
    return f"Ws-To: self\r\nContent-Type: {hook['content-type']}\r\n", hook.body


def whole(hook, more=""):
    lines, body = fields(hook)
    return head(f"{lines}{more}Content-Length: {len(body)}\r\n") + body


def chunked(hook):
    lines, body = fields(hook)
    pieces = [body[:1], body[1:7], body[7:]]
    chunks = b"".join(b"%X ;name=\"a;b\"\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return head(f"{lines}tRANSFER-eNCODING: Chunked\r\nTrailer: X-Sum\r\n") + chunks + b"000;last\r\nX-Sum: 1\r\nContent-Length: 5\r\n\r\n"


def odd(hook):
    lines, body = fields(hook)
    swapped = "".join(f"{name.swapcase()}:{value} \t\r\n" for name, value in
                      (line.split(":", 1) for line in f"{lines}Content-Length: {len(body)}".splitlines()))
    return head(swapped, "299 ") + body


# Answers that are right, each in its own way, on connections that go on.
RIGHT = {
    "byte by byte": lambda hook: Raw(whole(hook), 200, keeps=True, one_by_one=True),
    "chunked with extensions and trailers": lambda hook: Raw(chunked(hook), 200, keeps=True),
    "chunked, byte by byte": lambda hook: Raw(chunked(hook), 200, keeps=True, one_by_one=True),
    "100 first": lambda hook: Raw(head("", "100 Continue") + whole(hook), 200, keeps=True),
    "three times 100, byte by byte": lambda hook: Raw(head("X: y\r\n", "100 Continue") * 3 + whole(hook), 200, keeps=True, one_by_one=True),
    "names in odd cases": lambda hook: Raw(odd(hook), 299, keeps=True),
    "two answers in one write": lambda hook: Raw(whole(hook) + head("Content-Length: 0\r\n", "404 Not Found"), 200, keeps=True),
    "bytes behind the answer": lambda hook: Raw(whole(hook) + b"\r\n\r\n<!-- debug -->", 200, keeps=True),
    "says keep-alive and closes": lambda hook: Raw(whole(hook, "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"), 200),
    "HTTP/1.0 without a length": lambda hook: Raw(b"HTTP/1.0 200 OK\r\n" + b"\r\n".join([fields(hook)[0].encode(), fields(hook)[1]]), 200),
    "HTTP/1.0 that keeps": lambda hook: Raw(whole(hook, "Connection: Keep-Alive\r\n").replace(b"/1.1", b"/1.0", 1), 200, keeps=True),
}
# Answers that are none, so that the hook is told again.
WRONG = {
    "folded fields": lambda hook: Raw(head("X-Long: a\r\n b\r\nContent-Length: 0\r\n"), keeps=True),
    "two lengths": lambda hook: Raw(head("Content-Length: 0\r\nContent-Length: 0\r\n"), keeps=True),
    "a length and chunks": lambda hook: Raw(head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + b"0\r\n\r\n", keeps=True),
    "bare line feeds": lambda hook: Raw(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", keeps=True),
    "cut in a chunk": lambda hook: Raw(chunked(hook)[:-9]),
    "cut before the last feed": lambda hook: Raw(chunked(hook)[:-1]),
    "cut after 100": lambda hook: Raw(head("", "100 Continue")),
}


class Nasty(Unruly):
    """Answers in these ways, for this share of the hooks. `unread` of the hooks find their connection reset before they are read,
    `early` of them are answered 503 before."""

    ways, share, unread, early, resets = (), 1, 0, 0, 0

    def right(self, hook):
        if self.ways and self.random.random() < self.share:
            return self.random.choice(self.ways)(hook)
        return super().right(hook)

    def serve(self, request):
        kept, request.was_used = getattr(request, "was_used", False), True
        is_message = request.headers.get("ws-event") == "message"
        if kept and self.random.random() < self.unread:
            # Bytes that nobody reads make a reset of the end: exactly when the next request is written.
            request.close_connection = True
            self.resets += 1
            return
        if not (is_message and self.random.random() < self.early):
            return super().serve(request)
        hook = Hook({k.lower(): v for k, v in request.headers.items()}, b"", request.path, request.command)
        with self.lock:
            self.hooks.append(hook)
        request.wfile.write(head("Content-Length: 0\r\n", "503 Later"))
        request.wfile.flush()
        hook.answered_at, hook.status = time.monotonic(), 503
        length = int(request.headers["content-length"])
        try:
            hook.body = request.rfile.read(length)
        finally:
            if len(hook.body) < length:
                with self.lock:
                    self.hooks.remove(hook)  # The worker did not wait to be heard out.


@pytest.fixture
def app():
    app = Nasty(seed=7)
    yield app
    app.ways, app.unread, app.early = (), 0, 0
    app.stop()


def serve(workers, app, route=""):
    return workers.serve(f'[[route]]\npath = "/ws"\napp = "{app.url}"\n{route}', top="threads = 2")


@pytest.mark.parametrize("way", RIGHT)
def test_a_right_answer_is_understood_however_it_is_written(workers, app, way):
    app.ways = [RIGHT[way]]
    crowd = Crowd(serve(workers, app).address, 20, count=15)
    check(app, crowd.end())
    assert {hook["ws-attempt"] for hook in app.of("message")} <= {None, "2"}  # 2: a kept connection ended under it.
    assert {hook["ws-undelivered"] for hook in app.of("closed")} == {"0"}


@pytest.mark.parametrize("way", WRONG)
def test_after_an_answer_that_is_none_nothing_is_lost(workers, app, way):
    app.ways, app.share = [WRONG[way]], 0.3
    crowd = Crowd(serve(workers, app).address, 20, count=15, endings=["close", "fin"])
    # A handshake that may have been accepted is not repeated.
    check(app, crowd.end())
    assert {hook["ws-undelivered"] for hook in app.of("closed")} == {"0"}


def test_a_204_with_a_body_is_an_answer_and_its_body_reaches_nobody(workers, app):
    body = head("Content-Length: 5\r\n", "204 No Content") + b"HTTP/"
    for event in ("handshake", "closed"):
        app.on(event, lambda hook: Raw(body, 204, keeps=True))
    crowd = Crowd(serve(workers, app).address, 20, count=15)
    check(app, crowd.end())


def test_kept_connections_that_are_reset_as_the_next_request_is_written(workers, app):
    app.unread = 0.3
    # Handshakes are not repeated once a byte of theirs was written; the app has seen none of these.
    crowd = Crowd(serve(workers, app).address, 30, count=30, size=3000)
    check(app, crowd.end())
    assert app.resets > 10


def test_answers_that_come_before_the_request_was_read(workers, app):
    app.early = 0.3
    crowd = Crowd(serve(workers, app).address, 10, count=10, size=300_000)
    check(app, crowd.end())
    assert any(hook.status == 503 for hook in app.of("message"))
    assert {hook["ws-undelivered"] for hook in app.of("closed")} == {"0"}


def test_all_of_it_at_once(workers, app):
    app.ways, app.share = [*RIGHT.values(), *WRONG.values()], 0.5
    app.unread, app.early, app.fickle = 0.05, 0.05, 0.1
    crowd = Crowd(serve(workers, app).address, 60, count=25)
    check(app, crowd.end())


@pytest.mark.parametrize("ways", ["right", "wrong", "both"])
def test_at_most_once_is_at_most_once_with_such_an_app(workers, app, ways):
    app.ways = [*(RIGHT.values() if ways != "wrong" else []), *(WRONG.values() if ways != "right" else [])]
    app.share = 0.5 if ways == "right" else 0.05
    app.unread, app.fickle = 0.02, 0.1
    crowd = Crowd(serve(workers, app, 'retry = "unsent"').address, 40, count=25, patient=True)
    talkers = crowd.end()
    wait_for(lambda: len(app.of("closed")) >= sum(talker.status == 101 for talker in talkers), "every closed", 30)
    keys = [hook.key for hook in app.of("message")]
    assert len(keys) == len(set(keys)), "told twice"
