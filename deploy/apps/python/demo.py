"""The demo of TyphoonAE's WebSocket guide, with nothing but Python's own library.

    python3 demo.py 8080 &
    ws-worker serve --listen 127.0.0.1:8888 --app http://127.0.0.1:8080 --dialect typhoonae --control unix:/tmp/control.sock

and WS_CONTROL=unix:/tmp/control.sock in the environment of this program. Then http://localhost:8080/?user=yuki
"""

import base64
import html
import sys
from socketserver import ThreadingMixIn
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from typhoonae import websocket

PAGE = """<!doctype html><meta charset=utf-8><title>WebSocket</title>
<form onsubmit="ws.send(this.text.value); this.text.value = ''; return false"><input name=text autofocus></form><pre id=log></pre>
<script>
var ws = new (window.WebSocket || window.MozWebSocket)("%s"); // Firefox 6 to 10 called it so.
ws.onmessage = function (event) { document.getElementById("log").textContent += event.data + "\\n"; };
</script>"""


def page(environ):
    user = parse_qs(environ.get("QUERY_STRING", "")).get("user", ["somebody"])[0]
    # The success path comes back with every event: the closed handler will know who left.
    url = websocket.create_websocket_url("/" + base64.urlsafe_b64encode(user.encode()).decode())
    return PAGE % html.escape(url)


def handshake(message, path):
    websocket.send_message([message.socket], "Received handshake.")


def received(message, path):
    websocket.send_message([message.socket], 'Received: "%s"' % message.body)


def closed(message, path):
    user = base64.urlsafe_b64decode(path).decode()
    websocket.broadcast_message("%s has left the building" % user)


HANDLERS = {"handshake": handshake, "message": received, "closed": closed}


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/" and environ["REQUEST_METHOD"] == "GET":
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [page(environ).encode()]
    _, _, rest = path.partition("/_ah/websocket/")
    event, _, success_path = rest.partition("/")
    if event not in HANDLERS:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"nothing here\n"]
    HANDLERS[event](websocket.Message(environ), success_path)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return []


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    make_server("127.0.0.1", port, app, Server, WSGIRequestHandler).serve_forever()
