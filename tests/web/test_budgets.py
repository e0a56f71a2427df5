"""What one may do at once and in a time: whom it counts for, and how more of it is refused."""

from werkzeug.middleware.proxy_fix import ProxyFix

from streaming import stream
from tests.sites import Site, make_app, serve

EVENTS = "/streaming/events?channel=a"
BEHIND = {"X-Forwarded-For": "1.1.1.1, 198.51.100.7"}
"""What the proxy of this machine says; the first is what its client has made up."""


def peers(site: Site) -> list[object]:
    return [row["peer"] for row in site.registry.snapshot()["clients"]]


def test_the_registry_shows_the_address_that_a_trusted_proxy_has_said() -> None:
    app = make_app(trusted_proxies=["127.0.0.1"])
    app.add_url_rule("/answer", view_func=lambda: stream(iter(["a", "b"]), every=60))
    with serve(app) as site:
        for path in (EVENTS, "/answer"):
            with site.get(path, headers=BEHIND) as client:
                client.read(1)
                assert peers(site) == ["198.51.100.7"]
            site.wait_empty()
        with site.json(headers=BEHIND):
            assert peers(site) == ["198.51.100.7"]


def test_the_word_of_a_proxy_that_nobody_named_does_not_count_but_proxy_fix_does() -> None:
    with serve(make_app()) as site, site.json(headers=BEHIND):
        assert peers(site) == ["127.0.0.1"]
    with serve(make_app(), wrap=ProxyFix) as site, site.json(headers=BEHIND):
        assert peers(site) == ["198.51.100.7"]
    both = make_app(trusted_proxies=["127.0.0.1"])
    with serve(both, wrap=ProxyFix) as site, site.json(headers=BEHIND):
        assert peers(site) == ["198.51.100.7"]
