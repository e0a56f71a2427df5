"""The progress of a job in a queue (Celery), or of a script. Each line in a terminal of its own:

flask --app examples/progress/app run
celery --workdir examples/progress --app app:celery worker
python examples/progress/job.py
"""

import secrets

from celery import Celery
from flask import Flask, abort, redirect, render_template, request, url_for
from job import FOLDER, LOG, work

from streaming import Streaming

app = Flask(__name__, template_folder=".", static_folder="../shared", static_url_path="/shared")
app.config["STREAMING_LOG"] = LOG
app.config["STREAMING_PUBLIC"] = ["job:*"]  # whoever has the address of a job: nobody guesses it
streaming = Streaming(app)

celery = Celery("jobs", broker="filesystem://")  # needs no server; in production "redis://…"
(FOLDER / "queue").mkdir(exist_ok=True)
folders = ("data_folder_in", "data_folder_out", "control_folder")
celery.conf.broker_transport_options = dict.fromkeys(folders, FOLDER / "queue")
task = celery.task(work)


@app.before_request
def check_page():  # browsers say with each POST whose page it comes from: ours only
    if request.method == "POST" and request.origin not in (None, request.host_url.rstrip("/")):
        abort(403)


@app.get("/")
def home():
    return render_template("index.html")


@app.post("/jobs")
def begin():  # a real one asks who that is
    id = secrets.token_urlsafe(12)
    task.delay(id)  # a worker takes it; this returns at once
    return redirect(url_for("watch", id=id))


@app.get("/jobs/<id>")
def watch(id):  # reload it, close it, send its address to somebody
    streaming.check_allowed("subscribe", f"job:{id}")  # 400 if nothing can be called so
    return render_template("index.html", id=id)
