"""The tests' real app in Flask: does what the first word of a message says, and remembers every hook it saw.

room.js is the same app in Node; the tests run against both.  python room.py PORT
"""

import sys

from flask import Flask, jsonify, request

app = Flask(__name__)
seen = []


@app.get("/seen")
def list_seen():
    """The hooks of one test: each puts run=NAME into its URL."""
    return jsonify([hook for hook in seen if f"run={request.args['run']}" in hook["headers"].get("ws-resource", "")])


@app.post("/ws")
def hook():
    headers = {name.lower(): value for name, value in request.headers.items()}
    body = request.get_data()
    seen.append({"headers": headers, "body": body.decode("latin-1")})
    return EVENTS[headers["ws-event"]](headers, body)


def handshake(headers, _):
    asked = headers["ws-resource"]
    user = request.cookies.get("user")
    if "members" in asked and not user:
        return "who are you?", 401, {"WWW-Authenticate": 'Cookie realm="room"', "Set-Cookie": "from=room"}
    if "moved" in asked:
        return "", 302, {"Location": "http://elsewhere.example/"}
    answer = {"Set-Cookie": "visits=1; Path=/", "X-App": "room"}
    if user:
        answer["Ws-Set-Meta-User"] = user
    if "chat" in headers.get("ws-protocols", ""):
        answer["Ws-Protocol"] = "chat"
    if "greet" in asked:
        return "Received handshake.", answer | {"Ws-To": "self"}
    return "", answer


def message(headers, body):
    if headers["content-type"].startswith("application/octet-stream"):
        return body, {"Ws-To": "self", "Content-Type": "application/octet-stream"}
    verb, _, rest = body.decode().partition(" ")
    first, _, last = rest.partition(" ")
    return {
        "echo": lambda: (rest, {"Ws-To": "self"}),
        "all": lambda: (rest, {"Ws-To": "all"}),
        "others": lambda: (rest, {"Ws-To": "all", "Ws-Except": "self"}),
        "join": lambda: ("joined", {"Ws-Join": rest, "Ws-To": "self"}),
        "leave": lambda: ("left", {"Ws-Leave": rest, "Ws-To": "self"}),
        "to": lambda: (last, {"Ws-To": first}),
        "close": lambda: ("bye", {"Ws-Close": rest, "Ws-To": "self"}),
        "meta": lambda: ("stored", {f"Ws-Set-Meta-{first}": last, "Ws-To": "self"}),
        "show": lambda: (headers.get(rest.lower(), "-"), {"Ws-To": "self"}),
        "mute": lambda: ("nobody hears this", {}),
        "status": lambda: ("", int(rest), {}),
    }[verb]()


def closed(_headers, _body):
    return ""


EVENTS = {"handshake": handshake, "message": message, "closed": closed, "started": closed}

if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
