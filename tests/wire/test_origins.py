"""streaming/wire/origins.py: origins and hosts, parsed by the letter of their grammars."""

import pytest

from streaming.wire.origins import Origin, parse_host, parse_origin


@pytest.mark.parametrize(
    ("page", "is_covered"),
    [
        ("https://a.example.org", True),
        ("https://A.Example.ORG:443", True),
        ("https://b.a.example.org", True),
        ("https://example.org", False),
        ("https://.example.org", False),
        ("https://evil-example.org", False),
        ("https://evilexample.org", False),
        ("https://a.example.org.evil.example", False),
        ("https://*.example.org", False),
        ("http://a.example.org", False),
        ("https://a.example.org:8443", False),
        ("https://a.example.com", False),
    ],
)
def test_a_star_in_front_means_the_sub_domains_and_nobody_else(page: str, is_covered: bool) -> None:
    listed, origin = parse_origin("https://*.example.org"), parse_origin(page)
    assert listed is not None
    assert origin is not None
    assert listed.covers(origin) == is_covered
    assert origin.covers(origin) == ("*" not in page)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://example.org", Origin("http", "example.org", 80)),
        ("https://example.org", Origin("https", "example.org", 443)),
        ("HTTPS://Example.ORG:443", Origin("https", "example.org", 443)),
        ("http://my_app:8000", Origin("http", "my_app", 8000)),
        ("http://192.0.2.1:5000", Origin("http", "192.0.2.1", 5000)),
        ("http://[2001:DB8::1]", Origin("http", "[2001:db8::1]", 80)),
        ("http://[::1]:8000", Origin("http", "[::1]", 8000)),
        ("capacitor://localhost", Origin("capacitor", "localhost", None)),
        ("chrome-extension://abcdefgh", Origin("chrome-extension", "abcdefgh", None)),
    ],
)
def test_an_origin_is_scheme_host_and_port(text: str, origin: Origin) -> None:
    assert parse_origin(text) == origin
    assert parse_origin(str(origin)) == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "*",
        "example.org",
        "//example.org",
        "http:example.org",
        "http://",
        "file://",
        "http://evil.example@host",
        "http://user:word@host",
        "http://host/",
        "http://host/x?y#z",
        "http://host?y",
        "http://host#z",
        "http://host:",
        "http://host:port",
        "http://host:65536",
        "http://host:123456",
        "http://host:-1",
        "http://host:８０",
        "http://[::1",
        "http://::1",
        "http://[x]",
        "http://a b",
        " http://host",
        "http://host\n",
        "http://host, http://other",
        "http://host http://other",
        "http://b\u00fccher.example",
        "http://%zz",
        "http://\\host",
        "1http://host",
        "http://" + "x" * 300,
    ],
)
def test_what_is_no_origin_is_none(text: str) -> None:
    assert parse_origin(text) is None


@pytest.mark.parametrize(
    ("text", "scheme", "origin"),
    [
        ("example.org", "http", "http://example.org"),
        ("example.org", "https", "https://example.org"),
        ("example.org:443", "https", "https://example.org"),
        ("example.org:80", "https", "https://example.org:80"),
        ("example.org:", "http", "http://example.org"),
        ("my_app:8000", "http", "http://my_app:8000"),
        ("[::1]:8000", "http", "http://[::1]:8000"),
        ("EXAMPLE.org", "wss", "https://example.org"),
        ("example.org:8000", "ws", "http://example.org:8000"),
    ],
)
def test_a_host_and_a_scheme_are_an_origin(text: str, scheme: str, origin: str) -> None:
    assert parse_host(text, scheme) == parse_origin(origin) is not None


@pytest.mark.parametrize(
    "text",
    ["", ":80", "a b", "a/b", "a@b", "a:b", "a:99999", "a,b", "[::1", "::1", "a\n", "ä", "a:1:2"],
)
def test_a_host_that_cannot_be_read_is_none(text: str) -> None:
    assert parse_host(text, "http") is None
