"""``Settings.from_config``: a configuration is read or refused, and nothing else happens."""

from dataclasses import fields
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streaming.errors import ConfigurationError
from streaming.logs import Retention, open_log
from streaming.settings import Settings
from tests.fuzz.strategies import anything, hostile_texts, origins, words

NAMES = [f"STREAMING_{field.name.upper()}" for field in fields(Settings)]
DEFAULTS = Settings()

_patterns = st.sampled_from(["job:*", "*", "a", "", "a*b", "streaming:*", "run:*", "private:x"])
_limits = st.dictionaries(
    st.sampled_from(["messages", "size", "age", "after_end", "x"]),
    anything | st.integers(-1, 10) | st.floats(),
    max_size=3,
)
_near = {
    "STREAMING_ORIGINS": st.lists(origins | st.just("*"), max_size=3),
    "STREAMING_PUBLIC": st.lists(_patterns | anything, max_size=3),
    "STREAMING_POLICIES": st.dictionaries(
        _patterns, st.sampled_from(["latest", "x", 1]), max_size=3
    ),
    "STREAMING_RETENTIONS": st.dictionaries(_patterns, _limits | anything, max_size=3),
    "STREAMING_LOG": st.sampled_from(["memory:", "sqlite:///", "redis://"]).flatmap(
        lambda start: (hostile_texts | words).map(lambda rest: start + rest)
    ),
}
_values = st.one_of(anything, st.integers(-2, 2**60), st.floats(), st.booleans())


def one_setting(name: str) -> st.SearchStrategy[tuple[str, Any]]:
    return st.tuples(st.just(name), st.one_of(_values, _near.get(name, _values)))


configs = st.dictionaries(words | words.map("STREAMING_{}".format), anything, max_size=2).flatmap(
    lambda strange: st.lists(st.sampled_from(NAMES).flatmap(one_setting), max_size=4).map(
        lambda pairs: {**strange, **dict(pairs)}
    )
)


@given(configs)
def test_a_configuration_gives_settings_or_an_error_that_names_a_key(
    config: dict[str, Any],
) -> None:
    try:
        settings = Settings.from_config(config)
    except ConfigurationError as error:
        assert "STREAMING_" in str(error)
        return
    for field in fields(Settings):
        key = f"STREAMING_{field.name.upper()}"
        wanted = config.get(key, getattr(DEFAULTS, field.name))
        assert getattr(settings, field.name) is wanted or getattr(settings, field.name) == wanted


@given(configs)
def test_settings_that_were_read_can_be_used(config: dict[str, Any]) -> None:
    try:
        settings = Settings.from_config(config)
    except ConfigurationError:
        return
    retention = settings.retention
    for channel in ("a", "job:1", "run:1", "streaming:orders"):
        kept = retention.of(channel)
        assert isinstance(kept, Retention)
        assert kept.messages > 0
        assert kept.size > 0
    assert settings.policies.get("a", "replay") in ("replay", "latest", "disconnect")


@given(_near["STREAMING_LOG"] | words)
def test_the_url_of_a_log_opens_nothing_yet_or_is_refused(url: str) -> None:
    try:
        open_log(url, Retention(), "/nowhere")
    except ConfigurationError as error:
        assert len(str(error)) < 1000


@given(st.sampled_from(NAMES), st.text(st.characters(categories=["L"]), min_size=8, max_size=9))
def test_a_password_is_in_no_error(name: str, password: str) -> None:
    try:
        Settings.from_config({name: f"http://me:{password}@host/x"})
    except ConfigurationError as error:
        assert password not in str(error)
