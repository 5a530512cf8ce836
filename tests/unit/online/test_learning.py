"""Online learning: equal to a plain implementation, bounded, and a function of its arguments alone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys_spark.config.online_learning import OnlineLearning
from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FusedModel
from recsys_spark.online.item_steps import drawn_negatives, slopes
from recsys_spark.online.learning import Example, learn, learn_codes
from recsys_spark.online.overlay import Overlay, Rows
from tests.unit.models.steps import ITEMS
from tests.unit.online.learnable_shop import HISTORIES, NAMES, factors, fused, network, scores, stored, users

EVENTS = [(0, 5), (1, 3), (2, 3), (0, 6), (3, 5), (3, -1), (1, 5)]
"""(row of the user, code) in their order; the third user cannot be scored, and the item -1 is not known."""
SETTINGS = OnlineLearning(step_events=2, negatives=6, replay=1.5, reservoir=3, max_change=0.3, learning_rate=0.2)
NOW = 1_700_000_000.0


def learned(
    model: FusedModel, settings: OnlineLearning, overlay: Overlay | None = None, batch_id: int = 4, seed: int = 7
) -> Overlay:
    rows, items = np.array(EVENTS).T
    start = overlay or Overlay("model")
    return learn_codes(model, start, users(), rows, items, batch_id, settings, seed)


class Plain:
    """The same by loops over samples, negatives and dimensions, for one recommender."""

    def __init__(self, vectors_ID, biases_I, loss: str, settings: OnlineLearning) -> None:
        self.vectors, self.biases, self.loss, self.settings = vectors_ID, biases_I, loss, settings
        self.change: dict[int, list[float]] = {}
        self.bias: dict[int, float] = {}
        self.squares: dict[int, float] = {}
        self.bias_squares: dict[int, float] = {}
        self.kept: list[tuple[int, list[float]]] = []
        self.seen = 0

    def learn(self, samples, batch_id: int, seed: int) -> None:
        draw = np.random.default_rng([seed, batch_id])
        for item in {item for item, _ in samples} - set(self.change):
            self.change[item] = [0.0] * len(self.vectors[0])
            self.bias[item] = self.squares[item] = self.bias_squares[item] = 0.0
        own = self.settings
        for start in range(0, len(samples), own.step_events):
            new = samples[start : start + own.step_events]
            again = round(own.replay * len(new)) if self.kept else 0
            replayed = [self.kept[place] for place in draw.integers(len(self.kept), size=again)] if again else []
            self.step(new + replayed, draw)
            for sample in new:
                self.seen += 1
                if len(self.kept) < own.reservoir:
                    self.kept.append(sample)
                elif (place := int(draw.integers(self.seen))) < own.reservoir:
                    self.kept[place] = sample

    def score(self, user, item: int) -> float:
        change = self.change.get(item, [0.0] * len(user))
        product = sum(u * (v + c) for u, v, c in zip(user, self.vectors[item], change, strict=True))
        return product + (self.biases[item] if self.biases is not None else 0.0) + self.bias.get(item, 0.0)

    def step(self, samples, draw) -> None:
        own, active = self.settings, sorted(self.change)
        half = own.negatives // 2
        drawn = [active[place] for place in draw.integers(len(active), size=half)]
        drawn += draw.integers(ITEMS, size=own.negatives - half).tolist()
        expected = {item: (own.negatives - half) / ITEMS + half / len(active) * (item in active) for item in drawn}
        gradient = {item: [0.0] * len(self.vectors[0]) for item in active}
        of_bias = dict.fromkeys(active, 0.0)

        def push(item: int, slope: float, user) -> None:
            if item in gradient:
                gradient[item] = [g + slope * u for g, u in zip(gradient[item], user, strict=True)]
                of_bias[item] += slope

        for target, user in samples:
            others = [item for item in drawn if item != target]
            if self.loss == "softmax":
                weights = [math.exp(self.score(user, item)) / expected[item] for item in others]
                total = math.exp(self.score(user, target)) + sum(weights)
                push(target, math.exp(self.score(user, target)) / total - 1, user)
                for item, weight in zip(others, weights, strict=True):
                    push(item, weight / total, user)
            else:
                push(target, self.score(user, target) - 1, user)
                for item in others:
                    push(item, self.score(user, item) / own.negatives, user)
        for item in active:
            self.move(item, gradient[item], of_bias[item])

    def move(self, item: int, gradient, of_bias: float) -> None:
        own = self.settings
        self.squares[item] += sum(g * g for g in gradient) / len(gradient)
        self.bias_squares[item] += of_bias**2
        divisor = math.sqrt(own.start_squares + self.squares[item]) if own.method == "adagrad" else 1.0
        moved = [c - own.learning_rate * g / divisor for c, g in zip(self.change[item], gradient, strict=True)]
        length = math.sqrt(sum(c * c for c in moved))
        most = own.max_change * math.sqrt(sum(v * v for v in self.vectors[item]))
        self.change[item] = [c * min(1.0, most / length) if length else 0.0 for c in moved]
        if self.biases is not None:
            divisor = math.sqrt(own.start_squares + self.bias_squares[item]) if own.method == "adagrad" else 1.0
            most = own.max_bias_change
            self.bias[item] = min(most, max(-most, self.bias[item] - own.bias_learning_rate * of_bias / divisor))


@pytest.mark.parametrize("method", ["adagrad", "sgd"])
@pytest.mark.parametrize("name", ["gru", "als"])
def test_it_equals_an_implementation_by_loops(name: str, method: str) -> None:
    recommender = network("gru") if name == "gru" else factors()
    model, settings = fused({name: recommender}), SETTINGS.model_copy(update={"method": method})
    vectors = recommender.form(users()).side.items_ID.double().tolist()
    biases = recommender.form(users()).side.biases_I.double().tolist() if name == "gru" else None
    plain = Plain(vectors, biases, "softmax" if name == "gru" else "squared", settings)
    sides = recommender.form(users()).users_BD.double().tolist()
    samples = [(item, sides[row]) for row, item in EVENTS if row != 2 and item >= 0]
    overlay = Overlay("model")
    for batch_id in (2, 5):
        overlay = learned(model, settings, overlay, batch_id)
        plain.learn(samples, batch_id, 7)
    assert overlay.codes.tolist() == sorted(plain.change) == [3, 5, 6]
    rows: Rows = overlay.rows[name]
    np.testing.assert_allclose(rows.vectors, [plain.change[item] for item in (3, 5, 6)], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(rows.biases, [plain.bias[item] for item in (3, 5, 6)], rtol=1e-4, atol=1e-6)
    assert overlay.reservoir.items.tolist() == [item for item, _ in plain.kept]
    assert overlay.reservoir.seen == plain.seen == 10
    assert np.abs(rows.vectors).max() > 1e-3
    assert not rows.biases.any() if name == "als" else rows.biases.all()


@pytest.mark.parametrize("method", ["adagrad", "sgd"])
def test_an_item_that_is_hammered_goes_to_its_bound_and_no_further(method: str) -> None:
    settings = OnlineLearning(
        method=method, learning_rate=50.0, bias_learning_rate=50.0, max_change=0.25, max_bias_change=0.7, negatives=4
    )
    model, overlay = fused(), Overlay("model")
    rows, items = np.full(400, 1), np.full(400, 5)
    for batch_id in range(3):
        overlay = learn_codes(model, overlay, users(), rows, items, batch_id, settings, 7)
    for name, own in overlay.rows.items():
        champion = model.recommenders[name].form(users()).side.items_ID[5]
        assert np.linalg.norm(own.vectors[0]) == pytest.approx(0.25 * float(champion.norm()), rel=1e-5)
    assert overlay.rows["gru"].biases.tolist() == pytest.approx([0.7])
    most = np.abs(scores(overlay.apply(model), "gru") - scores(model, "gru"))
    sides = model.recommenders["gru"].form(users()).users_BD.norm(dim=1)
    reach = sides * 0.25 * model.recommenders["gru"].form(users()).side.items_ID[5].norm() + 0.7
    assert (most[:, 5] <= reach + 1e-4).all()
    assert not most[:, :5].any()


def test_what_is_bought_rises_above_what_is_not() -> None:
    settings = OnlineLearning(learning_rate=0.1, bias_learning_rate=0.1)
    model, overlay = fused({"gru": network("gru")}), Overlay("model")
    before = scores(model, "gru")[1].softmax(0)
    for batch_id in range(20):
        overlay = learn_codes(model, overlay, users(), np.array([1, 1]), np.array([5, 8]), batch_id, settings, 7)
    after = scores(overlay.apply(model), "gru")[1].softmax(0)
    assert (after[[5, 8]] > before[[5, 8]]).all()
    assert after.sum() == pytest.approx(1.0)
    others = [0, 1, 2, 3, 4, 6, 7]
    assert (after[others] < before[others]).all()


def test_the_same_arguments_give_the_same_bytes_and_another_seed_or_batch_others() -> None:
    one = learned(fused(), SETTINGS)
    assert learned(fused(), SETTINGS).to_bytes() == one.to_bytes()
    assert learned(one.apply(fused()), SETTINGS).to_bytes() == one.to_bytes()
    assert learned(fused(), SETTINGS, seed=8).rows["gru"].vectors.tolist() != one.rows["gru"].vectors.tolist()
    assert learned(fused(), SETTINGS, batch_id=5).rows["gru"].vectors.tolist() != one.rows["gru"].vectors.tolist()


def test_parameters_that_went_through_the_store_are_learned_on_alike() -> None:
    first = learned(fused(), SETTINGS)
    back = Overlay.from_bytes(first.to_bytes(), "model")
    assert learned(fused(), SETTINGS, back, 6).to_bytes() == learned(fused(), SETTINGS, first, 6).to_bytes()


def test_examples_of_the_store_are_learned_as_their_codes() -> None:
    examples = [
        Example([NAMES[item] if item >= 0 else "unknown"], stored(HISTORIES[row], NOW), NOW) for row, item in EVENTS
    ]
    made = learn(fused(), Overlay("model"), examples, 4, SETTINGS, 7)
    other = learned(fused(), SETTINGS)
    for name, rows in other.rows.items():
        np.testing.assert_allclose(made.rows[name].vectors, rows.vectors, rtol=1e-4, atol=1e-6)
    assert made.codes.tolist() == other.codes.tolist()


def test_nothing_to_learn_from_changes_no_parameter() -> None:
    rows, items = np.array([2, 0]), np.array([3, -1])
    made = learn_codes(fused(), Overlay("model"), users(), rows, items, 4, SETTINGS, 7)
    assert (made.version, made.codes.size, made.rows) == (0, 0, {})
    none = learn(fused(), Overlay("model"), [], 4, SETTINGS, 7)
    assert (none.version, none.rows) == (0, {})


def test_rates_of_zero_leave_vectors_or_biases_as_they_are() -> None:
    no_vectors = learned(fused(), SETTINGS.model_copy(update={"learning_rate": 0.0}))
    assert not no_vectors.rows["gru"].vectors.any()
    assert no_vectors.rows["gru"].biases.any()
    no_biases = learned(fused(), SETTINGS.model_copy(update={"bias_learning_rate": 0.0}))
    assert no_biases.rows["gru"].vectors.any()
    assert not no_biases.rows["gru"].biases.any()


def test_models_name_who_learns_and_must_be_able_to() -> None:
    only = learned(fused(), SETTINGS.model_copy(update={"models": ("als",)}))
    assert [*only.rows] == ["als"]
    with pytest.raises(
        UserError, match=r"\['popularity'\] cannot learn; those of the model that can: \['als', 'gru'\]"
    ):
        learned(fused(), SETTINGS.model_copy(update={"models": ("popularity",)}))


def test_the_reservoir_keeps_every_sample_equally_likely() -> None:
    settings = OnlineLearning(reservoir=4, step_events=64, learning_rate=0, bias_learning_rate=0, negatives=2, replay=0)
    model = fused({"gru": network("gru")})
    rows, items = np.zeros(ITEMS, dtype=np.int64), np.arange(ITEMS)
    kept = np.zeros(ITEMS)
    for seed in range(200):
        made = learn_codes(model, Overlay("model"), users(), rows, items, 0, settings, seed)
        assert len(made.reservoir.items) == 4
        kept[made.reservoir.items] += 1
    expected = 200 * 4 / ITEMS  # its deviation is 7
    assert np.abs(kept - expected).max() < 30


def test_sampled_slopes_are_those_of_the_whole_softmax_on_average() -> None:
    draw = np.random.default_rng(1)
    scores_I = draw.normal(size=40)
    active, target = np.array([3, 8, 21]), 8
    sums = np.zeros(40)
    rounds = 1500
    for _ in range(rounds):
        codes, expected = drawn_negatives(draw, active, 40, 512)
        slope_S, slope_SN = slopes(
            "softmax", scores_I[[target]], scores_I[codes][None], expected, (codes == target)[None]
        )
        np.add.at(sums, codes, slope_SN[0])
        sums[target] += slope_S[0]
    exact = np.exp(scores_I) / np.exp(scores_I).sum()
    exact[target] -= 1
    np.testing.assert_allclose(sums / rounds, exact, atol=0.01)


def test_where_scores_are_no_products_biases_are_learned_and_of_counts_nothing() -> None:
    model = fused({"mfn": network("mfn", "mean", "neumf", "bce")})
    made = learned(model, SETTINGS)
    assert made.rows["mfn"].vectors.shape == (3, 0)
    assert made.rows["mfn"].biases.all()
    counts_alone = fused({"popularity": model.fallback})
    assert learned(counts_alone, SETTINGS).rows == {}
    assert replace(made, batch=0).to_bytes() != made.to_bytes()
    assert torch.isfinite(scores(made.apply(model), "mfn")).all()
