"""streaming/logs/redis/url.py: what log URLs can say."""

import pytest

from streaming.errors import ConfigurationError
from streaming.logs import open_log
from streaming.logs.redis import RedisLog
from streaming.logs.redis.url import RedisURL


def test_a_server_is_a_host_a_port_and_a_database() -> None:
    url = RedisURL.parse("redis://host")
    assert (url.kind, url.nodes, url.db, url.tls) == ("server", (("host", 6379),), 0, False)
    assert (url.username, url.password, url.prefix) == (None, None, "streaming:")
    url = RedisURL.parse("rediss://:p%40ss@[::1]:7000/3?prefix=app:&ssl_ca_certs=/etc/ca.pem")
    assert (url.nodes, url.db, url.tls) == ((("::1", 7000),), 3, True)
    assert (url.username, url.password, url.prefix) == (None, "p@ss", "app:")
    assert url.options["ssl_ca_certs"] == "/etc/ca.pem"


def test_a_sentinel_url_names_sentinels_and_the_service_they_watch() -> None:
    url = RedisURL.parse("redis+sentinel://ann:pw@one:1,two/news/2?sentinel_password=x")
    assert (url.kind, url.nodes) == ("sentinel", (("one", 1), ("two", 26379)))
    assert (url.service, url.db, url.username, url.password) == ("news", 2, "ann", "pw")


def test_a_cluster_url_names_some_of_its_nodes() -> None:
    url = RedisURL.parse("rediss+cluster://one:7000,two:7001")
    assert (url.kind, url.tls) == ("cluster", True)
    assert url.nodes == (("one", 7000), ("two", 7001))


@pytest.mark.parametrize(
    "text",
    [
        "redis://host",
        "rediss://host:1/2",
        "redis+sentinel://one:1,two:2/news/1",
        "redis+cluster://[::1]:1,two:2",
    ],
)
def test_it_is_printed_without_its_secrets(text: str) -> None:
    secret = text.replace("://", "://ann:s3cret@") + "?prefix=p:"
    url = RedisURL.parse(secret)
    assert str(url).replace(":6379", "") == text
    assert "s3cret" not in repr(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis:", "host:port belongs"),
        ("redis://", "host:port belongs"),
        ("redis://host:port", "host:port belongs"),
        ("redis://host:70000", "host:port belongs"),
        ("redis://one,two", "several servers"),
        ("redis://host/zero", "says nothing here"),
        ("redis://host/0/1", "says nothing here"),
        ("redis+cluster://host/1", "says nothing here"),
        ("redis+sentinel://host", "does not name the service"),
        ("redis+sentinel://host/", "does not name the service"),
        ("redis+sentinel://host/news/x", "says nothing here"),
        ("redis+unix:///tmp/socket", "begins with"),
        ("redisx://host", "begins with"),
        ("redis://host?timeout=3", "has the option 'timeout'; there are: prefix"),
        ("redis://host?prefix", "cannot be read"),
        ("redis://host?prefix={a}", "braces"),
        ("redis://host?ssl_ca_certs=/x", "only rediss"),
        ("rediss://host?ssl_cert_reqs=maybe", "none, optional and required"),
        ("redis://host?sentinel_password=x", r"only redis\+sentinel"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_can(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        open_log(url)
    assert "redis+sentinel://" in str(caught.value)


def test_the_password_of_a_url_that_is_refused_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_log("redis://ann:s3cret@host/zero?prefix=x")
    assert "s3cret" not in str(caught.value)


def test_a_url_opens_a_redis_log_without_connecting() -> None:
    log = open_log("redis://nowhere.invalid/0")
    assert isinstance(log, RedisLog)
    log.close()
