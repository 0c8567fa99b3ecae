"""Rows of ws-worker/docs/ancestry.md that no other test shows."""

import pytest

from wire import VERSIONS, Client, Refused


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("version", ["hixie-75", "hixie-76"])
def test_the_location_is_wss_behind_a_trusted_proxy_only(workers, version, trusted):
    worker = workers.serve('[[route]]\npath = "/"\nhandler = "echo"',
                           top='trusted_proxies = ["127.0.0.1"]' if trusted else "")
    headers = [("X-Forwarded-Proto", "https")]
    # The client compares the answer's Location with the URL that it asked for.
    with Client(version, worker.address, "/a?b", host="www.example.org", headers=headers,
                scheme="wss" if trusted else "ws") as client:
        client.send("open")
        assert client.receive() == "open"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_app_may_decide_by_origin(workers, script, version):
    script.on("handshake", lambda hook: 204 if hook["ws-origin"] == "http://localhost" else 403)
    worker = workers.serve(f'[[route]]\npath = "/"\napp = "{script.url}"')
    Client(version, worker.address, "/", origin="http://localhost").close()
    with pytest.raises(Refused) as refused:
        Client(version, worker.address, "/", origin="http://elsewhere.example")
    assert refused.value.status == 403


def test_all_are_those_of_the_route(workers, scripts):
    red, blue = scripts(), scripts()
    for script in (red, blue):
        script.on("message", lambda hook: (hook.body, {"Ws-To": "all"}))
    worker = workers.serve(f'[[route]]\npath = "/red"\napp = "{red.url}"\n[[route]]\npath = "/blue"\napp = "{blue.url}"')
    reds = [Client(version, worker.address, "/red") for version in ("rfc6455", "hixie-75")]
    blues = [Client(version, worker.address, "/blue") for version in ("rfc6455", "hixie-76")]
    reds[0].send("red")
    assert [client.receive() for client in reds] == ["red", "red"]
    blues[0].send("blue")
    # What was said before on the other route did not come.
    assert [client.receive() for client in blues] == ["blue", "blue"]
