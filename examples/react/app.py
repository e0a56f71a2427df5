"""A feed in React: a hook around the browser client, right under StrictMode.

    npm install --prefix examples/react && flask --app examples/react/app run

npm builds the page's script, too; after a change: npm run --prefix examples/react prepare
"""

import os
from datetime import datetime

from flask import Flask, abort, render_template, request, send_from_directory

from streaming import Streaming

app = Flask(__name__, template_folder=".", static_folder="../shared", static_url_path="/shared")
app.config["STREAMING_LOG"] = os.environ.get("STREAMING_LOG", "sqlite:///feed.db")
app.config.update(STREAMING_PUBLIC=["feed"], MAX_CONTENT_LENGTH=16_384)  # only to be read
streaming = Streaming(app)
app.add_url_rule("/feed.js", "script", lambda: send_from_directory("build", "feed.js"))


@app.get("/")
def home():
    return render_template("index.html")


@app.post("/say")
def say():
    try:  # JSON: a page of others must not send it (CORS)
        text = str(request.get_json()["text"])[:500]
    except (LookupError, TypeError, RecursionError):
        abort(400)
    streaming.publish("feed", {"text": text, "at": f"{datetime.now():%H:%M:%S}"})
    return "", 204
