"""What is refused: with a status that says whose fault it is, and a reason in words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from recsys_spark.config import Config
from recsys_spark.config.serving import Serving
from recsys_spark.errors import UserError
from recsys_spark.serving.keys import ApiKeys, keys_of
from recsys_spark.serving.limits import RateLimit
from tests.unit.serving.service import configured, publication, publish, serving

LIST, SESSION, EVENTS = "/v1/users/anna/recommendations", "/v1/sessions/recommendations", "/v1/events"
VIEW = {"event_id": "e", "user_id": "anna", "item_id": "ale", "event_type": "view"}
KEY = "open-sesame-open-sesame"


@pytest.mark.parametrize(
    ("status", "method", "path", "body", "reason"),
    [
        (422, "GET", f"{LIST}?k=0", None, "query.k"),
        (422, "GET", f"{LIST}?k=101", None, "query.k"),
        (422, "GET", f"{LIST}?k=many", None, "query.k"),
        (422, "GET", f"{LIST}?context={','.join(map(str, range(51)))}", None, "at most 50"),
        (422, "GET", f"{LIST}?context=a%00b", None, "no item id"),
        (422, "GET", "/v1/users/%01/recommendations", None, "cannot be printed"),
        (422, "GET", f"/v1/users/{'u' * 201}/recommendations", None, "user_id"),
        (422, "GET", "/v1/users//recommendations", None, "user_id"),
        (404, "GET", "/v1/users/anna", None, "Not Found"),
        (405, "DELETE", LIST, None, "Method Not Allowed"),
        (400, "POST", EVENTS, b"{", "no JSON"),
        (400, "POST", EVENTS, b"[" * 50_000, "body"),
        (422, "POST", EVENTS, b"[]", "body"),
        (422, "POST", EVENTS, b'{"events": [{}]}', "body.events.0"),
        (422, "POST", EVENTS, {"events": [VIEW, {**VIEW, "event_type": "stare"}]}, "body.events.1.event_type"),
        (422, "POST", EVENTS, {"events": [{**VIEW, "quantity": -1}]}, "quantity"),
        (422, "POST", EVENTS, b'{"events": [{"quantity": NaN}]}', "body.events.0"),
        (422, "POST", EVENTS, {"events": [{**VIEW, "event_id": "#1"}]}, "events.0: event_id must not begin"),
        (422, "POST", EVENTS, {"events": [{**VIEW, "event_time": 1e300}]}, "in the future"),
        (422, "POST", EVENTS, {"events": [{**VIEW, "event_time": "yesterday"}]}, "event_time"),
        (422, "POST", EVENTS, b'{"events": [{"event_id": "e", "user_id": "\\ud800"}]}', "body.events.0.user_id"),
        (422, "POST", EVENTS, {"events": [{**VIEW, "admin": True}]}, "admin"),
        (422, "POST", EVENTS, {"events": [VIEW] * 101}, "at most 100"),
        (422, "POST", SESSION, {"events": [{"item_id": "ale"}] * 501}, "at most 500"),
        (422, "POST", SESSION, {"k": 1000}, "k: at most 100"),
        (422, "POST", SESSION, {"events": [{"item_id": "ale", "event_time": -1}]}, "before 1970"),
        (413, "POST", EVENTS, b" " * 262_145, "larger than 262144 bytes"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(
    reader: TestClient, status: int, method: str, path: str, body: object, reason: str
) -> None:
    if isinstance(body, bytes):
        answer = reader.request(method, path, content=body, headers={"content-type": "application/json"})
    else:
        answer = reader.request(method, path, json=body) if body is not None else reader.request(method, path)
    assert answer.status_code == status, answer.text
    assert reason in answer.json()["detail"]


def test_of_events_with_a_bad_one_among_them_none_is_taken(client: TestClient, config: Config) -> None:
    answer = client.post(EVENTS, json={"events": [VIEW, {**VIEW, "event_id": "f", "event_time": "never"}]})
    assert answer.status_code == 422
    assert client.get(LIST).json()["source"] == "store"
    assert list((Path(config.workspace) / "online" / "events").iterdir()) == []


def test_a_body_whose_length_is_not_told_is_cut_off_too(reader: TestClient) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 10_000

    answer = reader.post(EVENTS, content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_a_form_of_another_site_sends_no_events(reader: TestClient) -> None:
    body = '{"events": [{"event_id": "e", "user_id": "anna", "item_id": "ale", "event_type": "view"}]}'
    assert reader.post(EVENTS, content=body, headers={"content-type": "text/plain"}).status_code == 422
    assert reader.get(LIST).json()["events"] == 2


def test_without_a_publication_the_service_lives_and_says_that_it_is_not_ready(tmp_path: Path) -> None:
    with serving(configured(tmp_path), number=None) as client:
        assert client.get("/health").status_code == 200
        for path in ("/ready", LIST):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "nothing is published yet" in answer.json()["detail"]
        assert "Nothing is published yet" in client.get("/?user=anna").text


def test_events_are_refused_where_the_stream_reads_kafka(tmp_path: Path, model: Path) -> None:
    stream = {"format": "kafka", "options": {"kafka.bootstrap.servers": "h:1", "subscribe": "t"}}
    config = configured(tmp_path, stream=stream)
    publish(config, publication(model))
    with serving(config) as client:
        answer = client.post(EVENTS, json={"events": [VIEW]})
        assert (answer.status_code, "Kafka" in answer.json()["detail"]) == (409, True)


def test_with_keys_only_who_has_one_is_answered(tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = configured(tmp_path)
    publish(config, publication(model))
    caplog.set_level(logging.DEBUG)
    with serving(config, keys=("another-key-of-ours", KEY)) as client:
        for path in (LIST, "/v1/items/ale/similar", "/metrics", "/page/panel?user=anna"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"X-API-Key": KEY[:-1]}).status_code == 401
            assert client.get(path, headers={"X-API-Key": KEY}).status_code == 200
            assert client.get(path, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
        assert client.post(EVENTS, json={"events": [VIEW]}).status_code == 401
        assert client.get("/health").status_code == 200
        page = client.get("/?user=anna")
        assert (page.status_code, "As it was stored" in page.text, "API key" in page.text) == (200, False, True)
    assert KEY not in caplog.text


def test_keys_come_from_the_environment_and_are_needed_beyond_this_machine() -> None:
    opened = keys_of(Serving(host="0.0.0.0", api_keys_env="KEYS"), {"KEYS": f" {KEY} , {KEY[::-1]}"})
    assert [opened.caller(key) for key in (KEY.encode(), KEY[::-1].encode(), b"other", None)] == [
        *("key 0", "key 1", None, None)
    ]
    with pytest.raises(UserError, match="open to everyone"):
        keys_of(Serving(host="0.0.0.0"), {})
    with pytest.raises(UserError, match="less than 16"):
        keys_of(Serving(), {"RECSYS_API_KEYS": "short"})
    assert not keys_of(Serving(host="::1"), {})
    assert not keys_of(Serving(host="0.0.0.0", anonymous=True), {})
    assert KEY not in repr(vars(ApiKeys((KEY,))))


def test_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path, model: Path) -> None:
    config = configured(tmp_path, {"limits": {"requests_per_second": 0.25, "burst": 2}})
    publish(config, publication(model))
    with serving(config, keys=(KEY, KEY[::-1])) as client:
        one, other = {"X-API-Key": KEY}, {"X-API-Key": KEY[::-1]}
        answers = [client.get(LIST, headers=one) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].headers["retry-after"] == "4"
        assert client.get(LIST, headers=other).status_code == 200
        assert client.get("/health").status_code == 200


def test_tokens_grow_back_with_time_up_to_the_burst() -> None:
    now = [0.0]
    limit = RateLimit(2.0, 3, lambda: now[0])
    assert [limit.wait("a") for _ in range(4)] == [0, 0, 0, 1]
    assert limit.wait("b") == 0
    now[0] = 1.0
    assert [limit.wait("a") for _ in range(3)] == [0, 0, 1]
    now[0] = 100.0
    assert [limit.wait("a") for _ in range(4)] == [0, 0, 0, 1]


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path, model: Path) -> None:
    from recsys_spark.serving.gate import Gate
    from recsys_spark.serving.metrics import Metrics

    async def never() -> dict[str, object]:
        await asyncio.sleep(60)
        return {}

    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    gate = Gate(never, Serving(limits={"body_seconds": 0.01}), ApiKeys(()), Metrics())  # type: ignore[arg-type]
    scope = {"type": "http", "method": "POST", "path": "/v1/events", "headers": [(b"content-length", b"9")]}
    asyncio.run(gate(scope, never, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408
