"""An assistant whose answers survive a reload and can be stopped.

A stand-in answers. With the package openai, a model of any server that speaks OpenAI's API does:
set OPENAI_MODEL, OPENAI_API_KEY and OPENAI_BASE_URL, such as http://127.0.0.1:11434/v1.

    flask --app examples/assistant/app run
"""

import os
import secrets

from flask import Flask, render_template, request, session

from streaming import Part, Streaming, current_run

app = Flask(__name__, template_folder=".", static_folder="../shared", static_url_path="/shared")
app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()  # else new at each start
STAND_IN = "I only type this, so that you can reload the page or stop me. A model would know more. "
CHINESE = "我只是在打字，让你可以试试刷新页面，或者叫我停下。换成真正的模型，就能回答你了。"


def is_allowed(action, channel):
    """Whoever has asked may read the answer again and stop it, and nobody else."""
    return action != "publish" and channel.removeprefix("run:") in session.get("runs", [])


streaming = Streaming(app, authorize=is_allowed)


def own_runs():
    """The answers to this browser that are still kept (an hour), the oldest first."""
    return [run for id in session.get("runs", []) if (run := streaming.find_run(id))]


@app.get("/")
def home():
    return render_template("index.html", answers=[run.url for run in own_runs()])


@app.post("/ask")
def ask():
    question = str(request.get_json()["question"])[:2000]  # JSON: no page of others may send it
    messages = []
    for said in [run.answer() for run in own_runs()]:
        if said.text:
            messages.append({"role": "user", "content": said.parts[0].data["question"]})
            messages.append({"role": "assistant", "content": said.text})
    run = streaming.run(think, messages, question)
    session["runs"] = [*session.get("runs", []), run.id][-10:]
    return run.response()


def think(messages, question):
    """The answer, piece by piece; made outside the request, so it goes on without it."""
    yield Part("data", {"question": question})  # kept with the answer
    if not (model := os.environ.get("OPENAI_MODEL")):
        for character in (STAND_IN if question.isascii() else CHINESE) * 3:
            yield character
            current_run().wait(0.03)
        return
    from openai import OpenAI  # it reads OPENAI_BASE_URL itself

    messages.append({"role": "user", "content": question})
    with OpenAI(api_key=os.environ.get("OPENAI_API_KEY", "none"), timeout=60) as client:
        chunks = client.chat.completions.create(model=model, messages=messages, stream=True)
        for chunk in current_run().closes(chunks):  # a stop reaches the model, too
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content
