"""A real model, where one is set: any server that speaks OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from streaming import ConfigurationError, Part, current_run

if TYPE_CHECKING:
    from openai import OpenAI

PREFIX = "STREAMING_OPENAI_"

KEYS = (f"{PREFIX}BASE_URL", f"{PREFIX}MODEL", f"{PREFIX}API_KEY")
"""The settings. They are the demo's; the package knows nothing of them."""

SILENCE = 60.0
"""Seconds without a word of the model after which an answer has failed."""

PROMPT = (
    "You answer on a page that shows answers as they are written. Be brief. Write Markdown without "
    "HTML. Answer in the language of the question."
)

CUT = {
    "en": "The answer is cut off here: the model had no room for more.",
    "zh": "回答到这里被截断了：模型没有空间写更多。",
}


class SourceFailed(RuntimeError):
    """The model's server cannot be reached, or ended its answer without saying that it was all."""

    status_code = 502


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a server, and how to ask it."""

    name: str
    base_url: str | None
    api_key: str | None

    @classmethod
    def of(cls, config: Mapping[str, object]) -> Model | None:
        """The model that ``config`` names; None if it names none.

        Raises:
            ConfigurationError: If the settings do not go together, or ``openai`` is not installed.
        """
        given = {key: _text(key, config[key]) for key in KEYS if config.get(key) not in (None, "")}
        url, name, key = (given.get(PREFIX + end) for end in ("BASE_URL", "MODEL", "API_KEY"))
        if name is None:
            if given:
                raise ConfigurationError(f"{' and '.join(given)}: for which {PREFIX}MODEL?")
            return None
        if url is None and key is None:
            raise ConfigurationError(
                f"{PREFIX}MODEL needs {PREFIX}API_KEY, for api.openai.com, or {PREFIX}BASE_URL, "
                "such as 'http://127.0.0.1:11434/v1' for a server of your own."
            )
        if url is not None and not _is_http(url):
            raise ConfigurationError(f"{PREFIX}BASE_URL must be like 'http://host:8080/v1'.")
        if find_spec("openai") is None:
            raise ConfigurationError(
                f"{PREFIX}MODEL needs the package openai: pip install 'flask-streaming[openai]'."
            )
        return cls(name, url, key)

    def answer(
        self, question: str, history: list[dict[str, str]], language: object = "en"
    ) -> Iterator[str | Part]:
        """What the model says. A producer: it is for ``Streaming.run``.

        Raises:
            SourceFailed: If its server cannot be reached, or ends without an end.
            APIStatusError: If the server refuses; ``openai``'s own.
        """
        from openai import APIConnectionError  # 0.6 s, for who has set a model

        reason = None
        try:
            with _client(self) as client:
                for chunk in client.chat.completions.create(
                    model=self.name, messages=_messages(question, history), stream=True
                ):
                    yield from _parts(chunk)
                    if chunk.choices:
                        reason = chunk.choices[0].finish_reason or reason
        except APIConnectionError as error:
            raise SourceFailed(f"{self.name}: {error}") from error
        if reason is None:
            raise SourceFailed(f"{self.name}: the stream ended without a finish_reason")
        if reason == "length":
            yield Part("error", CUT["zh" if language == "zh" else "en"])


def _client(model: Model) -> OpenAI:
    """A client for one answer, whose connections are closed when its run is stopped."""
    from openai import DefaultHttpxClient, OpenAI

    run = current_run()

    def trace(event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            run.closes(info["return_value"])

    def watch(request: Any) -> None:
        request.extensions = {**request.extensions, "trace": trace}

    return OpenAI(
        base_url=model.base_url or "https://api.openai.com/v1",  # not from other variables
        api_key=model.api_key or "none",  # servers of one's own ask for none; the client does
        timeout=SILENCE,
        max_retries=0,  # who asks is told at once, and decides
        http_client=DefaultHttpxClient(event_hooks={"request": [watch]}),
    )


def _messages(question: str, history: list[dict[str, str]]) -> Any:
    messages = [{"role": "system", "content": PROMPT}]
    for turn in history:
        messages.append({"role": "user", "content": turn["question"]})
        messages.append({"role": "assistant", "content": turn["answer"]})
    return [*messages, {"role": "user", "content": question}]


def _parts(chunk: Any) -> Iterator[str | Part]:
    """What a piece of the stream says. Servers differ in where they put what a model thinks."""
    if chunk.choices:
        delta = chunk.choices[0].delta
        thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
        if isinstance(thought, str) and thought:
            yield Part("reasoning", thought)
        if delta is not None and delta.content:
            yield str(delta.content)
    if chunk.usage is not None:
        yield Part(
            "usage", {"input": chunk.usage.prompt_tokens, "output": chunk.usage.completion_tokens}
        )


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or value != value.strip():
        raise ConfigurationError(f"{key} must be a text, without space around it.")
    return value


def _is_http(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
