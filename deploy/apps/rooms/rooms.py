"""Rooms for people who are logged in: a group is a room, everybody sees who else is there, and news come from outside.

Pages and hooks share one address here, so every hook's signature is checked. Who is where stands in a small database: the app may
be restarted or have many processes while the sockets stay open. How to run it: deploy/README.md.
"""

import base64
import hmac
import json
import sqlite3
import time
from pathlib import Path

from flask import Flask, abort, redirect, render_template, request, session

import worker

HERE = Path(__file__).parent
SECRET = (HERE / "hook.secret").read_bytes().strip()
ROOMS = ["red", "blue"]

app = Flask(__name__)
app.secret_key = hmac.digest(SECRET, b"cookies", "sha256")
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"


# -- pages

@app.get("/")
def home():
    if "user" not in session:
        return render_template("login.html")
    return render_template("room.html", user=session["user"], rooms=ROOMS)


@app.post("/login")
def login():
    session["user"] = request.form["user"].strip()[:20] or "somebody"  # A real app asks for a password here.
    return redirect("/")


@app.post("/logout")
def logout():
    user = session.pop("user", None)
    for (id,) in database().execute("SELECT socket FROM present WHERE user = ?", [user]):
        worker.ask("DELETE", f"/sockets/{id}?code=4001&reason=logged%20out")  # The handshake's cookie would do for ever.
    return redirect("/")


# -- hooks

@app.post("/hook/")
@app.post("/hook/<room>")
def hook(room=None):
    if not is_from_the_worker(request.headers, request.get_data(), SECRET):
        abort(403)
    return {"started": started, "handshake": handshake, "message": message, "closed": closed}[request.headers["Ws-Event"]](room)


def started(_room):
    forget_earlier_lives()
    return ""


def handshake(room):
    if "user" not in session:
        abort(401)  # The worker passes the browser's cookie on, so this is the session of the page.
    if room not in ROOMS:
        abort(404)
    forget_earlier_lives()  # `started` may come later than this, if the app was away.
    id, boot = request.headers["Ws-Socket"], request.headers["Ws-Boot"]
    everybody = who_is_there(room, "INSERT OR REPLACE INTO present VALUES (?, ?, ?, ?)", [id, boot, session["user"], room])
    return everybody, {"Ws-Join": room, "Ws-To": room}


def message(room):
    # What is said goes out with this very answer. Should the answer be lost, the hook comes again, and is heard once all the same.
    return json.dumps({"kind": "said", "user": session["user"], "text": request.get_data(as_text=True)}), {"Ws-To": room}


def closed(room):
    # It may come twice; the second time there is nothing left to delete.
    return who_is_there(room, "DELETE FROM present WHERE socket = ?", [request.headers["Ws-Socket"]]), {"Ws-To": room}


def forget_earlier_lives():
    """No socket outlives its worker. (With several workers the table would name them: Ws-Worker.)"""
    database().execute("DELETE FROM present WHERE boot <> ?", [request.headers["Ws-Boot"]])


def who_is_there(room, change, values):
    """Changes who is there, and says it. Answers to two sockets may overtake each other: the page takes the higher number."""
    with database() as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute(change, values)
        number = db.execute("INSERT INTO changes DEFAULT VALUES").lastrowid
        users = [user for (user,) in db.execute("SELECT DISTINCT user FROM present WHERE room = ? ORDER BY user", [room])]
    return json.dumps({"kind": "present", "number": number, "users": users})


def is_from_the_worker(headers, body, secret):
    id, at, signatures = (headers.get("webhook-" + name, "") for name in ("id", "timestamp", "signature"))
    wanted = b"v1," + base64.b64encode(hmac.digest(secret, f"{id}.{at}.".encode() + body, "sha256"))
    is_recent = at.isdecimal() and abs(time.time() - int(at)) < 300
    return is_recent and any(hmac.compare_digest(wanted, one.encode()) for one in signatures.split())


def database():
    db = sqlite3.connect(HERE / "rooms.db", timeout=10, isolation_level=None)
    db.execute("CREATE TABLE IF NOT EXISTS present (socket TEXT PRIMARY KEY, boot TEXT, user TEXT, room TEXT)")
    db.execute("CREATE TABLE IF NOT EXISTS changes (number INTEGER PRIMARY KEY AUTOINCREMENT)")
    return db
