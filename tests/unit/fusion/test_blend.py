"""The weighted sum of normalised scores, and what each component adds to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from recsys_spark.fusion.blend import blend
from recsys_spark.fusion.normalise import Normaliser, normalise, row_statistics, stable_topk
from recsys_spark.fusion.settings import Component, FusionSettings, Segments, average
from recsys_spark.recommenders.base import Evidence, Recommender, Scores
from recsys_spark.recommenders.batch import UserBatch


class Fixed(Recommender):
    """Scores written down beforehand: row b of the table for user b of the batch."""

    kind = "fixed"

    def __init__(self, name: str, table: Tensor, can_score: list[bool]) -> None:
        super().__init__(name, table.shape[1])
        self.table = table
        self.can = torch.tensor(can_score)
        self.calls = 0

    def score(self, batch: UserBatch) -> Scores:
        self.calls += 1
        return Scores(self.table.clone() * self.can[:, None], self.can)

    def evidence(self, batch: UserBatch, items_BK: Tensor, wanted_BK: Tensor | None = None) -> Evidence:
        return Evidence("popular", torch.full_like(items_BK, -1), torch.full(items_BK.shape, torch.nan))

    def save(self, path: Path, vocabulary: Path) -> None:
        raise AssertionError("not needed here")

    @classmethod
    def load(cls, bundle: object) -> Fixed:
        raise AssertionError("not needed here")


def users(count: int) -> UserBatch:
    empty = torch.zeros(0)
    return UserBatch(empty.long(), empty.long(), empty, empty, torch.zeros(count + 1, dtype=torch.int64))


def setting(**weights: tuple[float, str]) -> FusionSettings:
    return FusionSettings("weighted", tuple(Component(n, w, Normaliser(m)) for n, (w, m) in weights.items()))


A = torch.tensor([[1.0, 2.0, 3.0, 6.0], [4.0, 0.0, 2.0, 2.0]])
B = torch.tensor([[9.0, 1.0, 0.0, 2.0], [0.0, 5.0, 0.0, 1.0]])


def test_raw_scores_add_up_by_their_weights() -> None:
    made = {"a": Fixed("a", A, [True, True]), "b": Fixed("b", B, [True, True])}
    [result] = blend(made, [setting(a=(0.25, "none"), b=(0.75, "none"))], users(2), None)
    assert torch.allclose(result.fused, 0.25 * A + 0.75 * B)


def test_zscores_have_mean_zero_and_deviation_one_before_they_add_up() -> None:
    made = {"a": Fixed("a", A, [True, True]), "b": Fixed("b", 1000 * B + 7, [True, True])}
    [result] = blend(made, [average(["a", "b"])], users(2), None)
    # Population z-scores by hand: A[0] has mean 3 and variance 3.5, B[0] mean 3 and variance 12.5.
    pairs = zip(A[0].tolist(), B[0].tolist(), strict=True)
    expected = [(a - 3) / 3.5**0.5 / 2 + (b - 3) / 12.5**0.5 / 2 for a, b in pairs]
    assert result.fused[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_component_that_cannot_score_a_user_leaves_its_weight_to_the_others() -> None:
    made = {"a": Fixed("a", A, [True, True]), "b": Fixed("b", B, [True, False])}
    [result] = blend(made, [setting(a=(0.25, "none"), b=(0.75, "none"))], users(2), None)
    assert torch.allclose(result.fused[0], 0.25 * A[0] + 0.75 * B[0])
    assert torch.allclose(result.fused[1], A[1])
    assert result.weights[1].tolist() == pytest.approx([1.0, 0.0])


def test_users_whom_no_component_can_score_take_the_fallback() -> None:
    popular = torch.tensor([[5.0, 4.0, 3.0, 2.0]] * 2)
    made = {"a": Fixed("a", A, [True, False]), "popularity": Fixed("popularity", popular, [True, True])}
    [result] = blend(made, [setting(a=(1.0, "zscore"))], users(2), made["popularity"])
    assert result.fused[1].tolist() == popular[1].tolist()
    assert result.weights[1].sum() == 0


def test_every_recommender_scores_once_whatever_the_number_of_settings() -> None:
    made = {"a": Fixed("a", A, [True, True]), "b": Fixed("b", B, [True, True])}
    blend(
        made,
        [average(["a", "b"]), setting(a=(1.0, "none")), setting(a=(0.5, "rank"), b=(0.5, "softmax"))],
        users(2),
        None,
    )
    assert [recommender.calls for recommender in made.values()] == [1, 1]


@pytest.mark.parametrize("method", ["none", "zscore", "softmax", "rank"])
def test_parts_times_weights_add_up_to_the_fused_score(method: str) -> None:
    torch.manual_seed(0)
    table = torch.randn(3, 300)
    made = {"a": Fixed("a", table, [True] * 3), "b": Fixed("b", table.flip(1), [True, False, True])}
    batch = users(3)
    [result] = blend(made, [setting(a=(0.4, method), b=(0.6, "zscore"))], batch, None)
    items = stable_topk(result.fused, 20)
    parts = result.parts(made, batch, items)
    assert torch.equal(parts.isnan(), (result.weights == 0)[:, None, :].expand_as(parts))
    assert torch.allclose(parts.nansum(dim=2), result.fused.gather(1, items), atol=1e-5)


@pytest.mark.parametrize("method", ["none", "zscore", "softmax", "rank"])
def test_no_normaliser_changes_a_components_own_order(method: str) -> None:
    torch.manual_seed(1)
    scores = torch.randn(5, 1000)
    normaliser = Normaliser(method, 0.5)
    normal = normalise(scores, normaliser, row_statistics(scores, normaliser))
    assert torch.equal(stable_topk(normal, 50), stable_topk(scores, 50))


def test_softmax_rows_add_up_to_one() -> None:
    scores = torch.randn(5, 1000) * 30
    normaliser = Normaliser("softmax", 2.0)
    normal = normalise(scores, normaliser, row_statistics(scores, normaliser))
    assert torch.allclose(normal.sum(dim=1), torch.ones(5), atol=1e-4)


def test_ties_go_to_the_lower_code_inside_the_list_and_at_its_edge() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0, 2.0, 3.0, 2.0], [0.0] * 6, [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    assert stable_topk(scores, 3).tolist() == [[1, 4, 2], [0, 1, 2], [0, 1, 2]]


def test_ties_break_the_same_way_in_large_rows_of_equal_scores() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randint(0, 5, (20, 5000), generator=generator).float()
    expected = torch.argsort(scores, dim=1, descending=True, stable=True)[:, :100]
    assert torch.equal(stable_topk(scores, 100), expected)


def test_segments_are_fused_by_their_own_components_each() -> None:
    tables = {"a": torch.cat([A, A]), "b": torch.cat([B, B])}
    made = {name: Fixed(name, table, [True, True, True, False]) for name, table in tables.items()}
    histories = torch.tensor([0, 1, 4, 4, 6], dtype=torch.int64)  # 1, 3, 0 and 2 events
    batch = UserBatch(torch.zeros(6).long(), torch.zeros(6).long(), torch.zeros(6), torch.zeros(6), histories)
    heavy = (Component("b", 1.0, Normaliser("none")),)
    light = (Component("a", 0.5, Normaliser("none")), Component("b", 0.5, Normaliser("zscore")))
    plain = setting(a=(1.0, "none"))
    parted = replace(plain, segments=Segments(1, 3, {"light": light, "heavy": heavy}))
    popular = Fixed("popularity", torch.tensor([[5.0, 4.0, 3.0, 2.0]] * 4), [True] * 4)
    [result] = blend(made, [parted], batch, popular)
    zscores = (B[0] - 3) / 12.5**0.5  # by hand, as above
    assert torch.allclose(result.fused[0], 0.5 * A[0] + 0.5 * zscores)
    assert torch.allclose(result.fused[1], B[1])
    assert torch.allclose(result.fused[2], A[0])
    assert torch.allclose(result.fused[3], popular.table[0])
    assert result.names == ("a", "b")
    assert result.weights.tolist() == [[0.5, 0.5], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    items = torch.tensor([[0, 1]] * 4)
    parts = result.parts(made, batch, items)
    assert torch.allclose(parts.nansum(dim=2)[:3], result.fused.gather(1, items)[:3], atol=1e-6)
    assert torch.equal(parts[:, 0].isnan(), result.weights == 0)
