"""streaming/identity.py: who somebody is, and what stands for it in logs and channel names."""

from typing import Any

import pytest

from streaming import Identity, InvalidMessage
from streaming.identity import USERS, client_of, identity_of, sign, user_channel
from streaming.names import check_channel

IDS = [
    "ada",
    "ada@example.org",
    "用户 1",
    "a.b",
    "a.2Eb",
    ".",
    "..",
    "a" * 100,
    "户" * 100,
    "%",
    '"',
    "ÿ",
]


@pytest.mark.parametrize("id", ["", "a" * 101, "a\nb", "a\x00", "\ud800", 7, None, b"ada"])
def test_what_is_no_id_is_refused(id: Any) -> None:
    with pytest.raises(InvalidMessage, match="id of an identity"):
        Identity(id)


@pytest.mark.parametrize("name", ["a" * 101, "a\rb", "\x1b[31m", None, 7])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(InvalidMessage, match="name of an identity"):
        Identity("ada", name)


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("client", [None, "0123456789abcdef"])
@pytest.mark.parametrize("name", ["", "Ada Lovelace", '"] "', "阿达"])
def test_a_sender_says_the_connection_and_who_that_was(
    client: str | None, id: str, name: str
) -> None:
    identity = Identity(id, name)
    sender = sign(client, identity)
    assert (client_of(sender), identity_of(sender)) == (client, identity)


@pytest.mark.parametrize("client", [None, "0123456789abcdef"])
def test_a_stranger_is_a_connection_alone(client: str | None) -> None:
    sender = sign(client, None)
    assert (sender, client_of(sender), identity_of(sender)) == (client, client, None)


def test_every_id_has_a_channel_of_its_own_and_a_room_beside_it() -> None:
    names = [user_channel(id) for id in IDS]
    assert len(set(names)) == len(IDS)
    for name in names:
        assert name.startswith(USERS)
        check_channel(f"{name}:presence")


def test_a_simple_id_can_be_read_in_its_channel() -> None:
    assert user_channel("42") == "user:42"
    assert user_channel("ada@example.org") == "user:ada.40example.2Eorg"


def test_no_short_name_is_the_digest_of_a_long_one() -> None:
    assert user_channel("户" * 100).startswith("user:..")
    assert not user_channel("." * 30).startswith("user:..")
