"""A chat for `ws-worker serve --app http://127.0.0.1:8080/`:  flask --app chat run --port 8080"""

from flask import Flask, request

app = Flask(__name__)


@app.post("/")
def hook():
    if request.headers["Ws-Event"] != "message":
        return ""  # A 2xx lets the socket in; there is nothing to say when it is gone.
    return request.get_data(), {"Ws-To": "all", "Content-Type": request.content_type}
