"""Asks the worker by its control API, over a unix socket in this folder. Nothing but Python's own library."""

import http.client
import socket
from pathlib import Path

CONTROL = Path(__file__).parent / "control.sock"


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(CONTROL))


def ask(method, path, body=None):
    """Returns the status and the text of the answer. Text goes as UTF-8."""
    connection = Connection("worker", timeout=10)
    try:
        connection.request(method, path, body.encode() if body else b"")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
