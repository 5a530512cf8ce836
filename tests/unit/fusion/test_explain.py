"""Who gives the reason of a row, and what the stated share of its evidence promises."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from recsys_spark.fusion.blend import blend
from recsys_spark.fusion.blended import Blend
from recsys_spark.fusion.explain import ExplainedRows, Ranked, explain
from recsys_spark.fusion.normalise import Normaliser
from recsys_spark.fusion.settings import Component, FusionSettings
from recsys_spark.recommenders.base import Evidence, Recommender
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.ease import DenseItems
from recsys_spark.recommenders.occlusion import LeftOut, last_items, without
from recsys_spark.recommenders.vocabulary import Vocabulary
from tests.unit.fusion.test_blend import Fixed

ITEMS = 4
VOCABULARY = Vocabulary(
    pa.table(
        {
            "item_id": ["ale", "bread", "cheese", "dates"],
            "title": ["Ale", "Bread", "Cheese", "Dates"],
            "item_index": pa.array([1, 2, 3, 4], pa.int32()),
        }
    )
)


def history(*users: list[int]) -> UserBatch:
    items = [item for own in users for item in own]
    return UserBatch(
        items=torch.tensor(items, dtype=torch.int64),
        event_types=torch.full((len(items),), 4),
        weights=torch.ones(len(items)),
        ages=torch.arange(len(items), 0, -1, dtype=torch.float64),
        offsets=torch.tensor([0, *(len(own) for own in users)]).cumsum(0),
    )


class Told(Fixed):
    """Names an item where told to, and keeps for which pairs it was asked."""

    def __init__(self, name: str, row: list[float], named: list[int]) -> None:
        super().__init__(name, torch.tensor([row]), [True])
        self.named = torch.tensor([named])
        self.asked: list[Tensor] = []

    def evidence(self, batch: UserBatch, items_BK: Tensor, wanted_BK: Tensor | None = None) -> Evidence:
        assert wanted_BK is not None
        self.asked.append(wanted_BK)
        named_BK = self.named.gather(1, items_BK)
        return Evidence("because_of", named_BK, torch.full(items_BK.shape, torch.nan), shares=named_BK / 10)


def explained(made: dict[str, Recommender], batch: UserBatch, **weights: float) -> tuple[Blend, ExplainedRows]:
    """All items in the order of their codes."""
    components = tuple(Component(name, weight, Normaliser("none")) for name, weight in weights.items())
    [result] = blend(made, [FusionSettings("weighted", components)], batch, None)
    ranked = Ranked(torch.arange(ITEMS).expand(batch.size, -1), result.fused)
    return result, explain(made, VOCABULARY, None, batch, result, ranked)


def test_the_largest_part_that_has_something_to_say_gives_the_reason_and_is_asked_for_these_rows_alone() -> None:
    made = {"a": Told("a", [4.0, 4.0, 1.0, 1.0], [2, -1, 2, 2]), "b": Told("b", [1.0, 1.0, 4.0, 4.0], [3, 3, -1, -1])}
    made["b"].named = torch.tensor([[3, 3, 1, -1]])
    _, rows = explained(made, history([2, 3, 1]), a=0.5, b=0.5)
    # a outweighs b at items 0 and 1, but has nothing to say of 1; b does at 2 and 3, but has nothing to say of 3.
    assert [rows.names[speaker] for speaker in rows.speakers] == ["a", "b", "b", "a"]
    assert rows.evidence.tolist() == [2, 3, 1, 2]
    assert rows.shares.tolist() == pytest.approx([0.2, 0.3, 0.1, 0.2])
    assert rows.reasons[0] == "because you chose Cheese"
    assert [asked.tolist() for asked in made["a"].asked] == [
        [[True, True, False, False]],
        [[False, False, False, True]],
    ]


def test_where_nobody_has_anything_to_say_the_reason_is_the_general_one() -> None:
    made = {"a": Told("a", [4.0, 3.0, 2.0, 1.0], [-1, -1, -1, -1])}
    _, rows = explained(made, history([0]), a=1.0)
    assert set(rows.reasons) == {"chosen by shoppers like you"}
    assert rows.speakers.tolist() == rows.evidence.tolist() == [-1] * ITEMS
    assert np.isnan(rows.shares).all()


class Given:
    """Parts written down beforehand."""

    def __init__(self, parts_BKM: Tensor) -> None:
        self.parts_BKM = parts_BKM

    def parts(self, recommenders: object, batch: object, items_BK: Tensor) -> Tensor:
        return self.parts_BKM.clone()


def test_what_belongs_to_no_recommender_gives_no_reason_however_large_it_is() -> None:
    made = {"a": Told("a", [1.0] * ITEMS, [2, 2, -1, 2])}
    parts_BKM = torch.tensor([[[1.0, 9.0], [torch.nan, 9.0], [1.0, 9.0], [-1.0, 9.0]]])
    result = Blend(parts_BKM.nansum(2), ("a", "context"), torch.ones(1, 2), Given(parts_BKM))
    ranked = Ranked(torch.arange(ITEMS)[None], result.fused)
    rows = explain(made, VOCABULARY, None, history([2]), result, ranked)
    assert rows.speakers.tolist() == [0, -1, -1, 0]
    assert rows.parts[:, 1].tolist() == [9.0] * ITEMS


W = torch.tensor([[0.0, 0.5, 0.2, 0.1], [0.5, 0.0, 0.3, 0.4], [0.2, 0.3, 0.0, 0.4], [0.1, 0.4, 0.4, 0.0]])


@pytest.mark.parametrize("method", ["none", "zscore"])
def test_with_normalisers_held_the_fused_score_falls_by_what_the_share_says_of_the_speaking_part(method: str) -> None:
    made = {
        "ease": DenseItems("ease", ITEMS, torch.arange(ITEMS), W, 30.0),
        "popularity": Counts("popularity", torch.tensor([1.0, 2.0, 3.0, 4.0]), 7.0),
    }
    components = (Component("ease", 0.9, Normaliser(method)), Component("popularity", 0.1, Normaliser(method)))
    whole = history([0, 2, 2, 0])
    [result] = blend(made, [FusionSettings("weighted", components)], whole, None)
    ranked = Ranked(torch.tensor([[1, 3]]), result.fused[:, [1, 3]])
    rows = explain(made, VOCABULARY, None, whole, result, ranked)
    raw = made["ease"].score(whole).scores[0]
    slope = 0.9 / (raw.std(unbiased=False).item() if method == "zscore" else 1.0)
    for row, item in enumerate((1, 3)):
        named = int(rows.evidence[row])
        rest = without(whole, LeftOut(torch.tensor([0]), torch.tensor([named])))
        left = result.parts(made, rest, torch.tensor([[item]])).sum().item()  # the block's statistics are kept
        assert rows.names[rows.speakers[row]] == "ease"
        assert rows.scores[row] - left == pytest.approx(slope * rows.shares[row] * raw[item].item(), abs=1e-5)


def test_a_history_without_an_item_has_all_other_events_as_they_were() -> None:
    batch = history([0, 1, 0], [2], [1, 3])
    rest = without(batch, LeftOut(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 2, -1])))
    assert rest.items.tolist() == [1, 0, 0, 1, 3]
    assert rest.offsets.tolist() == [0, 1, 3, 3, 5]
    assert rest.ages.tolist() == [5.0, 6.0, 4.0, 2.0, 1.0]


def test_the_items_met_last_are_distinct_and_newest_first() -> None:
    batch = history([0, 1, 2, 1], [3], [], [2, 2, 0])
    found = last_items(batch, torch.tensor([True, False, True, True]), window=3, most=2)
    assert (found.users.tolist(), found.items.tolist()) == ([0, 0, 3, 3], [1, 2, 0, 2])
