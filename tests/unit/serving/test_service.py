"""The service beside its answers: new publications, files of events, what is kept, batches, numbers and the page."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

from recsys_spark.config import Config
from recsys_spark.config.streaming import Stream
from recsys_spark.errors import UserError
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.online.events import LiveEvent, parse_event
from recsys_spark.online.live_model import LiveModel
from recsys_spark.online.opening import open_configured
from recsys_spark.online.store import Publication, StoredList, UserState
from recsys_spark.serving.answers import Answers, Parts
from recsys_spark.serving.app import create_app
from recsys_spark.serving.batching import ListMaker
from recsys_spark.serving.caching import AnswerCache
from recsys_spark.serving.champion import Champion, Champions
from recsys_spark.serving.errors import OverloadedError
from recsys_spark.serving.event_files import EventFiles
from recsys_spark.serving.keys import ApiKeys
from recsys_spark.serving.messages import EventType
from recsys_spark.serving.metrics import Metrics
from tests.unit.serving.service import names, publication, publish, wait_for, write_model

NOBODY = "/v1/users/nobody/recommendations"


def test_a_new_publication_is_picked_up_without_a_failed_request(
    client: TestClient, config: Config, tmp_path: Path
) -> None:
    statuses, stop = [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(client.get(NOBODY).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    assert names(client.get(NOBODY)) == ["dates", "cheese", "bread"]
    publish(config, publication(write_model(tmp_path / "second", (9.0, 2.0, 3.0, 4.0)), number=2))
    wait_for(client, 2)
    assert names(client.get(NOBODY)) == ["ale", "dates", "cheese"]
    assert client.get(NOBODY).json()["model"] == "recsys-fused-second"
    stop.set()
    asking.join()
    assert set(statuses) == {200}


def test_a_damaged_model_does_not_take_over(client: TestClient, config: Config, tmp_path: Path) -> None:
    damaged = write_model(tmp_path / "second", (9.0, 2.0, 3.0, 4.0))
    told = publication(damaged, number=2)
    (damaged / "components" / "als" / "tensors.safetensors").write_bytes(b"not this")
    publish(config, told)
    deadline = time.monotonic() + 20
    while 'recsys_model_loads_total{result="failed"}' not in client.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert names(client.get(NOBODY)) == ["dates", "cheese", "bread"]
    assert client.get("/ready").json() == {"status": "ready", "model": "recsys-fused-first", "publication": 1}


def test_a_model_that_cannot_be_loaded_is_let_alone_for_a_while_and_another_one_is_not(
    config: Config, tmp_path: Path
) -> None:
    now, tried = [0.0], []
    store = open_configured(config)

    def load(published: Publication) -> LiveModel:
        tried.append((published.number, now[0]))
        if published.number == 1:
            raise UserError("damaged")
        return LiveModel.load(published)

    champions = Champions(store, 5.0, load, lambda: now[0])
    for second in range(100):
        now[0] = float(second)
        with contextlib.suppress(UserError):
            assert champions.newer() is None
    assert tried == [(1, 0.0), (1, 10.0), (1, 30.0), (1, 70.0)]
    publish(config, publication(write_model(tmp_path / "second"), number=2))
    found = champions.newer()
    assert found is not None
    assert (found.publication.number, tried[-1]) == (2, (2, 99.0))
    store.close()


def test_an_answer_is_as_long_as_the_publication_that_made_it(config: Config, model: Path) -> None:
    store = open_configured(config)
    told = store.publication()
    assert told is not None
    first = Champion(LiveModel.load(told), 0, 1)
    second = Champion(LiveModel.load(replace(told, number=2, k=1)), 0, 2)

    class Switching:
        """Another publication comes while the list is made."""

        async def make(self, champion: Champion, state: UserState, k: int) -> StoredList:
            answers.switch(second)
            return champion.live.lists([state], k)[0]

    parts = Parts(store, Champions(store, 5.0), Switching(), ThreadPoolExecutor(1), None, Metrics())  # type: ignore[arg-type]
    answers = Answers(config.serving, parts)
    answers.switch(first)
    assert len(json.loads(asyncio.run(answers.for_user("ben", None)).body)["items"]) == 3
    assert len(json.loads(asyncio.run(answers.for_user("ben", None)).body)["items"]) == 1
    parts.pool.shutdown()
    store.close()


def test_collections_of_garbage_do_not_walk_over_the_model_and_the_one_before_goes(
    config: Config, tmp_path: Path
) -> None:
    """Walking would stop all answers for as long; and what is left out of collections while in use stays for ever."""
    store = open_configured(config)
    champions = Champions(store, 5.0)
    with TestClient(create_app(config, store, ApiKeys(()), champions)) as client:
        wait_for(client, 1)
        model = champions.current.live.champion  # type: ignore[union-attr]
        model.itself = model  # type: ignore[attr-defined]  # only a collection can take it
        _until_set_apart(model)
        first = weakref.ref(model)
        del model
        publish(config, publication(write_model(tmp_path / "second"), number=2))
        wait_for(client, 2)
        second = champions.current.live.champion  # type: ignore[union-attr]
        _until_set_apart(second)
        assert first() is None


def _until_set_apart(model: object) -> None:
    """At the look after the switch, when no question has the one before in hand any more."""
    deadline = time.monotonic() + 20
    while any(each is model for each in gc.get_objects()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_numbers_count_requests_lists_and_events(client: TestClient) -> None:
    client.get(NOBODY)
    client.get("/v1/users/anna/recommendations")
    client.get("/v1/users/anna/recommendations?k=0")
    client.get("/nowhere")
    event = {"event_id": "e", "user_id": "anna", "item_id": "ale", "event_type": "view"}
    client.post("/v1/events", json={"events": [event]})
    text = client.get("/metrics").text
    route = 'route="/v1/users/{user_id:path}/recommendations"'
    for line in (
        f'recsys_requests_total{{{route},status="200"}} 2.0',
        f'recsys_requests_total{{{route},status="422"}} 1.0',
        'recsys_requests_total{route="other",status="404"} 1.0',
        'recsys_lists_total{kind="popular",source="computed"} 1.0',
        'recsys_lists_total{kind="personal",source="store"} 1.0',
        'recsys_events_total{result="accepted"} 1.0',
        "recsys_publication 1.0",
    ):
        assert line in text
    assert "anna" not in text


def test_openapi_has_an_example_for_every_body_and_answer(reader: TestClient) -> None:
    schemas = reader.get("/openapi.json").json()["components"]["schemas"]
    for name in ("Events", "Session", "Recommendations", "SimilarItems", "EventsTaken"):
        assert schemas[name]["examples"], name


def test_the_event_types_of_the_api_are_those_of_the_house() -> None:
    assert set(EventType.__args__) == set(EVENT_TYPES)  # type: ignore[attr-defined]


def test_events_go_to_the_stream_as_whole_files(client: TestClient, config: Config) -> None:
    event = {"event_id": "é", "user_id": "anna", "item_id": "ale", "event_type": "click", "event_time": 1e9}
    client.post("/v1/events", json={"events": [event, {**event, "event_id": "f", "price": 2.5}]})
    [path] = (Path(config.workspace) / "online" / "events").iterdir()
    assert not path.name.startswith(".")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [parse_event(json.loads(line), time.time()) for line in lines] == [
        LiveEvent("é", "anna", "ale", "click", 1e9),
        LiveEvent("f", "anna", "ale", "click", 1e9, price=2.5),
    ]


def test_events_are_written_under_the_names_that_the_stream_reads(tmp_path: Path) -> None:
    columns = {"user_id": "customer", "item_id": "sku", "event_time": "at"}
    stream = Stream(path=str(tmp_path / "in"), columns=columns, event_id="id", event_types={"buy": "purchase"})
    path = EventFiles(stream, tmp_path).write([LiveEvent("e", "anna", "ale", "purchase", 5.0)])
    assert '"customer":"anna"' in path.read_text()
    assert '"sku":"ale"' in path.read_text()
    assert '"id":"e"' in path.read_text()
    assert '"buy"' in path.read_text()
    assert path.parent == tmp_path / "in"


def test_an_answer_that_was_begun_before_an_event_is_not_kept() -> None:
    cache: AnswerCache[str] = AnswerCache(10, 100.0)
    with cache.reading("anna") as reading:
        cache.forget(["anna"])
        reading.keep("list", "old", 1)
    assert cache.get("anna", "list") is None
    with cache.reading("anna") as reading, cache.reading("ben") as other:
        cache.forget(["ben"])
        reading.keep("list", "new", 2)
        other.keep("list", "old", 1)
    assert cache.get("anna", "list").answer == "new"  # type: ignore[union-attr]
    assert cache.get("ben", "list") is None
    cache.forget(["anna"])
    assert (cache.get("anna", "list"), cache.readers) == (None, {})


def test_kept_answers_go_by_age_and_the_oldest_first() -> None:
    now = [0.0]
    cache: AnswerCache[str] = AnswerCache(2, 10.0, lambda: now[0])
    for user in ("anna", "ben", "cleo"):
        with cache.reading(user) as reading:
            reading.keep("list", user, 1)
    assert [cache.get(user, "list") is not None for user in ("anna", "ben", "cleo")] == [False, True, True]
    now[0] = 11.0
    assert cache.get("cleo", "list") is None


@dataclass
class Slow:
    """A model that notes how many lists it made at a time, and waits for a sign before each."""

    sign: threading.Semaphore
    sizes: list[int] = field(default_factory=list)

    def lists(self, states: list[UserState], k: int) -> list[StoredList]:
        self.sign.acquire()
        self.sizes.append(len(states))
        if any(state.user_id == "bad" for state in states):
            raise ValueError("bad")
        return [StoredList((), state.user_id, k) for state in states]


def test_lists_that_wait_are_made_together_and_too_many_are_refused() -> None:
    async def story() -> tuple[list[str], list[int]]:
        live = Slow(threading.Semaphore(0))
        champion, maker = SimpleNamespace(live=live), ListMaker(1, 3, 4, 1)

        async def made(name: str) -> str:
            return (await maker.make(champion, UserState(name), 5)).model  # type: ignore[arg-type]

        first = asyncio.create_task(made("a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        others = [asyncio.create_task(made(name)) for name in "bcde"]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await made("f")
        live.sign.release(9)
        answers = [await each for each in (first, *others)]
        bad = await asyncio.gather(made("bad"), return_exceptions=True)
        assert isinstance(bad[0], ValueError)
        assert await made("g") == "g"
        maker.close()
        return answers, live.sizes

    answers, sizes = asyncio.run(story())
    assert answers == ["a", "b", "c", "d", "e"]
    assert sizes == [1, 3, 1, 1, 1]


def test_the_page_shows_history_reasons_and_shares(reader: TestClient) -> None:
    page = reader.get("/", params={"user": "anna"})
    for text in (
        "As it was stored, from 2 events",
        "as stored",
        "repurchase 95 %, als 5 %",
        "The newest 2 of 2 events",
    ):
        assert text in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "Nothing yet." in reader.get("/page/panel", params={"user": "newcomer"}).text


def test_what_a_visitor_types_is_no_markup_on_the_page(reader: TestClient) -> None:
    page = reader.get("/", params={"user": '"><script>alert(1)</script>'})
    assert page.status_code == 200
    assert "<script>alert" not in page.text


def test_a_new_visitor_gets_a_name_of_their_own(reader: TestClient) -> None:
    places = {reader.get("/?new=true", follow_redirects=False).headers["location"] for _ in range(2)}
    assert len(places) == 2
    assert all(place.startswith("/?user=visitor-") for place in places)


def test_on_old_data_the_page_dates_its_events_behind_it(tmp_path: Path, model: Path) -> None:
    from tests.unit.serving.service import configured, serving

    config = configured(tmp_path)
    publish(config, replace(publication(model), as_of=1_000_000_000.0))
    with serving(config) as client:
        panel = client.get("/page/panel", params={"user": "anna"}).text
    assert 'data-event-time="2001-09-09T01:47:40+00:00"' in panel
    assert "The data ends on 09 September 2001" in panel
