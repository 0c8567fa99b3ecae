"""A client of the control API that says nothing it was not told to say: one raw HTTP request a connection."""

import json
from urllib.parse import quote

from wire import Stream


class Control:
    def __init__(self, address, token=None):
        self.address, self.token = address, token

    def raw(self, request, timeout=10):
        stream = Stream(self.address, timeout)
        try:
            stream.write(request)
            return stream.answer()
        finally:
            stream.close()

    def call(self, method, path, body=None, headers=(), host="control"):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
        if self.token:
            lines.append(f"Authorization: Bearer {self.token}")
        data = b"" if body is None else body if isinstance(body, bytes) else body.encode()
        if body is not None or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(data)}")
        lines += [f"{name}: {value}" for name, value in headers]
        return self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    def json(self, method, path, body=None, **options):
        answer = self.call(method, path, body, **options)
        assert answer.status == 200, (answer.status, answer.body)
        assert answer.get("content-type").startswith("application/json")
        return json.loads(answer.body)

    def sockets(self, query=""):
        """What `GET /sockets` lists: the entries, whatever the list's key is called."""
        listed = self.json("GET", f"/sockets{query}")
        return listed["sockets"] if isinstance(listed, dict) else listed

    def ids(self, query=""):
        return [entry["id"] if isinstance(entry, dict) else entry for entry in self.sockets(query)]


def encoded(text):
    return quote(text, safe="")
