"""Delivery under load while something goes wrong: crowds of clients in the five versions, an app that misbehaves on command, and the
checker over both logs. The seed is in every failure's parameters; times are short, rules are those of hooks.md."""

import json
import time

import pytest

from checker import FINAL, MISBEHAVIOURS, PASSING, Crowd, Unruly, check
from support import wait_for


@pytest.fixture
def app():
    app = Unruly(seed=1)
    yield app
    app.behave()
    app.stop()


def serve(workers, app, route="", top="", **options):
    return workers.serve(f'[[route]]\npath = "/ws"\napp = "{app.url}"\n{route}', top=f"threads = 2\n{top}", **options)


def told(app, count, event="message"):
    """So many hooks of the event have come."""
    return wait_for(lambda: len(app.of(event)) >= count, f"{count} × {event}", 30)


def test_a_crowd_and_a_good_app(workers, app):
    worker = serve(workers, app)
    crowd = Crowd(worker.address, 50)
    check(app, crowd.end())
    assert len(app.of("closed")) == len(app.of("handshake")) == 50


def test_an_app_that_is_away_for_five_seconds(workers, app):
    worker = serve(workers, app)
    crowd = Crowd(worker.address, 50, count=60)
    told(app, 200)
    app.stop()
    time.sleep(5)  # The outage itself.
    app.listen()
    check(app, crowd.end())


def test_an_app_that_is_away_for_longer_than_anybody_waits(workers, app):
    worker = serve(workers, app, 'give_up = "1s"')
    crowd = Crowd(worker.address, 50, count=1000, endings=["stay"]).wait_open()
    app.stop()
    talkers = crowd.end()
    app.listen()
    check(app, talkers)
    assert {hook["ws-close-code"] for hook in app.of("closed")} == {"1013"}


def test_an_app_that_is_restarted_again_and_again(workers, app):
    worker = serve(workers, app)
    crowd = Crowd(worker.address, 50, count=60)
    for n in range(1, 6):
        told(app, 100 * n)
        app.stop()
        app.listen()
    check(app, crowd.end())


def test_a_slow_app_and_two_hundred_sockets(workers, app):
    app.behave("slow")
    worker = serve(workers, app, "concurrency = 16")
    crowd = Crowd(worker.address, 200, count=10)
    check(app, crowd.end(), concurrency=16)


@pytest.mark.parametrize("kind", PASSING)
def test_whatever_an_app_does_now_and_then_nothing_is_lost(workers, app, kind):
    worker = serve(workers, app, 'hook_timeout = "2s"')
    crowd = Crowd(worker.address, 30, count=30)
    told(app, 50)
    app.behave(kind, share=0.1 if kind == "silent" else 0.5)
    told(app, 500)
    app.behave()
    check(app, crowd.end(), hook_timeout=2)
    assert {hook["ws-undelivered"] for hook in app.of("closed")} == {"0"}


@pytest.mark.parametrize("kind", FINAL)
def test_what_no_repetition_can_mend_ends_the_socket_and_says_what_was_lost(workers, app, kind):
    worker = serve(workers, app)
    crowd = Crowd(worker.address, 30, count=1000, endings=["stay"]).wait_open()
    told(app, 200)
    app.behave(kind, events=["message"])
    talkers = crowd.end()
    app.behave()
    check(app, talkers)
    assert {hook["ws-close-code"] for hook in app.of("closed")} == {"1008" if kind == "404" else "1011"}


@pytest.mark.parametrize("kind", [kind for kind in MISBEHAVIOURS if kind != "silent"])
def test_handshakes_with_an_app_that_misbehaves_are_refused_or_closed(workers, app, kind):
    app.behave(kind, share=0.5, events=["handshake"])
    worker = serve(workers, app, 'hook_timeout = "2s"')
    crowd = Crowd(worker.address, 40, count=5)
    check(app, crowd.end(), hook_timeout=2)


def test_all_that_at_once(workers, app):
    worker = serve(workers, app, 'hook_timeout = "1s"\ngive_up = "3s"')
    crowd = Crowd(worker.address, 100, count=40)
    told(app, 100)
    app.fickle = 0.2
    app.behave(*MISBEHAVIOURS, share=0.2, events=["handshake", "message", "closed"])
    told(app, 1000)
    app.behave()
    check(app, crowd.end(), hook_timeout=1)


def test_kept_connections_that_end_when_it_suits_nobody(workers, app):
    app.fickle = 0.5
    worker = serve(workers, app)
    crowd = Crowd(worker.address, 50, count=40)
    for n in range(1, 20):
        told(app, 50 * n)
        app.cut(0.5, app.random)
    check(app, crowd.end())


def test_a_worker_that_ends_under_load_tells_everything(workers, app):
    worker = serve(workers, app, top='drain = "10s"')
    crowd = Crowd(worker.address, 60, count=1000, endings=["stay"]).wait_open()
    assert worker.terminate(timeout=30) == 0
    check(app, crowd.end(), timeout=1)
    assert {hook["ws-undelivered"] for hook in app.of("closed")} == {"0"}


def test_a_worker_that_ends_before_a_slow_app_knows_all_says_what_it_never_told(workers, app):
    worker = serve(workers, app, top='drain = "1s"')
    crowd = Crowd(worker.address, 60, count=1000, endings=["stay"]).wait_open()
    app.behave("silent", share=0.3)
    assert worker.terminate(timeout=30) == 0
    app.behave()
    check(app, crowd.end(), drained=True)
    missing = len(app.of("handshake")) - len({hook.socket for hook in app.of("closed") if hook.status == 200})
    lost = [json.loads(line)["closed"] for line in worker.lines if "still owed" in line]
    # What was on its way at the end may have been heard.
    assert missing <= sum(lost) <= missing + 32
