"""streaming/web/protocol.py: streaming.v1.json."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from streaming import Message
from streaming.clients import client as clients
from streaming.web.protocol import MAX_CHANNELS, PROTOCOL
from tests.greenlets import is_green, run_file
from tests.live.raw_websocket import CLOSE, TEXT, RawWebSocket, encode
from tests.polling import PATIENCE, wait_until
from tests.sites import Json, Site, make_app, serve

MINE = "0123456789abcdef"


def authorize(action: str, channel: str) -> bool:
    return channel != "secret"


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(make_app(authorize=authorize, message_size=100_000)) as site:
        yield site


def held(site: Site, channel: str) -> Sequence[Message]:
    """All messages of a channel."""
    log = site.state.hub.log
    return log.read(channel, log.tail(channel, 999), limit=999, size=10**6).messages


@pytest.fixture
def client(site: Site) -> Iterator[Json]:
    with site.json() as client:
        yield client


def test_the_welcome_names_the_client_and_the_protocol_is_agreed_on(site: Site) -> None:
    with connect(f"{site.ws_url}/streaming/ws", subprotocols=[PROTOCOL]) as ws:  # type: ignore[list-item]
        assert ws.subprotocol == "streaming.v1.json"
        welcome = json.loads(ws.recv(PATIENCE))
        assert welcome["type"] == "welcome"
        (row,) = site.registry.snapshot()["clients"]
        assert welcome == {"type": "welcome", "client": row["id"]}


def test_a_subscriber_gets_a_cursor_and_then_every_message(site: Site, client: Json) -> None:
    ready = client.ask(type="subscribe", channel="a", ref=7)
    assert ready == {"type": "ready", "channel": "a", "id": ready["id"], "ref": 7}
    posted = site.state.hub.publish("a", "你好", event="tick")
    assert client.recv() == {
        "type": "message",
        "channel": "a",
        "id": str(posted.id),
        "event": "tick",
        "data": "你好",
    }


def test_several_channels_share_one_connection_and_resume_each_by_its_own_id(site: Site) -> None:
    ids: dict[str, str] = {}
    with site.json() as client:
        for channel in "abc":
            ids[channel] = client.ask(type="subscribe", channel=channel)["id"]
        for n in range(30):
            site.state.hub.publish("abc"[n % 3], str(n))
        seen = [client.recv() for _ in range(30)]
        for n, channel in enumerate("abc"):
            told = [int(m["data"]) for m in seen if m["channel"] == channel]
            assert told == list(range(n, 30, 3))
    for message in seen[:15]:
        ids[message["channel"]] = message["id"]
    with site.json() as client:
        missed: list[str] = []
        for channel in "abc":
            client.send(type="subscribe", channel=channel, after=ids[channel])
        while len(missed) < 15:
            frame = client.recv()
            missed += [frame["data"]] if frame["type"] == "message" else []
        assert sorted(missed) == sorted(m["data"] for m in seen[15:])


def test_an_id_of_a_stream_of_events_resumes_here_and_the_other_way_round(site: Site) -> None:
    first = site.state.hub.publish("a", "1")
    site.state.hub.publish("a", "2")
    with site.json() as client:
        assert client.ask(type="subscribe", channel="a", after=str(first.id))["id"] == str(first.id)
        message = client.recv()
        assert message["data"] == "2"
    site.state.hub.publish("a", "3")
    headers = {"Last-Event-ID": message["id"]}
    with site.get("/streaming/events?channel=a", headers=headers) as stream:
        assert [stream.next_event().data for _ in range(2)][1] == "3"  # type: ignore[union-attr]


def test_history_begins_with_the_last_messages(site: Site, client: Json) -> None:
    for n in range(5):
        site.state.hub.publish("a", str(n))
    assert client.ask(type="subscribe", channel="a", history=2)["type"] == "ready"
    assert [client.recv()["data"] for _ in range(2)] == ["3", "4"]


def test_a_gap_is_told_with_a_cursor_behind_it(client: Json, site: Site) -> None:
    client.ask(type="subscribe", channel="a", after="gone-7")
    gap = client.recv()
    assert gap == {
        "type": "gap",
        "channel": "a",
        "requested": "gone-7",
        "oldest": None,
        "newest": None,
        "id": gap["id"],
    }
    posted = site.state.hub.publish("a", "on we go")
    assert client.recv()["id"] == str(posted.id)


def test_the_cursor_of_a_gap_is_before_the_oldest_message_held() -> None:
    with serve(make_app(retention_messages=3)) as site, site.json() as client:
        ids = [str(site.state.hub.publish("a", str(n)).id) for n in range(10)]
        client.ask(type="subscribe", channel="a", after=ids[0])
        gap = client.recv()
        assert (gap["oldest"], gap["newest"], gap["id"]) == (ids[7], ids[9], ids[6])
        assert [client.recv()["data"] for _ in range(3)] == ["7", "8", "9"]


def test_publish_is_acknowledged_and_reaches_the_publisher_too(client: Json) -> None:
    client.ask(type="subscribe", channel="a")
    client.send(type="publish", channel="a", data="x", event="said", ref="r")
    frames = sorted((client.recv(), client.recv()), key=lambda frame: frame["type"])
    ack, message = frames
    assert ack == {"type": "ack", "channel": "a", "id": message["id"], "ref": "r"}
    assert message == {
        "type": "message",
        "channel": "a",
        "id": ack["id"],
        "event": "said",
        "data": "x",
        "from": {"client": client.client},
    }


def test_others_see_who_published(site: Site, client: Json) -> None:
    with site.json() as other:
        other.ask(type="subscribe", channel="a")
        client.ask(type="publish", channel="a", data="x")
        assert other.recv()["from"] == {"client": client.client}


def test_a_repeated_key_gives_the_first_id_and_appends_nothing(site: Site, client: Json) -> None:
    first = client.ask(type="publish", channel="a", data="once", key="k", secret=MINE, ref=1)
    again = client.ask(type="publish", channel="a", data="once", key="k", secret=MINE, ref=2)
    other = client.ask(type="publish", channel="a", data="twice", key="l", secret=MINE, ref=3)
    assert first["id"] == again["id"] != other["id"]
    assert [first["ref"], again["ref"], other["ref"]] == [1, 2, 3]
    client.ask(type="subscribe", channel="a", history=9)
    assert [client.recv()["data"] for _ in range(2)] == ["once", "twice"]


def test_a_key_is_repeated_over_another_connection_and_over_http(site: Site, client: Json) -> None:
    once = {"data": "once", "key": "k", "secret": MINE}
    first = client.ask(type="publish", channel="a", **once)["id"]
    with site.json() as later:
        assert later.ask(type="publish", channel="a", **once)["id"] == first
    posted = site.app.test_client().post("/streaming/channels/a", json=once)
    assert posted.get_json()["id"] == first


def test_a_key_that_a_stranger_guesses_suppresses_nothing(site: Site, client: Json) -> None:
    with site.json() as stranger:
        stranger.ask(type="publish", channel="a", data="theirs", key="k", secret="f" * 32)
    client.ask(type="subscribe", channel="a")
    client.send(type="publish", channel="a", data="mine", key="k", secret=MINE)
    assert "mine" in {client.recv().get("data"), client.recv().get("data")}


def test_nothing_comes_of_a_channel_after_unsubscribe(site: Site, client: Json) -> None:
    client.ask(type="subscribe", channel="a")
    client.ask(type="subscribe", channel="b")
    answer = client.ask(type="unsubscribe", channel="a", ref=0)
    assert answer == {"type": "unsubscribed", "channel": "a", "ref": 0}
    assert site.state.hub.subscribers("a") == 0
    site.state.hub.publish("a", "unheard")
    site.state.hub.publish("b", "heard")
    assert client.recv()["data"] == "heard"
    assert client.ask(type="subscribe", channel="a")["type"] == "ready"


def test_a_publish_followed_at_once_by_a_close_is_answered(site: Site) -> None:
    with RawWebSocket(site) as ws:  # type: ignore[arg-type]
        assert ws.read_json()["type"] == "welcome"
        ws.send_json(type="subscribe", channel="a")
        assert ws.read_json()["type"] == "ready"
        frame = json.dumps({"type": "publish", "channel": "a", "data": "last"}).encode()
        ws.socket.sendall(encode(TEXT, frame) + encode(CLOSE))
        kinds = {ws.read_json()["type"] for _ in range(2)}
        assert kinds == {"ack", "message"}
        assert ws.read().opcode == CLOSE


@pytest.mark.parametrize(
    ("frame", "status", "part"),
    [
        ("not JSON", 400, "not JSON"),
        ("", 400, "not JSON"),
        ("[]", 400, "JSON object"),
        ("7", 400, "JSON object"),
        ("{}", 400, "'type'"),
        ('{"type": 7}', 400, "'type'"),
        ('{"type": "dance"}', 400, "'dance' is unknown"),
        ('{"type": "subscribe"}', 400, "'channel'"),
        ('{"type": "subscribe", "channel": 7}', 400, "'channel'"),
        ('{"type": "subscribe", "channel": "a b"}', 400, "not a channel name"),
        ('{"type": "subscribe", "channel": ""}', 400, "not a channel name"),
        ('{"type": "subscribe", "channel": "a", "after": "nonsense"}', 400, "not a cursor"),
        ('{"type": "subscribe", "channel": "a", "after": 7}', 400, "'after'"),
        ('{"type": "subscribe", "channel": "a", "history": -1}', 400, "'history'"),
        ('{"type": "subscribe", "channel": "a", "history": "many"}', 400, "'history'"),
        ('{"type": "subscribe", "channel": "a", "history": true}', 400, "'history'"),
        ('{"type": "subscribe", "channel": "a", "history": null}', 400, "'history'"),
        ('{"type": "subscribe", "channel": "secret"}', 403, "may not subscribe"),
        ('{"type": "unsubscribe", "channel": "never"}', 400, "not followed"),
        ('{"type": "publish", "channel": "a"}', 400, "'data'"),
        ('{"type": "publish", "channel": "a", "data": 7}', 400, "'data'"),
        ('{"type": "publish", "channel": "a", "data": "x", "event": "a\\nb"}', 400, "event name"),
        ('{"type": "publish", "channel": "a", "data": "x", "event": "close"}', 400, "event name"),
        ('{"type": "publish", "channel": "a", "data": "x", "key": ""}', 400, "idempotency key"),
        ('{"type": "publish", "channel": "a", "data": "x", "key": 7}', 400, "'key'"),
        ('{"type": "publish", "channel": "a", "data": "x", "key": "\\ud800"}', 400, "surrogate"),
        ('{"type": "publish", "channel": "a", "data": "x", "key": "k"}', 400, "'secret'"),
        ('{"type": "publish", "channel": "a", "data": "x", "secret": 7}', 400, "'secret'"),
        ('{"type": "publish", "channel": "a", "data": "\\ud800"}', 400, "surrogate"),
        ('{"type": "publish", "channel": "secret", "data": "x"}', 403, "may not publish"),
        ('{"type": "publish", "channel": "a:presence", "data": "x"}', 403, "joining and leaving"),
        ('{"type": "subscribe", "channel": "secret:presence"}', 403, "may not subscribe"),
        ('{"type": "join"}', 400, "'channel'"),
        ('{"type": "join", "channel": "a b"}', 400, "not a channel name"),
        ('{"type": "join", "channel": "a:presence"}', 400, "nobody joins it"),
        ('{"type": "join", "channel": "secret"}', 403, "may not subscribe"),
        ('{"type": "join", "channel": "a", "info": 7}', 400, "'info'"),
        ('{"type": "join", "channel": "a", "info": null}', 400, "'info'"),
        ('{"type": "join", "channel": "a", "info": "\\ud800"}', 400, "surrogate"),
        (json.dumps({"type": "join", "channel": "a", "info": "x" * 1025}), 400, "at most 1024"),
        (json.dumps({"type": "join", "channel": "a" * 120}), 400, "not a channel name"),
        ('{"type": "leave"}', 400, "'channel'"),
        ('{"type": "leave", "channel": "a"}', 400, "was not joined"),
        ('{"type": "presence"}', 400, "'channel'"),
        ('{"type": "presence", "channel": "a b"}', 400, "not a channel name"),
        ('{"type": "presence", "channel": "secret"}', 403, "may not subscribe"),
        ('{"type": "subscribe", "channel": "a", "ref": [1]}', 400, "'ref'"),
        (json.dumps({"type": "subscribe", "ref": "r" * 65}), 400, "'ref'"),
        ('{"type": "subscribe", "channel": "a", "ref": 1e999}', 400, "'ref'"),
        ('{"type": "\\ud800"}', 400, "unknown"),
        ('{"type": "subscribe", "channel": "\\ud800"}', 400, "not a channel name"),
        ('{"type": "subscribe", "ref": "\\ud800"}', 400, ""),
        ("[" * 50_000, 400, "too much in it"),
        ("[" * 1_000, 400, "not JSON"),
        ('{"type": "subscribe", "ref": ' + "9" * 5000 + "}", 400, ""),
    ],
)
def test_a_frame_that_cannot_be_followed_is_answered_and_changes_nothing(
    site: Site, client: Json, frame: str, status: int, part: str
) -> None:
    client.socket.send(frame)
    error = client.recv()
    assert (error["type"], error["status"]) == ("error", status), error
    assert error["title"]
    assert part in error["detail"]
    assert client.ask(type="subscribe", channel="b", ref="after")["ref"] == "after"
    wait_until(lambda: site.registry.snapshot()["clients"][0]["channels"] == ["b"], "b alone")
    assert len(site.state.presence) == 0
    assert site.state.presence.members("a") == []


def test_an_error_carries_the_ref_of_what_it_answers(client: Json) -> None:
    assert client.ask(type="subscribe", channel="a b", ref="r")["ref"] == "r"
    assert client.ask(type="subscribe", channel="a b", ref=None)["ref"] is None
    assert "ref" not in client.ask(type="subscribe", channel="a b")


def test_a_channel_is_followed_once(client: Json) -> None:
    client.ask(type="subscribe", channel="a")
    assert "followed already" in client.ask(type="subscribe", channel="a")["detail"]


def test_a_connection_follows_only_so_many_channels(client: Json) -> None:
    for n in range(MAX_CHANNELS):
        assert client.ask(type="subscribe", channel=f"c{n}")["type"] == "ready"
    assert "at most 32" in client.ask(type="subscribe", channel="one-more")["detail"]
    client.ask(type="unsubscribe", channel="c0")
    assert client.ask(type="subscribe", channel="one-more")["type"] == "ready"


def test_a_message_over_the_limit_is_refused_by_the_frame_or_by_an_error(site: Site) -> None:
    with site.json() as client:
        body = '{"type":"publish","channel":"a","data":"' + "x" * 100_000 + '"}'
        client.socket.send(body)
        opcode, frame = client.socket.recv_data_frame(control_frame=True)
        assert opcode == CLOSE
        assert int.from_bytes(frame.data[:2]) == 1009


def test_a_binary_frame_is_never_taken_for_json(site: Site, client: Json) -> None:
    frame = json.dumps({"type": "publish", "channel": "a", "data": "x"}).encode()
    client.socket.send_binary(frame)
    opcode, answer = client.socket.recv_data_frame(control_frame=True)
    told: Any = answer.data
    if opcode == CLOSE:
        assert int.from_bytes(told[:2]) == 1003
    else:
        assert json.loads(told)["type"] == "error"
    assert site.state.hub.log.tail("a").offset == 0


def test_a_drain_closes_with_1012_and_refuses_to_publish_or_subscribe(site: Site) -> None:
    with connect(f"{site.ws_url}/streaming/ws", subprotocols=[PROTOCOL]) as ws:  # type: ignore[list-item]
        assert ws.recv(PATIENCE)
        ws.send('{"type": "subscribe", "channel": "a"}')
        assert "ready" in str(ws.recv(PATIENCE))
        site.state.close()
        with pytest.raises(ConnectionClosedError):
            ws.recv(PATIENCE)
        assert ws.close_code == 1012


def test_a_connection_that_ends_leaves_all_its_channels(site: Site) -> None:
    with site.json() as client:
        for channel in "abc":
            client.ask(type="subscribe", channel=channel)
        wait_until(
            lambda: site.registry.snapshot()["clients"][0]["channels"] == ["a", "b", "c"],
            "all three channels",
        )
    site.wait_empty()
    assert [site.state.hub.subscribers(channel) for channel in "abc"] == [0, 0, 0]


def test_joining_answers_with_who_is_there_and_tells_who_subscribes(
    site: Site, client: Json
) -> None:
    ready = client.ask(type="subscribe", channel="a:presence")
    assert ready["type"] == "ready"
    with site.json() as other:
        joined = other.ask(type="join", channel="a", info="Ben", ref=1)
        ben = {"id": other.client, "info": "Ben"}
        assert joined == {"type": "joined", "channel": "a", "members": [ben], "ref": 1}
        event = client.recv()
        assert event == {
            "type": "message",
            "channel": "a:presence",
            "id": event["id"],
            "event": "join",
            "data": json.dumps(ben, separators=(",", ":")),
        }
        assert client.ask(type="presence", channel="a", ref="p") == {
            "type": "presence",
            "channel": "a",
            "members": [ben],
            "ref": "p",
        }
        left = other.ask(type="leave", channel="a", ref=2)
        assert left == {"type": "left", "channel": "a", "ref": 2}
        event = client.recv()
        assert (event["event"], json.loads(event["data"])) == ("leave", {"id": other.client})
    assert client.ask(type="presence", channel="a")["members"] == []


def test_a_crowd_is_listed_in_pages_and_a_join_costs_no_more_than_one(
    site: Site, client: Json
) -> None:
    ids = [f"m{n:03d}" for n in range(100)]
    for id in ids:
        site.state.presence.join("a", id, "x" * 1024)
    joined = client.ask(type="join", channel="a", info="")
    page, listed = joined, [member["id"] for member in joined["members"]]
    assert (joined["type"], len(listed), joined["more"]) == ("joined", 16, "m015")
    while more := page.get("more"):
        page = client.ask(type="presence", channel="a", after=more, ref=more)
        assert (page["type"], page["after"], page["ref"]) == ("presence", more, more)
        listed += [member["id"] for member in page["members"]]
    assert listed == [*ids, client.client]
    for bad in (1, True, ["m015"]):
        answer = client.ask(type="presence", channel="a", after=bad)
        assert (answer["type"], answer["status"]) == ("error", 400)
    for id in ids:
        site.state.presence.leave("a", id)


def test_joining_again_changes_the_info_and_not_the_number(site: Site, client: Json) -> None:
    client.ask(type="join", channel="a", info="Ann")
    members = client.ask(type="join", channel="a", info="Anna")["members"]
    assert members == [{"id": client.client, "info": "Anna"}]
    assert client.ask(type="leave", channel="a")["type"] == "left"
    assert "was not joined" in client.ask(type="leave", channel="a")["detail"]


def test_a_room_needs_no_permission_but_to_subscribe() -> None:
    asked: list[tuple[str, str]] = []

    def authorize(action: str, channel: str) -> bool:
        asked.append((action, channel))
        return action == "subscribe"

    with serve(make_app(authorize=authorize)) as site, site.json() as client:
        assert client.ask(type="join", channel="a")["type"] == "joined"
        assert client.ask(type="presence", channel="a")["type"] == "presence"
        assert client.ask(type="subscribe", channel="a:presence")["type"] == "ready"
        assert asked == [("subscribe", "a")] * 3


def test_nobody_forges_who_is_there(site: Site, client: Json) -> None:
    client.ask(type="subscribe", channel="a:presence")
    data = '{"id":"boss","info":""}'
    for event in ("join", "leave", "message"):
        frame = {"channel": "a:presence", "data": data, "event": event}
        assert client.ask(type="publish", **frame)["status"] == 403
    assert site.state.hub.log.tail("a:presence").offset == 0


def test_a_connection_is_in_only_so_many_rooms(client: Json) -> None:
    for n in range(MAX_CHANNELS):
        assert client.ask(type="join", channel=f"r{n}")["type"] == "joined"
    assert "at most 32" in client.ask(type="join", channel="one-more")["detail"]
    assert client.ask(type="join", channel="r1", info="new")["type"] == "joined"
    client.ask(type="leave", channel="r0")
    assert client.ask(type="join", channel="one-more")["type"] == "joined"


@pytest.mark.parametrize("how", ["closed", "cut", "cut in a frame", "a fault", "drained"])
def test_whatever_ends_a_connection_it_leaves_its_rooms_once(
    site: Site, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "FAREWELL", 0.05)  # it says no goodbye
    with RawWebSocket(site) as ws:  # type: ignore[arg-type]
        client = ws.read_json()["client"]
        for room in "abc":
            ws.send_json(type="join", channel=room)
            assert ws.read_json()["type"] == "joined"
        if how == "closed":
            ws.send(CLOSE, b"")
        elif how == "cut":
            ws.socket.close()
        elif how == "cut in a frame":
            ws.socket.sendall(encode(TEXT, b"x" * 1000)[:500])
            ws.socket.close()
        elif how == "a fault":
            ws.socket.sendall(b"\xff" * 100)
        else:
            site.state.close()
        site.wait_empty()
        presence = site.state.presence
        wait_until(lambda: presence.is_idle, "it has left everywhere, and that is told")
        assert not any(presence.members(room) for room in "abc")
        events = [(item.event, json.loads(item.data)["id"]) for item in held(site, "b:presence")]
        assert events == [("join", client), ("leave", client)]


def test_a_room_that_was_left_before_is_not_left_again_at_the_end(site: Site) -> None:
    with site.json() as client:
        for _ in range(3):
            client.ask(type="join", channel="a")
            client.ask(type="leave", channel="a")
    site.wait_empty()
    assert [item.event for item in held(site, "a:presence")] == ["join", "leave"] * 3


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
