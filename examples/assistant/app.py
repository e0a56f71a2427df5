"""An assistant whose answers survive a reload and can be stopped.

A stand-in answers. With the package openai, a model of any server that speaks OpenAI's API does:
set OPENAI_MODEL, OPENAI_API_KEY and OPENAI_BASE_URL, such as http://127.0.0.1:11434/v1.

    flask --app examples/assistant/app run
"""

import os
import secrets

from flask import Flask, abort, render_template, request, session

from streaming import Part, Streaming, current_run

app = Flask(__name__, template_folder=".", static_folder="../shared", static_url_path="/shared")
app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()  # else new at each start
app.config["MAX_CONTENT_LENGTH"] = 16_384  # of what is posted to us
STAND_IN = "I only type this, so that you can reload the page or stop me. A model would know more. "
CHINESE = "我只是在打字，让你可以试试刷新页面，或者叫我停下。换成真正的模型，就能回答你了。"


def is_allowed(action, channel):  # whoever has asked may read and stop it, nobody else
    return action != "publish" and channel.removeprefix("run:") in session.get("runs", [])


streaming = Streaming(app, authorize=is_allowed)


def own_runs():  # the answers to this browser that are kept (an hour), the oldest first
    return [run for id in session.get("runs", []) if (run := streaming.find_run(id))]


@app.get("/")
def home():
    return render_template("index.html", answers=[run.url for run in own_runs()])


@app.post("/ask")
def ask():
    try:  # JSON: no page of others may send it
        question = request.get_json()["question"].encode()[:6000].decode(errors="ignore")
    except (LookupError, TypeError, AttributeError, UnicodeError, RecursionError):
        abort(400)
    messages = []
    for said in [said for run in own_runs() if (said := run.answer()).text]:
        messages.append({"role": "user", "content": said.parts[0].data["question"]})
        messages.append({"role": "assistant", "content": said.text})
    run = streaming.run(think, messages, question)
    session["runs"] = [*session.get("runs", []), run.id][-10:]
    return run.response()


def think(messages, question):  # made outside the request, so it goes on without it
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
