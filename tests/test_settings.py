"""streaming/settings.py: the configuration, read once and refused as a whole if it is wrong."""

import dataclasses
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from streaming.errors import ConfigurationError
from streaming.logs import Retention
from streaming.settings import Settings

FIELDS = [field.name for field in dataclasses.fields(Settings)]


def test_without_configuration_everything_has_its_default() -> None:
    assert Settings.from_config({}) == Settings()
    assert replace(Settings().retention, named={}) == Retention()


def test_every_field_is_a_key_and_foreign_keys_are_left_alone() -> None:
    for name in FIELDS:
        default = getattr(Settings(), name)
        assert Settings.from_config({f"STREAMING_{name.upper()}": default}) == Settings()
    config = {"DEBUG": True, "SECRET_KEY": "x", "STREAMING_HEARTBEAT": 3, "streaming_log": "x"}
    assert Settings.from_config(config) == Settings(heartbeat=3)


def test_every_field_says_what_it_is_for() -> None:
    import ast
    import inspect

    (tree,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(tree, ast.ClassDef)
    documented = [
        before.target.id
        for before, after in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
    ]
    assert documented == FIELDS


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("STREAMING_HEARTBEET", "STREAMING_HEARTBEAT"),
        ("STREAMING_ORIGIN", "STREAMING_ORIGINS"),
        ("STREAMING_MESSAGE_SIZES", "STREAMING_MESSAGE_SIZE"),
        ("STREAMING_RETENTION_MESSAGE", "STREAMING_RETENTION_MESSAGES"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(wrong: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{wrong}.*{meant}\\?"):
        Settings.from_config({wrong: 1})


def test_a_key_like_no_other_lists_all_there_are() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_config({"STREAMING_QQQQQQQQQQ": 1})
    for name in FIELDS:
        assert f"STREAMING_{name.upper()}" in str(caught.value)


BAD = [float("nan"), float("inf"), 10**40]
NUMBERS = [
    "message_size",
    "frame_size",
    "retention_messages",
    "retention_size",
    "retention_channels",
    "key_window",
]
OPTIONAL = ["retention_age", "retention_after_end", "heartbeat", "pong_timeout", "send_timeout"]


@pytest.mark.parametrize("name", NUMBERS + OPTIONAL)
@pytest.mark.parametrize("value", [0, -1, "15", "", b"15", True, [1], timedelta(seconds=1), *BAD])
def test_a_number_that_is_none_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"STREAMING_{name.upper()} is "):
        Settings.from_config({f"STREAMING_{name.upper()}": value})


@pytest.mark.parametrize("name", NUMBERS)
def test_a_bound_cannot_be_switched_off(name: str) -> None:
    with pytest.raises(ConfigurationError):
        Settings.from_config({f"STREAMING_{name.upper()}": None})


@pytest.mark.parametrize("name", OPTIONAL)
def test_none_switches_a_deadline_off(name: str) -> None:
    assert getattr(Settings.from_config({f"STREAMING_{name.upper()}": None}), name) is None


@pytest.mark.parametrize(
    "name", ["message_size", "frame_size", "retention_messages", "retention_channels"]
)
def test_things_that_are_counted_are_whole(name: str) -> None:
    with pytest.raises(ConfigurationError):
        Settings.from_config({f"STREAMING_{name.upper()}": 1.5})


@pytest.mark.parametrize("name", ["compression", "direct_writes"])
@pytest.mark.parametrize("value", ["yes", 1, None])
def test_a_switch_is_on_or_off(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError):
        Settings.from_config({f"STREAMING_{name.upper()}": value})
    assert getattr(Settings.from_config({f"STREAMING_{name.upper()}": True}), name) is True


@pytest.mark.parametrize("value", ["https://example.org", None, [1], {"https://a": 1}])
def test_origins_are_a_list_and_not_a_text(value: object) -> None:
    with pytest.raises(ConfigurationError, match="STREAMING_ORIGINS"):
        Settings.from_config({"STREAMING_ORIGINS": value})
    assert Settings.from_config({"STREAMING_ORIGINS": ["https://a"]}).origins == ["https://a"]


@pytest.mark.parametrize(
    "value",
    [{"a": "never"}, {"a": None}, {"not a channel": "latest"}, "latest", ["a"], None, {"a": []}],
)
def test_policies_are_known_words_for_channels_that_can_exist(value: object) -> None:
    with pytest.raises(ConfigurationError, match="STREAMING_POLICIES"):
        Settings.from_config({"STREAMING_POLICIES": value})
    policies = {"a": "replay", "b": "latest", "c": "disconnect"}
    assert Settings.from_config({"STREAMING_POLICIES": policies}).policies == policies


@pytest.mark.parametrize("name", FIELDS)
def test_whatever_is_wrong_is_said_once_with_the_key_the_value_and_what_is_wanted(
    name: str,
) -> None:
    key = f"STREAMING_{name.upper()}"
    for value in (object(), "", "nonsense", b"x", -1, {"a b": 1}, [None]):
        with pytest.raises(ConfigurationError) as refused:
            Settings.from_config({key: value})
        said = str(refused.value)
        assert key in said
        assert repr(value)[:50] in said or repr("a b") in said or "has None" in said
        assert any(word in said for word in ("must be", "an origin is"))


@pytest.mark.parametrize(
    "value",
    [None, "", "memory", "Memory:", " memory:", "sqlite:x.db", "sqlite://x.db", "/srv/x.db", 7, []],
)
def test_a_log_is_a_url_and_nothing_near_one(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"STREAMING_LOG is .* must be .*'sqlite:///"):
        Settings.from_config({"STREAMING_LOG": value})
    for url in ("memory:", "sqlite:///x.db", "redis://h", "rediss+cluster://h"):
        assert Settings.from_config({"STREAMING_LOG": url}).log == url


@pytest.mark.parametrize("value", ["10.0.0.1", None, ["10.0.0.1/8"], ["0.0.0.0/0"], [7], ["lan"]])
def test_trusted_proxies_are_a_list_of_networks_and_never_everybody(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"STREAMING_TRUSTED_PROXIES .*'10\.0\.0\.0/8'"):
        Settings.from_config({"STREAMING_TRUSTED_PROXIES": value})
    proxies = ("127.0.0.1", "fd00::/8", "unix")
    assert Settings.from_config({"STREAMING_TRUSTED_PROXIES": proxies}).trusted_proxies == proxies


@pytest.mark.parametrize("value", ["token", None, [1], [""], {"token": 1}])
def test_the_applications_own_parameters_are_a_list_of_names(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"STREAMING_PARAMETERS is .*'token'"):
        Settings.from_config({"STREAMING_PARAMETERS": value})
    assert Settings.from_config({"STREAMING_PARAMETERS": {"token"}}).parameters == {"token"}


def test_a_password_in_a_log_url_is_not_said() -> None:
    for url in ("postgres://me:secret@host/db", "REDIS://:secret@host", "x://me:a/secret@@host"):
        with pytest.raises(ConfigurationError, match=r"\*\*\*@host") as refused:
            Settings.from_config({"STREAMING_LOG": url})
        assert "secret" not in str(refused.value)


def test_a_buffer_that_the_kernel_cannot_be_told_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at most 2147483647, or None"):
        Settings.from_config({"STREAMING_SEND_BUFFER": 2**31})
    assert Settings.from_config({"STREAMING_SEND_BUFFER": 2**31 - 1}).send_buffer == 2**31 - 1


@pytest.mark.parametrize(
    "origin",
    [
        "example.org",
        "https://",
        "https://example.org/app",
        "https://example.org?x",
        "https://me@example.org",
        "https://*",
        "https://*.org",
        "https://*.*.example.org",
        "https://a*.example.org",
        "https://*example.org",
        "https://example.*",
        "https://*.0.0.1",
        "https://*.",
        "wss://example.org",
        "ftp://example.org",
        "https://example.org:port",
        "https://b\u00fccher.example",
        "https://example.org, https://example.com",
        "null",
        "",
        None,
    ],
)
def test_an_origin_that_no_page_can_have_is_refused_instead_of_never_matching(origin: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"STREAMING_ORIGINS has .*https://example\.org'"):
        Settings.from_config({"STREAMING_ORIGINS": ["https://fine.example", origin]})


@pytest.mark.parametrize(
    "origins",
    [
        ["*"],
        ("https://example.org", "http://localhost:3000"),
        frozenset({"https://example.org/"}),
        {"capacitor://localhost", "chrome-extension://abcdefgh"},
        ["https://*.example.org", "http://*.localhost:3000", "https://*.a.example.org:8443"],
    ],
)
def test_origins_of_pages_are_taken(origins: Any) -> None:
    assert Settings.from_config({"STREAMING_ORIGINS": origins}).origins == origins


def test_headers_are_names() -> None:
    names = ["X-Api-Key", "x_team"]
    assert Settings.from_config({"STREAMING_HEADERS": names}).headers == names
    for wrong in ("X-Api-Key", ["*"], ["a b"], ["X:"], [""], [7], None, ["é"]):
        with pytest.raises(ConfigurationError, match="STREAMING_HEADERS"):
            Settings.from_config({"STREAMING_HEADERS": wrong})


def test_a_policy_that_is_none_is_named_with_its_channel() -> None:
    with pytest.raises(ConfigurationError, match="has 'Latest' for 'prices'; it must be"):
        Settings.from_config({"STREAMING_POLICIES": {"news": "latest", "prices": "Latest"}})


def test_the_retention_of_the_logs_is_the_one_configured() -> None:
    settings = Settings.from_config(
        {
            "STREAMING_RETENTION_MESSAGES": 1,
            "STREAMING_RETENTION_SIZE": 2,
            "STREAMING_RETENTION_AGE": None,
            "STREAMING_RETENTION_CHANNELS": 4,
            "STREAMING_KEY_WINDOW": 5.5,
            "STREAMING_RETENTION_AFTER_END": 6,
            "STREAMING_RETENTION_TOTAL": 7,
        }
    )
    assert replace(settings.retention, named={}) == Retention(1, 2, None, 4, 5.5, 6, 7)


def test_what_is_not_said_of_some_channels_is_kept_of_them_as_of_all() -> None:
    own = {"job:*": {"messages": 10_000, "age": None}, "a": {"size": 7, "after_end": 2.5}}
    config = {"STREAMING_RETENTIONS": own, "STREAMING_RETENTION_SIZE": 5}
    keep = Settings.from_config(config).retention
    assert keep.of("job:1") == replace(keep, messages=10_000, age=None, named={})
    assert keep.of("a") == replace(keep, size=7, after_end=2.5, named={})
    assert keep.of("b") is keep
    assert keep.of("job:1").size == 5


def test_runs_keep_more_unless_something_else_is_said_of_them() -> None:
    keep = Settings().retention.of("run:1")
    assert (keep.messages, keep.size, keep.age, keep.after_end) == (10**6, 2**24, 86400, 3600)
    own = {"run:*": {"messages": 5, "after_end": None}, "run:b*": {"size": 9}}
    named = Settings.from_config({"STREAMING_RETENTIONS": own}).retention
    keep = named.of("run:1")
    assert (keep.messages, keep.size, keep.age, keep.after_end) == (5, 2**24, 86400, None)
    assert named.of("run:b1") == replace(named, size=9, named={})


KINDS = "of 'messages', 'size', 'age', 'after_end'"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("job:*", "is 'job:*'; it must be a dict of channel names or patterns"),
        (None, "is None; it must be"),
        ({"job*:": {}}, "has {} for 'job*:'; it must be a dict of channel names or patterns"),
        ({7: {}}, "has {} for 7; it must be"),
        ({"job:*": 5}, "has 5 for 'job:*'; it must be"),
        ({"job:*": {"size": 5, "ages": 3}}, "has {'size': 5, 'ages': 3} for 'job:*'; it must be"),
        ({"job:*": {"channels": 3}}, KINDS),
        ({"a": {}, "b": {"messages": 1.5}}, "has {'messages': 1.5} for 'b'; it must be a whole"),
        ({"b": {"messages": None}}, "has {'messages': None} for 'b'; it must be a whole number"),
        ({"b": {"size": 2**60}}, "for 'b'; it must be a whole number above 0, at most"),
        ({"b": {"age": "3"}}, "has {'age': '3'} for 'b'; it must be a number of seconds above 0,"),
        ({"b": {"after_end": 0}}, "has {'after_end': 0} for 'b'; it must be a number of seconds"),
        ({"b": {"age": True}}, "has {'age': True} for 'b'; it must be a number of seconds"),
    ],
)
def test_what_some_channels_keep_is_refused_where_it_is_wrong(value: object, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^STREAMING_RETENTIONS .*{re.escape(said)}"):
        Settings.from_config({"STREAMING_RETENTIONS": value})


def test_policies_are_for_patterns_too() -> None:
    policies = {"price:*": "latest", "*": "disconnect"}
    assert Settings.from_config({"STREAMING_POLICIES": policies}).policies == policies
    for name in ("*price", "a*b", "a**"):
        with pytest.raises(ConfigurationError, match=r"has 'latest' for .*'job:\*'"):
            Settings.from_config({"STREAMING_POLICIES": {name: "latest"}})


def test_settings_never_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().heartbeat = 1  # type: ignore[misc]
