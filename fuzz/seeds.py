#!/usr/bin/env python3
"""Writes the seed corpora from the vectors of ws-proto: corpus/<target>/<name>, two bytes of dials in front.

The dials are described beside each oracle in ws-proto/tests/oracles. Run it again when vectors were added; what fuzzing
found stays (its files are named by hash).
"""

import hashlib
import pathlib
import re

# The answer to the keys that the oracle's client draws for hixie-76.
PROOF = bytes.fromhex("8b63cd0b8aba81f8a90ed58c168e10a6")

here = pathlib.Path(__file__).resolve().parent
vectors = here.parent / "ws-proto" / "tests" / "vectors"


def write(target, name, data):
    folder = here / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    (folder / name).write_bytes(data)


def hex_words(text):
    """Hex with spaces; `20*ff` is twenty bytes. Long runs are cut: a seed is to be small."""
    data = b""
    for word in text.split():
        count, star, digits = word.partition("*")
        data += bytes.fromhex(digits) * min(int(count), 400) if star else bytes.fromhex(word)
    return data


def streams():
    for path in sorted((vectors / "connection").glob("*.txt")):
        version, client, data, limit, agreed = "rfc6455", False, b"", None, None
        for line in path.read_text().splitlines():
            word, _, rest = line.partition(" ")
            if word == "version":
                version = rest
            elif word == "client":
                client = True
            elif word == "max_message":
                limit = int(rest)
            elif word == "deflate":
                agreed = rest
            elif word == "in":
                data += hex_words(rest)
        small = limit is not None
        name = path.stem
        if agreed is not None:
            dials = ("server_no" in agreed) | ("client_no" in agreed) << 1 | client << 4 | (2 if small else 0) << 5
            write("deflate", name, bytes([dials, 0, 0]) + data)
            write("deflate", name + "-cut", bytes([dials, 7, 0]) + data)
            continue
        if version.startswith("hixie"):
            dials = (version == "hixie-76") | client << 1 | (2 if small else 0) << 2
            write("hixie", name, bytes([dials, 0]) + data)
            write("hixie", name + "-cut", bytes([dials ^ 1, 7]) + data)
            continue
        number = {"rfc6455": 0, "hybi-08": 1, "hybi-07": 2}[version]
        dials = number | client << 2 | (3 if small else 0) << 3
        write("hybi", name, bytes([dials, 0]) + data)
        write("hybi", name + "-cut", bytes([dials | 1 << 5, 7]) + data)
        if version == "rfc6455":
            write("differential", name, bytes([client, 0]) + data)


def unescape(text):
    def replace(found):
        code = found.group(1)
        known = {"r": b"\r", "n": b"\n", "0": b"\0", "t": b"\t", "\\": b"\\"}
        return (known.get(code) or bytes.fromhex(code[1:])).decode("latin-1")

    return re.sub(r"\\(x[0-9a-fA-F]{2}|.)", replace, text.encode().decode("latin-1")).encode("latin-1")


def handshakes():
    for path in sorted((vectors / "handshake").glob("*.txt")):
        for case in path.read_text().split("\n# ")[1:]:
            title, *lines = case.splitlines()
            data, dials = b"", 0
            for line in lines:
                word, _, rest = line.partition(" ")
                if word == ">":
                    data += unescape(rest) + b"\r\n"
                elif word == ">|":
                    data += unescape(rest)
                elif word in (">hex", ">rest"):
                    data += bytes.fromhex(rest)
                elif word == "!":
                    key = rest.split(" ")[0]
                    dials |= {"secure": 1 << 2, "host": 1 << 3, "header": 1 << 3, "versions": 1 << 7}.get(key, 0)
                    dials |= 1 << 1 if key.startswith("max-") else 0
            if len(data) > 4_000:
                continue
            write("handshake", f"{path.stem}-{title}", bytes([dials, 0]) + data)
            if "= open" in lines and title.startswith(("the ", "worked challenge 1", "an ")):
                for decision in (1, 2, 3):
                    write("handshake", f"{path.stem}-{title}-{decision}", bytes([dials | decision << 4, 9]) + data)


def answers():
    """Right answers to the client of the oracle, whose keys never change."""
    from base64 import b64encode

    key = b64encode(b"\x5a" * 16)
    accept = b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    for version, number in (("hybi-07", 2), ("hybi-08", 3), ("rfc6455", 4)):
        for named in (0, 1):
            head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
            head.append(f"Sec-WebSocket-Accept: {accept}")
            head += ["Sec-WebSocket-Protocol: chat"] * named
            data = "\r\n".join([*head, "", ""]).encode() + b"\x81\x02hi"
            write("handshake", f"client-{version}-{named}", bytes([1 | number << 1 | named << 6, 0]) + data)
    for number, extension in (
        (6, "permessage-deflate; server_no_context_takeover"),
        (6, "permessage-deflate; server_no_context_takeover; client_max_window_bits=9"),
        (7, "permessage-deflate; server_max_window_bits=10; client_no_context_takeover"),
        (7, "permessage-deflate; server_max_window_bits=\"12\""),
    ):
        head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        head += [f"Sec-WebSocket-Accept: {accept}", f"Sec-WebSocket-Extensions: {extension}", "", ""]
        write("handshake", f"client-{number}-{extension}", bytes([1 | number << 1, 0]) + "\r\n".join(head).encode())
    for number, prefix, words in ((0, "", "Web Socket"), (1, "Sec-", "WebSocket")):
        for named in (0, 1):
            head = [f"HTTP/1.1 101 {words} Protocol Handshake", "Upgrade: WebSocket", "Connection: Upgrade"]
            head += [f"{prefix}WebSocket-Origin: http://example.com"] * named
            head.append(f"{prefix}WebSocket-Location: ws://example.com/chat?x")
            head += [f"{prefix}WebSocket-Protocol: chat"] * named
            data = "\r\n".join([*head, "", ""]).encode()
            data += PROOF if number else b""
            dials = 1 | number << 1 | named << 6
            write("handshake", f"client-hixie-{75 + number}-{named}", bytes([dials, 0]) + data + b"\0hi\xff")
            write("handshake", f"client-hixie-{75 + number}-{named}-relaxed", bytes([dials | 32, 5]) + data)
    for status in ("200 OK", "302 Found", "403 Forbidden", "426 Upgrade Required"):
        data = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno".encode()
        write("handshake", f"client-status-{status}", bytes([1 | 4 << 1, 3]) + data)


def compressed():
    """Payloads as zlib writes them, and messages to send."""
    import zlib

    texts = [b"", b"Hello", b"abc" * 200, bytes(range(256)) * 3, b"\0" * 3_000, "aé日😀".encode() * 50]
    for number, text in enumerate(texts):
        for name, level, strategy in (("stored", 0, 0), ("fixed", 9, zlib.Z_FIXED), ("best", 9, 0)):
            compress = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
            data = compress.compress(text) + compress.flush(zlib.Z_SYNC_FLUSH)
            if len(data) > 1_000:
                continue
            write("deflate", f"payload-{number}-{name}", bytes([3, number, 1]) + data.removesuffix(b"\0\0\xff\xff"))
            write("deflate", f"payload-{number}-{name}-text", bytes([0, 3, 2]) + data.removesuffix(b"\0\0\xff\xff"))
    for dials in range(0, 64, 3):
        messages = b"".join(bytes([times, how, 5]) + b"hello" for times in (1, 40, 200) for how in (0, 2, 4, 9, 3, 16))
        write("deflate", f"messages-{dials}", bytes([dials, dials, 3]) + messages)


def conversations():
    """The bytes of an `Arbitrary` plan mean nothing to the eye: these are any, with every version and flag."""
    for version in range(5):
        for seed in range(16):
            data, block = b"", hashlib.sha256(bytes([version, seed])).digest()
            while len(data) < 40 + 40 * seed:
                data, block = data + block, hashlib.sha256(block).digest()
            write("operations", f"plan-{version}-{seed}", bytes([version]) + data)


def lengths():
    """Lengths of hixie with more digits than fit, where twenty are allowed."""
    for digits in (8, 9, 10, 11, 19, 20, 21):
        write("hixie", f"digits-{digits}", bytes([1 | 3 << 4, 0, 0x80]) + b"\x83" * (digits - 1) + b"\x05\0a\xff")


streams()
lengths()
handshakes()
answers()
compressed()
conversations()
