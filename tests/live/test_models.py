"""Answers as others' clients read them: npm's ``ai`` and Python's ``openai``, on two workers."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.live.harness import gunicorn
from tests.live.server import Server, tool
from tests.polling import PATIENCE, wait_until

HERE = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with gunicorn("tests.live.models_app:app", workers=2) as server:
        yield server


def chat(server: Server, id: str, *words: str) -> Any:
    """What the AI SDK's chat has at its end."""
    assert (HERE / "node_modules").exists(), "`make test` installs the npm package `ai`"
    ran = subprocess.run(
        [tool("node"), HERE / "ui_chat.mjs", f"{server.url}/api/chat", id, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def said(count: int) -> str:
    return "".join(f"{n} " for n in range(count))


def text_of(message: Any) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def test_the_ai_sdk_reads_every_part(server: Server) -> None:
    found = chat(server, "one", "ask", "3")
    assert (found["status"], found.get("error")) == ("ready", None)
    question, answer = found["messages"]
    assert (question["role"], answer["role"]) == ("user", "assistant")
    assert text_of(answer) == said(3)
    kinds = [part["type"] for part in answer["parts"]]
    assert kinds == ["step-start", "reasoning", "text", "tool-search", "data-part"]
    call = answer["parts"][3]
    assert (call["state"], call["input"], call["output"]) == (
        *("output-available", {"q": 1}),
        "found",
    )
    assert answer["parts"][4]["data"] == {"a": 1}
    assert answer["metadata"] == {"usage": {"input": 1, "output": 2}}


def test_the_ai_sdk_resumes_an_answer_that_it_has_left(server: Server, tmp_path: Path) -> None:
    resumed = tmp_path / "resumed"  # the rest is said once it is
    left = chat(server, "two", "leave", f"40 0 {resumed}")
    assert 0 < len(text_of(left["messages"][-1])) < len(said(40))
    found = chat(server, "two", "resume", str(resumed))
    assert found["status"] == "ready"
    assert text_of(found["messages"][-1]) == said(40)
    assert found["messages"][-1]["id"] == left["messages"][-1]["id"]
    over = chat(server, "two", "resume")
    assert over["messages"] == [], "204: nothing is made any more"
    assert chat(server, "never", "resume")["messages"] == []


def test_an_answer_is_stopped_for_the_ai_sdk(server: Server) -> None:
    left = chat(server, "three", "leave", "300 0.1")
    assert left["messages"]
    assert httpx.delete(f"{server.url}/api/chat/three/stream", timeout=PATIENCE).status_code == 204
    assert httpx.get(f"{server.url}/api/chat/three/stream", timeout=PATIENCE).status_code == 204


def test_openai_resumes_a_response_on_any_worker(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        stream = client.responses.create(
            model="house", input="60 0.05", stream=True, background=True
        )
        seen: list[Any] = []
        id, rounds = "", 0
        while True:
            for event in stream:
                seen.append(event)
                id = id or event.response.id  # type: ignore[union-attr]
                if len(seen) % 7 == 0:
                    break
            else:
                break
            stream.close()
            rounds += 1
            last = seen[-1].sequence_number
            stream = client.responses.retrieve(id, stream=True, starting_after=last)
        assert [event.sequence_number for event in seen] == list(range(len(seen)))
        assert seen[-1].type == "response.completed"
        assert seen[-1].response.output_text == said(60)
        assert rounds > 5


def test_openai_cancels_a_response_on_any_worker(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        for _ in range(4):
            id = client.responses.create(model="house", input="600 0.1", background=True).id
            wait_until(lambda id=id: client.responses.retrieve(id).output_text, "it is said")
            assert client.responses.cancel(id).status == "cancelled"
            assert client.responses.retrieve(id).status == "cancelled"
