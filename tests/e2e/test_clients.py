"""Clients that we did not write: Debian's Protocol::WebSocket, PyPI's websockets, npm's ws of today, of 2016 and of 2014."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

from support import CACHE

HERE = Path(__file__).parent / "clients"
TEXTS = ["", "hello", "こんにちは 😀", "x" * 125, "x" * 126, "y" * 70_000, "あ" * 300_000]


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=20, **options)
    assert done.returncode == 0 and done.stdout.startswith("echoed 105"), done.stdout + done.stderr


@pytest.mark.parametrize("version", ["hixie-75", "hixie-76", "hybi-08", "rfc6455"])
def test_perls_protocol_websocket(demo, version):
    run("perl", HERE / "echo.pl", version, *demo.address, "/echo?x=1")


@pytest.mark.parametrize("module, version", [("ws", 13), ("ws-1", 13), ("ws-1", 8), ("ws-0", 13), ("ws-0", 8)])
def test_nodes_ws(demo, module, version):
    run("node", HERE / "echo.js", module, "ws://%s:%d/echo" % demo.address, version,
        env={**os.environ, "NODE_PATH": str(CACHE / "npm" / "node_modules")})


def url(worker, path="/echo"):
    return "ws://%s:%d%s" % (*worker.address, path)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_pythons_websockets(demo, compression):
    with connect(url(demo), compression=compression, max_size=None) as client:
        for message in [*TEXTS, b"", bytes(range(256)) * 1000]:
            client.send(message)
            assert client.recv(10) == message
        client.send(["in ", "several ", "pieces ", "語"])
        assert client.recv(10) == "in several pieces 語"
        assert client.ping().wait(10)
    assert client.close_code == 1000


@pytest.mark.parametrize("options", [
    {}, {"client_no_context_takeover": True}, {"server_no_context_takeover": True}, {"server_max_window_bits": 9},
    {"client_max_window_bits": 9}, {"client_max_window_bits": True}])
def test_compression_is_agreed_on_as_the_client_wants_it(demo, options):
    with connect(url(demo), compression=None, extensions=[ClientPerMessageDeflateFactory(**options)], max_size=None) as client:
        for text in TEXTS * 2:
            client.send(text)
            assert client.recv(10) == text


def test_a_thousand_small_messages_in_one_go(demo):
    async def talk():
        async with websockets.connect(url(demo)) as client:
            texts = [str(n) for n in range(1000)]
            for text in texts:
                await client.send(text)
            assert [await client.recv() for _ in texts] == texts
    asyncio.run(asyncio.wait_for(talk(), 20))


def test_a_hundred_pythons_chat(demo):
    async def talk():
        clients = await asyncio.gather(*(websockets.connect(url(demo, "/chat")) for _ in range(100)))
        await clients[0].send("to all")
        assert await asyncio.gather(*(client.recv() for client in clients)) == ["to all"] * 100
        await asyncio.gather(*(client.close() for client in clients))
    asyncio.run(asyncio.wait_for(talk(), 20))
