"""streaming/wire/addresses.py: whose address a request has, whoever says what about it."""

import pytest

from streaming.wire.addresses import Proxies

NOBODY = Proxies()
OURS = Proxies(["127.0.0.1", "10.0.0.0/8", "2001:db8:ff::/48", "unix"])


@pytest.mark.parametrize("forwarded", [None, "", "198.51.100.7", "garbage", "127.0.0.1, ::1"])
def test_without_trusted_proxies_nobodys_word_counts(forwarded: str | None) -> None:
    assert NOBODY.address("8.8.4.4", forwarded).text == "8.8.4.4"
    assert NOBODY.address("10.0.0.1", forwarded).text == "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7"),  # the client made the first up
        ("127.0.0.1", "1.1.1.1, 198.51.100.7, 10.1.2.3", "198.51.100.7"),
        ("127.0.0.1", "198.51.100.7,10.1.2.3 ,\t10.0.0.9", "198.51.100.7"),
        ("", "198.51.100.7", "198.51.100.7"),
        ("localhost", "198.51.100.7", "198.51.100.7"),
        ("2001:db8:ff::9", "2001:db8::5", "2001:db8::5"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7:51234", "198.51.100.7"),
        ("10.0.0.1", "[2001:db8::5]:51234", "2001:db8::5"),
        ("10.0.0.1", "[2001:db8::5]", "2001:db8::5"),
        ("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"),  # all are ours: the farthest
    ],
)
def test_the_nearest_that_no_trusted_proxy_is_is_the_client(
    peer: str, forwarded: str, client: str
) -> None:
    assert OURS.address(peer, forwarded).text == client


@pytest.mark.parametrize(
    "forwarded",
    [
        "unknown",
        "_hidden",
        "198.51.100.7, ",
        ",",
        "198.51.100.7 10.0.0.2",
        "198.51.100.07",
        "198.51.100.7/32",
        "198.51.100.7, 4294967295",
        "0x7f.1",
        "[198.51.100.7",
        "198.51.100.7]:1",
        "198.51.100.7:port",
        "198.51.100.7:",
        "::1::",
        "\u0661.1.1.1",
        "1.1.1.1, " + "9" * 10_000,
        '"198.51.100.7"',
    ],
)
def test_what_is_no_address_ends_the_walk_at_the_last_that_is_known(forwarded: str) -> None:
    assert OURS.address("10.0.0.1", forwarded).text == "10.0.0.1"
    assert OURS.address("127.0.0.1", f"{forwarded}, 10.0.0.8").text == "10.0.0.8"


def test_whom_nobody_trusts_is_not_asked() -> None:
    assert OURS.address("192.0.2.1", "198.51.100.7").text == "192.0.2.1"
    assert OURS.address("10.0.0.1", "198.51.100.7, 192.0.2.1").text == "192.0.2.1"
    without = Proxies(["10.0.0.0/8"])
    assert without.address("", "198.51.100.7").text == ""


def test_a_long_story_is_read_in_a_moment() -> None:
    assert OURS.address("10.0.0.1", "198.51.100.7," + "10.0.0.2," * 20_000 + "10.0.0.3").text == (
        "198.51.100.7"
    )


# as whom somebody is counted


def test_a_network_of_ipv6_is_one_and_an_address_of_ipv4_is() -> None:
    one, other = (NOBODY.address(f"2a00:1:2:3::{n}", None) for n in ("1", "ffff:1"))
    assert one.group == other.group == "2a00:1:2:3::/64"
    assert NOBODY.address("2a00:1:2:4::1", None).group == "2a00:1:2:4::/64"
    assert NOBODY.address("2a00:1:2:3::1%eth0", None).group == "2a00:1:2:3::/64"
    assert NOBODY.address("8.8.4.4", None).group == "8.8.4.4"
    assert NOBODY.address("::ffff:8.8.4.4", None).group == "8.8.4.4"


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "10.0.0.1", "172.17.0.1", "fd00::1", ""])
def test_who_may_be_a_proxy_that_nobody_named_is_not_counted_as_one_client(peer: str) -> None:
    assert NOBODY.address(peer, "198.51.100.7").group is None
    assert NOBODY.address(peer, None).group is None


def test_once_proxies_are_named_all_others_count_and_they_do_not() -> None:
    assert OURS.address("192.168.0.5", None).group == "192.168.0.5"
    assert OURS.address("127.0.0.1", "127.0.0.2").group == "127.0.0.2"
    assert OURS.address("10.0.0.1", "unknown").group is None
    assert OURS.address("10.0.0.1", None).group is None


def test_a_program_of_this_machine_is_one_that_no_proxy_has_spoken_for() -> None:
    for proxies in (NOBODY, OURS):
        assert proxies.address("127.0.0.1", None).is_own
        assert proxies.address("::1", "").is_own
        assert proxies.address("", None).is_own
        assert not proxies.address("127.0.0.1", "garbage").is_own
        assert not proxies.address("127.0.0.1", "127.0.0.1").is_own
        assert not proxies.address("10.0.0.1", None).is_own
    assert OURS.address("127.0.0.1", None).group is None


@pytest.mark.parametrize("name", ["10.0.0.1/8", "example.org", "", "0.0.0.0/0", "::/0", 7, None])
def test_what_names_no_proxies_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Proxies(["127.0.0.1", name])  # type: ignore[list-item]
