"""Tells a room something from outside, as a cron job would:  */10 * * * *  python3 /srv/rooms/news.py red "Ten minutes are over"

It knows nothing of the app, only the worker's control API and what the page understands.
"""

import json
import sys

import worker

room, text = sys.argv[1:]
status, answer = worker.ask("POST", f"/groups/{room}", json.dumps({"kind": "news", "text": text}))
if status != 200:
    sys.exit(f"the worker says {status}: {answer}")
print(f"{json.loads(answer)['queued']} in {room} will read it")
