"""The fused model on the store's states: lists, vectors, similar items, and whom a list is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.normalise import Normaliser
from recsys_spark.fusion.settings import Component, FusionSettings
from recsys_spark.online import live_model
from recsys_spark.online.live_model import LiveModel, kind_of
from recsys_spark.online.store import Publication, StoredEvent, StoredList, UserState
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.ease import DenseItems
from recsys_spark.recommenders.factors import Factors
from recsys_spark.recommenders.histories import HistoryBlock
from recsys_spark.recommenders.history_rules import HistoryRules
from recsys_spark.recommenders.segmenting import ByCategory
from recsys_spark.recommenders.segments import SegmentCounts
from tests.unit.online.states import AS_OF, DAY, WEIGHTS, event, past, stored

ITEMS = ("ale", "bread", "cheese", "dates")
PURCHASE = 4
VECTORS_ID = torch.tensor([[1.0, 0.0], [2.0, 0.5], [-1.0, 0.1], [0.0, 1.0]])
EASE = torch.tensor([[0.0, 0.1, 0.4, -0.2], [0.1, 0.0, 0.0, 0.0], [0.4, 0.0, 0.0, 0.0], [-0.2, 0.0, 0.0, 0.0]])
RECOMMENDERS = {
    "popularity": Counts("popularity", torch.tensor([1.0, 2.0, 3.0, 4.0]), 7.0),
    "trending": Counts("trending", torch.tensor([0.3, 0.1, -0.1, 0.0]), 7.0, "trending"),
    "segment_popularity": SegmentCounts(
        "segment_popularity",
        torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.3, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]),
        ByCategory(torch.tensor([1, 1, 2, 2]), 2, 30.0),
        ("", "drinkers", "eaters"),
        7.0,
    ),
    "repurchase": HistoryRules("repurchase", torch.full((4,), 0.5), 30.0, (PURCHASE,)),
    "als": Factors("als", VECTORS_ID, VECTORS_ID.double().T @ VECTORS_ID.double(), 0.1, 5.0, 30.0),
    "ease": DenseItems("ease", 4, torch.arange(4), EASE, 30.0),
}


def built(folder: Path, weights: dict[str, float]) -> LiveModel:
    """A model of some of the recommenders with these weights, as a publication names it."""
    rows = [{"code": n, "item_index": n + 1, "item_id": name, "title": name.title()} for n, name in enumerate(ITEMS)]
    vocabulary = folder / "vocabulary.parquet"
    pq.write_table(pa.Table.from_pylist(rows), vocabulary)
    for name in {*weights, "popularity"}:
        RECOMMENDERS[name].save(folder / name, vocabulary)
    parts = tuple(Component(name, weight, Normaliser("none")) for name, weight in weights.items())
    settings = FusionSettings("weighted", parts)
    bundles = {name: folder / name for name in weights}
    both = {"allow": settings, "drop": settings}
    FusedModel.save(folder / "model", bundles, folder / "popularity", both, ("purchase",), WEIGHTS)  # type: ignore[arg-type]
    manifest = file_sha256(folder / "model" / MANIFEST)
    told = Publication(
        3, "m3", str(folder / "model"), AS_OF, 3, "allow", AS_OF, event_weights=WEIGHTS, manifest=manifest
    )
    return LiveModel.load(told)


@pytest.fixture
def live(tmp_path: Path) -> LiveModel:
    return built(tmp_path, {"repurchase": 0.9, "als": 0.5, "trending": 0.1})


def ids(made: StoredList) -> list[str]:
    return [row.item_id for row in made.rows]


def as_the_batch(live: LiveModel, states: Sequence[UserState]) -> list[list[tuple[str, float, str]]]:
    """What the batch's pass makes of the same histories, from a block of the table `histories`."""
    rows = [
        {
            "items": [ITEMS.index(one.item_id) + 1 for one in state.history],
            "event_types": [PURCHASE if one.event_type == "purchase" else 1 for one in state.history],
            "weights": [one.weight for one in state.history],
            "times": [int(one.event_time) for one in state.history],
            "folds": [0] * len(state.history),
        }
        for state in states
    ]
    types = {
        "items": pa.int32(),
        "event_types": pa.int32(),
        "weights": pa.float32(),
        "times": pa.int64(),
        "folds": pa.int32(),
    }
    block = pa.Table.from_pylist(rows, pa.schema([pa.field(name, pa.list_(kind)) for name, kind in types.items()]))
    batch = HistoryBlock.from_arrow(block).before((0,), int(AS_OF), live.model.vocabulary)
    made = live.model.recommend(batch, 3, "allow")
    lists: list[list[tuple[str, float, str]]] = [[] for _ in states]
    for user, item, score, reason in zip(made.users, made.items, made.scores, made.reasons, strict=True):
        lists[user].append((ITEMS[item], float(score), reason))
    return lists


def test_lists_are_those_that_the_batch_makes_of_the_same_histories(live: LiveModel) -> None:
    views = tuple(StoredEvent(f"v{n}", item, "view", 0.25, AS_OF - 100 + n) for n, item in enumerate(ITEMS))
    states = [
        UserState("anna", past("ale", "bread", "ale")),
        UserState("ben", past("dates")),
        UserState("carl", (*past("cheese"), *views)),
        UserState("new"),
    ]
    made = live.lists(states)
    for own, batch in zip(made, as_the_batch(live, states), strict=True):
        assert [(row.item_id, row.reason) for row in own.rows] == [(item, reason) for item, _, reason in batch]
        assert [row.score for row in own.rows] == pytest.approx([score for _, score, _ in batch], abs=1e-6)
        assert [row.rank for row in own.rows] == [1, 2, 3][: len(own.rows)]
    assert ids(made[1])[0] == "dates"
    for row in made[0].rows:
        assert sum(row.components.values()) == pytest.approx(row.score, abs=1e-6)


def test_a_list_says_what_it_was_made_from(live: LiveModel) -> None:
    state = UserState("anna", past("ale", "bread"), dropped=5)
    [made] = live.lists([state])
    assert (made.model, made.publication, made.parameters, made.events, made.source) == ("m3", 3, 0, 7, "stream")
    assert not replace(state, list=made).stale


def test_an_event_changes_the_list_and_time_counts_in_whole_seconds(live: LiveModel) -> None:
    before = UserState("anna", past("ale"))
    bought = stored(event("e1", "dates", kind="purchase", at=5.9))
    [old, new, whole] = live.lists(
        [
            before,
            replace(before, history=(*before.history, bought)),
            replace(before, history=(*before.history, bought._replace(event_time=AS_OF + 5))),
        ]
    )
    assert (ids(old)[0], ids(new)[0]) == ("ale", "dates")
    assert new.rows == whole.rows


def test_length_and_repeats_may_be_asked_for(live: LiveModel) -> None:
    state = UserState("anna", past("ale", "bread"))
    [all_four] = live.lists([state], k=4)
    [without] = live.lists([state], k=4, repeats="drop")
    assert len(all_four.rows) == 4
    assert set(ids(without)) == {"cheese", "dates"}


def test_blocks_of_users_do_not_change_the_lists(live: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    states = [UserState(f"u{n}", past(*[ITEMS[n % 4]] * (n % 3))) for n in range(7)]
    whole = live.lists(states)
    monkeypatch.setattr(live_model, "BLOCK_BYTES", 1)
    for one, other in zip(live.lists(states), whole, strict=True):
        assert ids(one) == ids(other)
        assert [row.score for row in one.rows] == pytest.approx([row.score for row in other.rows], abs=1e-6)
    assert live.lists([]) == []


def test_vectors_are_those_of_recommenders_whose_score_is_a_product(live: LiveModel) -> None:
    states = [UserState("anna", past("ale", "bread")), UserState("new")]
    [known, unknown] = live.vectors(states)
    assert (list(known), unknown) == (["als"], {})
    assert known["als"].dtype == np.float32
    [made] = live.lists(states[:1], k=4)
    for row in made.rows:
        score = float(VECTORS_ID[ITEMS.index(row.item_id)].numpy() @ known["als"])
        assert row.components["als"] == pytest.approx(0.5 * score, abs=1e-6)


def test_similar_items_are_those_whose_vectors_point_the_same_way(live: LiveModel) -> None:
    assert live.similar_by == "als"
    [(first, likeness), (second, _)] = live.similar("bread", 5)
    assert (first, second) == ("ale", "dates"), "not cheese, which points away"
    assert likeness == pytest.approx(2 / np.sqrt(4.25), abs=1e-6)
    assert live.similar("bread", 1) == [(first, likeness)]
    assert live.similar("nothing", 5) == []


def test_without_vectors_similar_items_are_neighbours(tmp_path: Path) -> None:
    live = built(tmp_path, {"ease": 1.0, "trending": 0.1})
    assert live.similar_by == "ease"
    assert live.similar("ale", 5) == [("cheese", pytest.approx(0.4)), ("bread", pytest.approx(0.1))]


def test_a_model_that_compares_nothing_knows_no_similar_items(tmp_path: Path) -> None:
    live = built(tmp_path, {"popularity": 1.0})
    assert (live.similar_by, live.similar("ale", 5)) == (None, [])


def test_items_have_titles_and_unknown_ones_their_id(live: LiveModel) -> None:
    assert (live.known("ale"), live.title("ale")) == (True, "Ale")
    assert (live.known("nothing"), live.title("nothing")) == (False, "nothing")


@pytest.mark.parametrize(
    ("weights", "history", "kind"),
    [
        ({"als": 1.0, "trending": 1.0, "popularity": 1.0}, past("ale"), "personal"),
        ({"als": 1.0, "trending": 1.0, "popularity": 1.0}, (), "trending"),
        ({"als": 1.0, "popularity": 1.0}, (), "popular"),
        ({"als": 1.0}, (), "popular"),  # the fallback's
        ({"als": 1.0, "popularity": 1.0}, (StoredEvent("e1", "nothing", "purchase", 1.0, AS_OF),), "popular"),
        ({"segment_popularity": 1.0, "trending": 1.0}, past("ale"), "segment"),
        ({"segment_popularity": 1.0, "trending": 1.0}, (), "trending"),  # of no segment
    ],
)
def test_a_list_tells_whom_it_is_for(
    tmp_path: Path, weights: dict[str, float], history: tuple[StoredEvent, ...], kind: str
) -> None:
    [made] = built(tmp_path, weights).lists([UserState("anna", history)])
    assert made.kind == kind
    assert made.rows


def test_what_is_known_of_the_item_alone_makes_no_list_personal() -> None:
    assert kind_of(["context", "popularity"]) == "popular"
    assert kind_of(["context", "gru"]) == "personal"


def test_a_model_that_is_gone_or_another_one_is_refused(live: LiveModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is gone; publish again"):
        LiveModel.load(replace(live.publication, model_path=str(tmp_path / "gone")))
    with pytest.raises(UserError, match="not the one that was published"):
        LiveModel.load(replace(live.publication, manifest="0" * 64))
    tensors = tmp_path / "model" / "components" / "als" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError):
        LiveModel.load(live.publication)


def test_ages_are_counted_from_the_newest_event_where_that_is_later(live: LiveModel) -> None:
    shifted = tuple(
        one._replace(event_id=f"e{n}", event_time=one.event_time + 9 * DAY) for n, one in enumerate(past("ale"))
    )
    [early, late] = live.lists([UserState("anna", past("ale")), UserState("anna", shifted)])
    age = {"early": 1.0, "late": 0.0}  # days at the moment of the list
    for made, days in ((early, age["early"]), (late, age["late"])):
        repurchase = next(row for row in made.rows if row.item_id == "ale").components["repurchase"]
        assert repurchase == pytest.approx(0.9 * 0.5 * 0.5 ** (days / 30), abs=1e-6)
