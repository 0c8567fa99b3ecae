"""The checker itself: logs that break one rule each. A checker that cannot find fault proves nothing."""

from apps import Hook
from checker import Talker, violations


def hook(key, body=b"", status=200, attempt=1, at=0.0, **fields):
    headers = {"ws-event": "message" if key.isdecimal() else key, "ws-socket": "S", "idempotency-key": f"S/{key}",
               "ws-resource": "/ws?c=7", "ws-boot": "B", "content-type": "text/plain; charset=utf-8"}
    if attempt > 1:
        headers["ws-attempt"] = str(attempt)
    made = Hook({**headers, **fields}, body)
    made.at, made.status = at, status
    made.answered_at = at + 0.01
    return made


def closed(lost=0, code="1000", by="client", **options):
    return hook("closed", at=9.0, **{"ws-undelivered": str(lost), "ws-close-code": code, "ws-closed-by": by, "ws-clean": "1",
                                     **options})


def talker(sent=("a", "b", "c"), heard=None, status=101, polite=True):
    made = Talker(None, 7, "rfc6455")
    made.sent, made.heard = list(sent), list(sent if heard is None else heard)
    made.status, made.polite = status, polite
    return made


def story(*middle):
    return [hook("handshake"), *middle, closed()]


A, B, C = hook("1", b"a", at=1.0), hook("2", b"b", at=2.0), hook("3", b"c", at=3.0)


def finds(words, hooks, client=None, **options):
    wrong = violations(hooks, [client or talker()], **options)
    assert any(words in line for line in wrong), wrong


def test_what_is_right_is_found_right():
    assert violations(story(A, B, C), [talker()]) == []
    again = hook("2", b"b", status=503, at=1.5), hook("2", b"b", attempt=2, at=2.0)
    assert violations(story(A, *again, C), [talker()]) == []
    unknown = hook("2", b"b", status=None, at=1.5), hook("2", b"b", attempt=3, at=2.0)
    assert violations(story(A, *unknown, C), [talker()]) == []


def test_gaps_reorders_and_duplicates_are_found():
    finds("a gap", story(A, C), talker(["a", "b", "c"], ["a"]))
    finds("out of order", story(A, B, A, C))
    finds("repeated though answered", story(A, hook("1", b"a", attempt=2, at=1.5), B, C))
    finds("attempt 1 after 1", story(hook("1", b"a", status=503, at=0.5), A, B, C))
    finds("not what was sent", story(A, hook("2", b"x", at=2.0), C))
    finds("another body", story(hook("1", b"x", status=503, at=0.5), hook("1", b"a", attempt=2, at=1.0), B, C))
    finds("though 1 was answered 503", story(hook("1", b"a", status=503, at=1.0), B, C))
    finds("in flight", story(hook("1", b"a", at=2.5), hook("2", b"b", at=2.0), C))


def test_what_was_lost_in_silence_is_found():
    finds("3 sent, 2 answered, 0 undelivered", story(A, B), talker(heard=["a", "b"]))
    assert violations([hook("handshake"), A, hook("2", b"b", status=503, at=2.0), closed(2)],
                      [talker(heard=["a"], polite=True)])[0].startswith("waited for 3")
    finds("heard something else", story(A, B, C), talker(heard=["a", "c"]))
    finds("waited for 3, heard 2", story(A, B, C), talker(heard=["a", "b"]))


def test_a_handshake_comes_first_unless_it_was_given_up():
    first = hook("closed", at=9.55, **{"ws-undelivered": "0", "ws-close-code": "1006"})
    wrong, client = [first, hook("handshake", at=9.6)], talker([], status=503)
    for client.began in (None, 0.5):
        finds("before the handshake", wrong, client)
        finds("after closed", wrong, client)
    client.began = 0.0  # More than nine and a half seconds: the worker may have answered 503 before the app did.
    assert violations(wrong, [client]) == []
    client.status = 101  # It did not.
    finds("before the handshake", wrong, client)


def test_closed_is_counted():
    finds("no closed", [hook("handshake"), A, B, C])
    finds("after closed", [hook("handshake"), A, B, closed(), C])
    finds("closed, though its handshake was answered 403", [hook("handshake", status=403), closed()], talker([], status=403))
    finds("given up", [hook("handshake"), A, B, C, closed(status=503)])
    finds("one thing and then another", [hook("handshake"), A, B, C, closed(status=503), closed(1, attempt=2)])
    finds("2 handshakes", [hook("handshake"), *story(A, B, C)])
    finds("never saw", [closed()], talker([], status=503))
    unseen = closed(code="1006", **{"ws-clean": "0"})
    assert violations([unseen], [talker([], status=503)]) == []
    assert violations([hook("handshake", status=None), unseen], [talker([], status=503)]) == []
    finds("no closed", [hook("handshake", status=None)], talker([], status=503))


def test_a_kill_excuses_a_repetition_and_an_unknown_loss_and_no_more():
    lost = {"ws-undelivered": None, "ws-close-code": "1006", "ws-clean": "0", "ws-boot": "C"}
    assert violations([hook("handshake"), A, closed(**lost)], [talker(heard=[], polite=False)], kills=1) == []
    finds("does not say what was lost", [hook("handshake"), A, closed(**lost)], talker(heard=[], polite=False))
    finds("a gap", [hook("handshake"), A, C, closed(**lost)], talker(heard=[], polite=False), kills=1)


def test_too_much_at_once_is_found():
    finds("2 hooks at once", [*story(A, B, C), *story(hook("1", b"a", at=1.005))], concurrency=1)


def test_a_client_that_is_in_without_a_yes_is_found():
    finds("no app said yes", [])
    finds("in, though the app said 403", [hook("handshake", status=403)])
    finds("though the app said yes", [hook("handshake"), closed(code="1006")], talker([], status=503))
