"""The overlay: what it changes of a model, what it leaves, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys_spark.errors import UserError
from recsys_spark.online.overlay import Overlay, Reservoir, Rows
from recsys_spark.online.trending import counted
from recsys_spark.recommenders.bundle import read_bundle
from recsys_spark.recommenders.counts import Counts
from recsys_spark.recommenders.forms import Matrix
from recsys_spark.recommenders.neural import NeuralRecommender
from recsys_spark.recommenders.trend import Trend
from tests.unit.models.steps import DIM, ITEMS
from tests.unit.online.learnable_shop import NAMES, factors, fused, network, scores, users

CODES = np.array([1, 4, 7])


def rows(width: int, seed: int = 0, biases: bool = True) -> Rows:
    draw = np.random.default_rng(seed)
    bias = draw.normal(size=3) * biases
    return Rows(*(part.astype(np.float32) for part in (draw.normal(size=(3, width)), bias, np.ones(3), np.ones(3))))


def overlay(**of: Rows) -> Overlay:
    return Overlay("model-a", 3, 2, CODES, of, Reservoir())


def test_moved_rows_are_scored_by_the_champions_users_and_other_items_as_before() -> None:
    model, moved = fused(), overlay(gru=rows(DIM), als=rows(DIM, 1, biases=False))
    changed = moved.apply(model)
    for name in ("gru", "als"):
        before, after = scores(model, name), scores(changed, name)
        sides = model.recommenders[name].form(users()).users_BD
        step = sides @ torch.from_numpy(moved.rows[name].vectors).T + torch.from_numpy(moved.rows[name].biases)
        can = model.recommenders[name].can_score(users())
        torch.testing.assert_close(after[can][:, CODES], (before[:, CODES] + step)[can], atol=1e-5, rtol=1e-5)
        others = np.setdiff1d(np.arange(ITEMS), CODES)
        torch.testing.assert_close(after[:, others], before[:, others], atol=1e-6, rtol=1e-6)
        assert not after[~can].any()
        torch.testing.assert_close(changed.recommenders[name].form(users()).users_BD, sides)


def test_a_moved_recommender_scores_alike_in_every_form_and_its_moments_are_those_of_its_scores() -> None:
    changed = overlay(gru=rows(DIM), als=rows(DIM, 1, biases=False)).apply(fused())
    some = torch.tensor([[1, 0, 4, 7]]).repeat(users().size, 1)
    for recommender in changed.recommenders.values():
        whole = recommender.score(users())
        can = whole.can_score
        torch.testing.assert_close(recommender.score_items(users(), some)[can], whole.scores.gather(1, some)[can])
        form = recommender.form(users())
        torch.testing.assert_close(form.matrix_BI, whole.scores, atol=1e-5, rtol=1e-5)
        told, written = form.mean_and_deviation(), Matrix(whole.scores, can).mean_and_deviation()
        for own, other in zip(told, written, strict=True):
            torch.testing.assert_close(own[can], other[can], atol=1e-5, rtol=1e-4)


def test_of_a_score_that_is_no_product_biases_alone_move() -> None:
    model = fused({"mfn": network("mfn", "mean", "neumf", "bce")})
    moved = overlay(mfn=rows(0))
    step = scores(moved.apply(model), "mfn") - scores(model, "mfn")
    assert model.recommenders["mfn"].can_score(users()).tolist() == [True, True, False, True]
    expected = torch.zeros(4, ITEMS)
    expected[:, CODES] = torch.from_numpy(moved.rows["mfn"].biases)
    expected[2] = 0.0
    torch.testing.assert_close(step, expected, atol=1e-5, rtol=1e-5)


def test_the_champion_stays_and_an_overlay_replaces_the_one_before() -> None:
    model = fused()
    before = scores(model, "gru")
    first = overlay(gru=rows(DIM)).apply(model)
    again = overlay(gru=rows(DIM, 1)).apply(first)
    torch.testing.assert_close(scores(model, "gru"), before, rtol=0, atol=0)
    torch.testing.assert_close(scores(again, "gru"), scores(overlay(gru=rows(DIM, 1)).apply(model), "gru"))
    torch.testing.assert_close(scores(Overlay("model-a").apply(first), "gru"), before, rtol=0, atol=0)


def test_evidence_and_lists_come_from_the_moved_scores() -> None:
    lifted = Rows(np.zeros((3, DIM), np.float32), np.array([0, 0, 50], np.float32), *np.zeros((2, 3), np.float32))
    lists = overlay(gru=lifted).apply(fused()).recommend_histories([], k=2)
    assert lists == []
    changed = overlay(gru=lifted).apply(fused({"gru": network("gru")}))
    found = changed.recommend(users(), 1)
    assert [NAMES[code] for code in found.items[:2]] == ["item-7", "item-7"]


def test_the_same_parameters_are_the_same_bytes_and_come_back_whole() -> None:
    reservoir = Reservoir(np.array([3, 1]), {"gru": np.ones((2, DIM), np.float32)}, 9)
    full = replace(overlay(gru=rows(DIM)), reservoir=reservoir)
    data = full.to_bytes()
    back = Overlay.from_bytes(data, "model-a")
    assert data == replace(full).to_bytes() == back.to_bytes()
    assert (back.model, back.batch, back.version, back.reservoir.seen) == ("model-a", 3, 2, 9)
    np.testing.assert_array_equal(back.rows["gru"].vectors, full.rows["gru"].vectors)
    np.testing.assert_array_equal(back.reservoir.items, [3, 1])
    assert Overlay.of_store("model-b", None, {"item-1": (1.0, 5.0)}).counts == {"item-1": (1.0, 5.0)}


def test_damaged_parameters_and_those_of_another_model_are_refused() -> None:
    data = overlay(gru=rows(DIM)).to_bytes()
    with pytest.raises(UserError, match="of model model-a, not of model-b"):
        Overlay.from_bytes(data, "model-b")
    damaged = bytearray(data)
    damaged[-1] ^= 1
    with pytest.raises(UserError, match="changed since they were written"):
        Overlay.from_bytes(bytes(damaged), "model-a")
    for nonsense in (b"", b"12345678{}", data[:40]):
        with pytest.raises(UserError, match="not what online learning wrote"):
            Overlay.from_bytes(nonsense, "model-a")


@pytest.mark.parametrize(
    "wrong",
    [
        overlay(gru=rows(DIM + 1)),
        replace(overlay(gru=rows(DIM)), codes=np.array([1, 4, ITEMS])),
        overlay(lstm=rows(DIM)),
    ],
    ids=["width", "items", "name"],
)
def test_parameters_that_do_not_fit_the_model_are_refused(wrong: Overlay) -> None:
    with pytest.raises(UserError, match="start without parameters"):
        wrong.apply(fused())


def trending(trend: Trend | None) -> Counts:
    return Counts("trending", torch.zeros(ITEMS), 2.0, "trending", trend)


def test_live_counts_raise_what_sells_now() -> None:
    usual = torch.ones(ITEMS, dtype=torch.float64)
    model = fused({"trending": trending(Trend(usual, usual, 0.0, 3.0)), "gru": network("gru")})
    two_days = 2 * 86_400.0
    live = Overlay("m").with_counts({"item-2": (4.0, two_days), "unknown": (99.0, two_days)}).apply(model)
    short = np.full(ITEMS, 0.5)  # the counts of the cut, a half-life ago
    short[2] += 4.0
    expected = np.log((short + 3) / (short.sum() / ITEMS + 3))
    np.testing.assert_allclose(scores(live, "trending")[0].numpy(), expected, rtol=1e-6)
    assert scores(live, "gru").equal(scores(model, "gru"))


def test_without_live_counts_or_where_the_bundle_does_not_say_scores_stay() -> None:
    usual = torch.ones(ITEMS, dtype=torch.float64)
    plain, known = trending(None), trending(Trend(usual, usual, 0.0, 3.0))
    one = Overlay("m").with_counts({"item-2": (4.0, 9.0)})
    assert one.apply(fused({"trending": plain})).recommenders["trending"] is plain
    assert Overlay("m").apply(fused({"trending": known})).recommenders["trending"] is known


def test_a_trending_bundle_tells_what_its_scores_were_made_of(tmp_path) -> None:
    vocabulary = tmp_path / "vocabulary.parquet"
    pa.parquet.write_table(pa.table({"code": list(range(ITEMS))}), vocabulary)
    usual = torch.arange(ITEMS, dtype=torch.float64)
    trending(Trend(usual, usual + 1, 77.0, 3.0)).save(tmp_path / "bundle", vocabulary)
    back = Counts.load(read_bundle(tmp_path / "bundle")).trend
    assert back is not None
    assert (back.at, back.smoothing) == (77.0, 3.0)
    assert back.short_I.equal(usual)
    assert back.long_I.equal(usual + 1)


def test_counts_decay_and_do_not_depend_on_the_order_of_events() -> None:
    day = 86_400.0
    events = [("a", 1.0, 0.0), ("a", 1.0, 2 * day), ("b", 0.5, day), ("a", 2.0, 4 * day)]
    together = counted({"a": (8.0, 0.0), "c": (1.0, 0.0)}, events, 2.0)
    assert together == {"a": (0.25 * 9 + 0.5 + 2.0, 4 * day), "b": (0.5, day)}
    one_by_one = {"a": (8.0, 0.0)}
    for event in reversed(events):
        one_by_one |= counted(one_by_one, [event], 2.0)
    for item, (value, at) in together.items():
        assert one_by_one[item] == (pytest.approx(value), at)


def test_moved_recommenders_are_no_bundles(tmp_path) -> None:
    changed = overlay(gru=rows(DIM), als=rows(DIM, biases=False)).apply(fused())
    assert isinstance(changed.recommenders["gru"], NeuralRecommender)
    assert isinstance(changed.recommenders["als"], type(factors()))
    for recommender in changed.recommenders.values():
        with pytest.raises(NotImplementedError):
            recommender.save(tmp_path / "bundle", tmp_path)
