"""streaming/web/origin.py: which pages may talk to us."""

import pytest
from flask import Flask, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix

from streaming import Forbidden, InvalidRequest, Sock, Streaming
from streaming.web.origin import allow_origin, check_origin, is_listed
from tests.live.raw_websocket import handshake
from tests.sites import make_app, serve

LISTED = ["https://listed.example", "http://other.example:8080"]


def is_allowed(origin: str | None, host: str = "example.org", **headers: str) -> bool:
    given = {"Host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if origin is not None:
        given["Origin"] = origin
    with Flask("x").test_request_context("/", headers=given):
        try:
            check_origin(request, LISTED)
        except Forbidden:
            return False
        return True


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "example.org"),
        ("http://example.org", "example.org"),
        ("http://EXAMPLE.org", "example.org"),
        ("http://example.org:80", "example.org"),
        ("http://example.org", "example.org:80"),
        ("http://example.org:8000", "example.org:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("https://listed.example", "example.org"),
        ("https://LISTED.example:443", "example.org"),
        ("http://my_app:8000", "my_app:8000"),
        ("http://flask_app", "flask_app"),
        ("http://other.example:8080", "example.org"),
    ],
)
def test_the_own_host_listed_origins_and_programs_may_connect(
    origin: str | None, host: str
) -> None:
    assert is_allowed(origin, host)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "file://",
        "http://evil.example",
        "http://example.org.evil.example",
        "http://evil.example/example.org",
        "http://example.org@evil.example",
        "http://example.org:8001",
        "https://example.org:444",
        "http://listed.example",
        "https://listed.example:444",
        "http://example.org:port",
        "http://example.org:99999999",
        "http://[::1",
        "http://\x00",
        "x" * 5000,
        "https://example.org",  # the scheme is another, so it is another page
        "https://example.org:80",
        "http://evil.example@example.org",
        "http://example.org/",
        "http://example.org/x?y#z",
        "http://example.org?",
        "ftp://example.org",
        "ftp://example.org:80",
        "ws://example.org",
        "//example.org",
        "example.org",
        "http://example.org, http://example.org",
    ],
)
def test_pages_of_anybody_else_may_not(origin: str) -> None:
    assert not is_allowed(origin)


@pytest.mark.parametrize("host", ["my_app:8000", "flask_app", "example.org", "[::1]:8000"])
@pytest.mark.parametrize("origin", ["null", "", "nonsense", "http://", "http://a b"])
def test_an_origin_that_cannot_be_read_is_nobodys(origin: str, host: str) -> None:
    assert not is_allowed(origin, host)
    assert is_allowed(origin, host, Sec_Fetch_Site="same-origin")


@pytest.mark.parametrize("host", ["", "a b", "evil@example.org", "example.org:port", "[::1", "a,b"])
@pytest.mark.parametrize("origin", [None, "null", "", "http://a b", "https://listed.example"])
def test_a_request_without_a_host_that_can_be_read_is_refused(
    host: str, origin: str | None
) -> None:
    with pytest.raises(InvalidRequest, match="Host is missing or malformed"):
        is_allowed(origin, host)


def test_a_websocket_of_a_sandboxed_frame_is_refused_at_a_host_with_an_underscore() -> None:
    with serve(make_app()) as site:
        for origin, status in (("null", 403), ("http://my_app:8000", 101)):
            ask = handshake(site, "/streaming/ws", Origin=origin, Host="my_app:8000")  # type: ignore[arg-type]
            assert site.raw(ask)[0] == status
        ask = handshake(site, "/streaming/ws", Host="")  # type: ignore[arg-type]
        assert site.raw(ask)[0] == 400


def test_a_long_origin_is_not_said_back_whole() -> None:
    headers = {"Origin": "http://" + "x" * 4000}
    with (
        Flask("x").test_request_context("/", headers=headers),
        pytest.raises(Forbidden) as refused,
    ):
        check_origin(request, ())
    assert len(str(refused.value)) < 400


def test_a_refusal_names_the_origin_and_the_setting() -> None:
    with (
        Flask("x").test_request_context("/", headers={"Origin": "http://evil.example"}),
        pytest.raises(Forbidden, match=r"http://evil\.example .*STREAMING_ORIGINS"),
    ):
        check_origin(request, LISTED)


def test_a_browser_that_says_it_is_the_same_origin_is_believed_behind_a_rewritten_host() -> None:
    outside, inside = "http://public.example", "127.0.0.1:8000"
    assert not is_allowed(outside, inside)
    assert is_allowed(outside, inside, Sec_Fetch_Site="same-origin")
    assert not is_allowed("http://evil.example", inside, Sec_Fetch_Site="cross-site")
    assert not is_allowed("http://evil.example", inside, Sec_Fetch_Site="same-site")


def test_a_trusted_proxys_host_and_scheme_are_the_own() -> None:
    app = Flask("x")
    app.add_url_rule("/", view_func=lambda: (check_origin(request, ()), "welcome")[1])
    app.register_error_handler(Forbidden, lambda error: ("no", 403))
    app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1, x_proto=1)  # type: ignore[method-assign]
    headers = {
        "Host": "127.0.0.1:8000",
        "X-Forwarded-Host": "public.example",
        "X-Forwarded-Proto": "https",
    }
    ask = app.test_client().get
    assert ask("/", headers=headers | {"Origin": "https://public.example"}).text == "welcome"
    assert ask("/", headers=headers | {"Origin": "http://public.example"}).status_code == 403
    assert ask("/", headers=headers | {"Origin": "https://evil.example"}).status_code == 403


def test_a_star_lists_everybody() -> None:
    assert is_listed("https://anybody.example", ["*"])
    assert is_listed("null", ["*"])
    assert not is_listed("https://anybody.example", [])
    assert not is_listed("null", ["null", "nonsense"])


def test_a_listed_origin_may_be_written_in_any_way_that_means_it() -> None:
    for written in ("https://A.example", "https://a.example:443", "https://a.example/"):
        assert is_listed("https://a.example", [written])
    assert not is_listed("http://a.example", ["https://a.example"])
    assert is_listed("capacitor://localhost", ["capacitor://localhost"])


def test_sub_domains_are_listed_with_a_star_in_front() -> None:
    for listed in (["https://*.a.example"], ["https://other.example", "https://*.a.example/"]):
        assert is_listed("https://x.a.example", listed)
        assert not is_listed("https://a.example", listed)
        assert not is_listed("https://evil-a.example", listed)


def allowed(
    origin: str | None, method: str = "GET", listed: list[str] = LISTED, own: tuple[str, ...] = ()
) -> Response:
    headers = {} if origin is None else {"Origin": origin}
    with Flask("x").test_request_context("/", method=method, headers=headers):
        return allow_origin(request, Response(), listed, own)


def test_pages_that_are_listed_may_send_cookies_and_those_of_a_star_may_not() -> None:
    header = "Access-Control-Allow-Credentials"
    assert allowed("https://listed.example").headers[header] == "true"
    assert allowed("https://a.b.example", listed=["https://*.b.example"]).headers[header] == "true"
    both = ["*", "https://listed.example"]
    assert allowed("https://listed.example", listed=both).headers[header] == "true"
    assert header not in allowed("https://any.example", listed=both).headers
    assert header not in allowed("null", listed=both).headers
    assert header not in allowed("https://evil.example").headers


def test_a_preflight_allows_a_login_and_the_applications_own_headers() -> None:
    answer = allowed("https://listed.example", "OPTIONS", own=("X-Api-Key", "X-Team"))
    sent = [n.strip() for n in answer.headers["Access-Control-Allow-Headers"].split(",")]
    assert sent[-3:] == ["Authorization", "X-Api-Key", "X-Team"]
    assert int(answer.headers["Access-Control-Max-Age"]) > 60


def test_pages_of_listed_origins_may_read_an_answer_and_no_others() -> None:
    header = "Access-Control-Allow-Origin"
    assert allowed("https://listed.example").headers[header] == "https://listed.example"
    assert allowed("https://any.example", listed=["*"]).headers[header] == "https://any.example"
    assert header not in allowed("https://evil.example").headers
    assert header not in allowed(None).headers


def exposed(response: Response) -> set[str]:
    return {name.lower() for name in response.access_control_expose_headers or ()}


def test_pages_of_listed_origins_may_read_where_a_run_is_and_when_to_come_again() -> None:
    assert exposed(allowed("https://listed.example")) == {"location", "retry-after"}
    assert exposed(allowed("https://evil.example")) == set()


def test_what_an_application_exposes_itself_stays_exposed() -> None:
    with Flask("x").test_request_context("/", headers={"Origin": "https://listed.example"}):
        response = Response(headers={"Access-Control-Expose-Headers": "X-Own, location"})
        for _ in ("the blueprint's hook", "the application's own"):
            response = allow_origin(request, response, LISTED)
    assert exposed(response) == {"x-own", "location", "retry-after"}
    assert len(response.headers["Access-Control-Expose-Headers"].split(",")) == 3


def test_every_answer_says_that_it_depends_on_the_origin() -> None:
    assert all("Origin" in allowed(o).headers["Vary"] for o in (None, "https://listed.example"))


def test_a_preflight_allows_what_a_resuming_stream_needs() -> None:
    answer = allowed("https://listed.example", "OPTIONS")
    assert "Last-Event-ID" in answer.headers["Access-Control-Allow-Headers"]
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    other = allowed("https://evil.example", "OPTIONS")
    assert "Access-Control-Allow-Headers" not in other.headers


def test_a_preflight_allows_to_ask_once_and_to_stop_the_answer() -> None:
    answer = allowed("https://listed.example", "OPTIONS")
    assert "Idempotency-Key" in answer.headers["Access-Control-Allow-Headers"]
    assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize("is_passed", [True, False])
def test_a_login_that_every_request_needs_keeps_pages_of_other_hosts_out(is_passed: bool) -> None:
    """A browser asks first without one, and wants a good status (Fetch standard, section 4.9)."""
    app = make_app(origins=["https://listed.example"])

    @app.before_request
    def check() -> tuple[str, int] | None:
        is_asked = is_passed and request.method == "OPTIONS"
        return None if is_asked or "Authorization" in request.headers else ("Log in first.", 401)

    headers = {"Origin": "https://listed.example", "Access-Control-Request-Method": "GET"}
    headers["Access-Control-Request-Headers"] = "authorization"
    answer = app.test_client().options("/streaming/events?channel=news", headers=headers)
    assert (answer.status_code == 200) == is_passed
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]


ADDRESSES = [
    "/streaming/events?channel=news",
    "/streaming/presence/news",
    "/streaming/readyz",
    "/streaming/ws",
    "/echo",
    "/mine",
]


def statuses(host: str, trusted: list[str] | None) -> set[int]:
    """What pages of ``host`` are answered, which they have made to mean our address."""
    app = Flask("x")
    app.config["TRUSTED_HOSTS"] = trusted
    streaming = Streaming(app, authorize=lambda action, channel: True)
    Sock(app).route("/echo", endpoint="echo")(lambda ws: lambda message: ws.send(message))
    app.add_url_rule("/mine", "mine", lambda: streaming.events("news"))
    found = set()
    with serve(app) as site:
        for path in ADDRESSES:
            headers = {"Host": host, "Origin": f"http://{host}"}
            is_socket = path in ("/streaming/ws", "/echo")
            if is_socket:
                ask = handshake(site, path, **headers)  # type: ignore[arg-type]
            else:
                lines = [f"GET {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
                ask = "\r\n".join([*lines, "Connection: close", "", ""]).encode()
            found.add(site.raw(ask)[0])
        site.wait_empty()
    return found


def test_a_name_that_others_have_made_to_mean_our_address_is_refused_everywhere() -> None:
    hosts = ["app.example", ".of.example"]
    assert statuses("evil.example:8000", None) == {200, 101}  # nobody has said what we are called
    assert statuses("evil.example:8000", hosts) == {400}
    assert statuses("app.example.evil.example", hosts) == {400}
    assert statuses("app.example:8000", hosts) == statuses("a.of.example", hosts) == {200, 101}
