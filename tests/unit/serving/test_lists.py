"""Lists: where they come from, what changes them, and what there is for those of whom nothing is known."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from recsys_spark.config import Config
from recsys_spark.online.opening import open_configured
from recsys_spark.online.store import BatchCommit, ListRow, StoredEvent, StoredList, UserUpdate
from tests.unit.serving.service import names

ANNA, BEN, NOBODY = (f"/v1/users/{user}/recommendations" for user in ("anna", "ben", "nobody"))


def post(client: TestClient, *events: dict[str, object]) -> dict[str, object]:
    answer = client.post("/v1/events", json={"events": list(events)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def event(event_id: str, user: str, item: str, kind: str = "purchase", **more: object) -> dict[str, object]:
    return {"event_id": event_id, "user_id": user, "item_id": item, "event_type": kind, **more}


def test_a_stored_list_that_knows_all_events_is_given_as_it_is(reader: TestClient) -> None:
    for _ in range(2):
        answer = reader.get(ANNA).json()
        assert (answer["source"], answer["kind"], answer["fallback"], answer["events"]) == (
            "store",
            "personal",
            None,
            2,
        )
        [item] = answer["items"]
        assert item == {
            "rank": 1,
            "item_id": "ale",
            "title": "Ale",
            "score": 9.5,
            "reason": "as stored",
            "components": {"repurchase": 9.0, "als": 0.5},
        }


def test_without_a_stored_list_it_is_made_from_the_history(reader: TestClient) -> None:
    answer = reader.get(BEN)
    assert answer.json()["source"] == "computed"
    assert names(answer) == ["bread", "dates", "cheese"]


def test_an_event_changes_the_next_answer_and_counts_once(client: TestClient) -> None:
    assert names(client.get(ANNA)) == ["ale"]
    sent = event("e1", "anna", "cheese")
    assert post(client, sent) == {"accepted": 1, "duplicates": [], "unknown_items": []}
    changed = client.get(ANNA)
    assert (changed.json()["source"], changed.json()["events"]) == ("computed", 3)
    assert set(names(changed)[:2]) == {"ale", "cheese"}
    assert post(client, sent) == {"accepted": 0, "duplicates": ["e1"], "unknown_items": []}
    assert client.get(ANNA).json() == changed.json()


def test_an_item_that_the_model_does_not_know_is_taken_and_told(client: TestClient) -> None:
    assert post(client, event("e1", "ben", "eel"), event("e2", "ben", "ale"))["unknown_items"] == ["eel"]
    assert client.get(BEN).json()["events"] == 3


def test_a_longer_list_begins_like_a_shorter_one(reader: TestClient) -> None:
    assert names(reader.get(BEN, params={"k": 1})) == ["bread"]
    assert names(reader.get(BEN, params={"k": 4})) == ["bread", "dates", "cheese", "ale"]
    assert names(reader.get(BEN, params={"k": 2})) == ["bread", "dates"]


def test_an_unknown_user_gets_what_is_popular_and_is_told_so(reader: TestClient) -> None:
    answer = reader.get(NOBODY)
    assert names(answer) == ["dates", "cheese", "bread"]
    told = answer.json()
    assert (told["kind"], told["fallback"]) == ("popular", "no history is known: this is what is popular")


def test_items_of_the_moment_join_the_history_for_one_answer(reader: TestClient) -> None:
    answer = reader.get(BEN, params={"context": "ale, eel,ale"})
    assert "ale" not in names(answer)
    assert answer.json()["unknown_items"] == ["eel"]
    assert [item["rank"] for item in answer.json()["items"]] == [1, 2, 3]
    assert answer.json()["items"][0]["components"]["als"] != reader.get(BEN).json()["items"][0]["components"]["als"]
    assert reader.get(BEN).json()["events"] == 1


def test_a_visitors_list_is_made_from_the_history_that_is_sent(reader: TestClient) -> None:
    body = {"events": [{"item_id": "cheese", "event_type": "purchase"}, {"item_id": "eel"}], "k": 2}
    answer = reader.post("/v1/sessions/recommendations", json=body)
    assert names(answer) == ["cheese", "dates"]
    assert (answer.json()["user_id"], answer.json()["unknown_items"]) == (None, ["eel"])


@pytest.mark.parametrize("events", [[], [{"item_id": "eel"}]])
def test_a_visitor_of_whom_nothing_is_known_gets_what_is_popular(
    reader: TestClient, events: list[dict[str, str]]
) -> None:
    answer = reader.post("/v1/sessions/recommendations", json={"events": events})
    assert names(answer) == ["dates", "cheese", "bread"]
    assert "this is what is popular" in answer.json()["fallback"]


def test_a_visitors_purchases_are_taken_in_the_order_of_their_times(reader: TestClient) -> None:
    late, early = "2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z"
    events = [
        {"item_id": "ale", "event_type": "purchase", "event_time": late},
        {"item_id": "bread", "event_type": "purchase", "event_time": early},
    ]
    ways = [{"events": events}, {"events": events[::-1]}]
    one, other = (reader.post("/v1/sessions/recommendations", json=body).json()["items"] for body in ways)
    assert one == other


def test_an_id_may_hold_a_slash(client: TestClient) -> None:
    post(client, event("e1", "a/b", "cheese"))
    for path in ("/v1/users/a/b/recommendations", "/v1/users/a%2Fb/recommendations"):
        assert client.get(path).json()["user_id"] == "a/b"
        assert names(client.get(path))[0] == "cheese"


def test_similar_items_are_those_of_like_vectors(reader: TestClient) -> None:
    answer = reader.get("/v1/items/ale/similar", params={"k": 1})
    assert names(answer) == ["bread"]
    assert answer.json()["fallback"] is None
    assert answer.json()["items"][0]["score"] == pytest.approx(0.9 / (0.81 + 0.01) ** 0.5, abs=1e-6)


def test_an_unknown_item_falls_back_to_what_is_popular_and_says_so(reader: TestClient) -> None:
    answer = reader.get("/v1/items/eel/similar", params={"k": 2})
    assert names(answer) == ["dates", "cheese"]
    assert answer.json()["fallback"] == "the model does not know the item: this is what is popular"


def test_what_the_stream_brings_changes_the_next_answer(client: TestClient, config: Config) -> None:
    before = client.get(BEN).json()
    store = open_configured(config)
    seen = StoredEvent("s1", "dates", "purchase", 1.0, 1.0 + before["items"][0]["rank"])
    made = StoredList(
        (ListRow(1, "cheese", 1.0, "by the stream", {"als": 1.0}),), before["model"], 1, 0, 2, 9.0, "stream"
    )
    store.commit(BatchCommit(0, 1, [UserUpdate("ben", (seen,), made)]))
    store.close()
    answer = client.get(BEN).json()
    assert (answer["source"], answer["items"][0]["reason"]) == ("store", "by the stream")
