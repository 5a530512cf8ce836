from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from recsys_spark.models.losses import pairs, softmax
from recsys_spark.models.losses.bce import bce_loss
from recsys_spark.models.losses.bpr import bpr_loss
from recsys_spark.models.losses.gbce import GBCE
from recsys_spark.models.losses.softmax import softmax_loss
from recsys_spark.models.negatives import NegativeSampler
from recsys_spark.models.scorers.cosine import Cosine
from recsys_spark.models.scorers.dot import Dot
from recsys_spark.models.scorers.neumf import NeuMF
from recsys_spark.models.step import Negatives
from tests.unit.models.steps import composition

P, R, D, K = 70, 12, 8, 3
EVERY = Negatives(torch.arange(1, R), torch.zeros(R - 1))


def parts(seed: int = 0, positions: int = P, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((positions, D), (R, D), (R,))
    leaves = [torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True) for shape in shapes]
    return *leaves, torch.randint(1, R, (positions,), generator=generator)


def scorer(kind, dtype=torch.float32):
    made = kind(composition(dim=D, temperature=0.5))
    made.reset_parameters(torch.Generator().manual_seed(0))
    return made.to(dtype)


def drawn(targets: torch.Tensor, power: float = 0.75) -> Negatives:
    """K negatives of each position; the first position's first is its target."""
    sampler = NegativeSampler(torch.arange(1, R), power)
    codes, log_weight = sampler.each(targets.numel(), K, torch.Generator().manual_seed(0))
    codes[0, 0] = targets[0] - 1
    log_weight[0, 0] = sampler.log_noise_odds(codes[0, 0], K)
    return Negatives(codes + 1, log_weight, sampler.log_noise_odds(targets - 1, K))


def same_gradients(loss, expected, leaves):
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    wanted = torch.autograd.grad(expected, leaves)
    for found, right in zip(torch.autograd.grad(loss, leaves), wanted, strict=True):
        torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("near", [0.0, 40.0, 1e9], ids=["peaks taken off", "as it is", "peaks left on"])
@pytest.mark.parametrize("kind", [Dot, Cosine])
def test_with_every_item_as_a_negative_the_loss_and_its_gradients_are_those_of_cross_entropy(kind, near, monkeypatch):
    monkeypatch.setattr(softmax, "NEAR", near)
    monkeypatch.setitem(softmax.BLOCK_BYTES, "cpu", 4 * R * 16)  # several blocks and a rest
    users, vectors, biases, targets = parts()
    g = scorer(kind)
    scores = g.user_side(users) @ g.item_side(vectors).T + biases
    expected = F.cross_entropy(scores[:, 1:], targets - 1, reduction="sum")
    loss = softmax_loss(g, users, vectors, biases, targets, EVERY)
    same_gradients(loss, expected, (users, vectors, biases, *g.parameters()))


def test_scores_far_from_zero_neither_overflow_nor_vanish():
    users = torch.tensor([[1.0], [-1.0]])
    vectors = torch.tensor([[0.0], [1000.0], [-1000.0], [999.0]])
    biases, targets = torch.zeros(4), torch.tensor([3, 2])
    loss = softmax_loss(
        Dot(composition()), users, vectors, biases, targets, Negatives(torch.arange(1, 4), torch.zeros(3))
    )
    assert loss.item() == pytest.approx(1 + math.log(1 + math.exp(-1)))


def test_the_softmax_gradient_is_right_in_double_precision():
    users, vectors, biases, targets = parts(positions=5, dtype=torch.float64)
    negatives = Negatives(torch.tensor([2, 3, 7, 11]), torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64))
    targets[:2] = torch.tensor([7, 5])  # one among the negatives, one not
    loss = partial(softmax_loss, scorer(Cosine, torch.float64))
    assert torch.autograd.gradcheck(lambda *leaves: loss(*leaves, targets, negatives), (users, vectors, biases))


def test_products_in_bfloat16_give_nearly_the_same_loss_and_gradients():
    generator = torch.Generator().manual_seed(0)
    users, vectors = (torch.randn(rows, 64, generator=generator).requires_grad_() for rows in (200, 501))
    biases, targets = torch.zeros(501), torch.randint(1, 501, (200,), generator=generator)
    negatives = Negatives(torch.arange(1, 501), torch.zeros(500))
    full, half = (
        softmax_loss(Dot(composition()), users / 4, vectors, biases, targets, negatives, half) for half in (False, True)
    )
    assert half.item() == pytest.approx(full.item(), rel=2e-3)
    for found, right in zip(*(torch.autograd.grad(loss, (users, vectors)) for loss in (half, full)), strict=True):
        assert (found - right).norm() < 0.01 * right.norm()


def test_sampling_every_item_once_is_the_full_softmax():
    sampler = NegativeSampler(torch.full((R - 1,), 7), power=0.75)
    sampler._draw = lambda shape, generator: torch.arange(R - 1).view(shape)
    codes, log_weight = sampler.shared(R - 1, torch.Generator())
    assert codes.tolist() == list(range(R - 1))
    torch.testing.assert_close(log_weight, torch.zeros(R - 1), atol=1e-6, rtol=0)
    losses = [softmax_loss(scorer(Dot), *parts(), negatives) for negatives in (EVERY, Negatives(codes + 1, log_weight))]
    torch.testing.assert_close(*losses)


def test_the_corrected_sample_estimates_the_sum_over_the_catalogue_without_bias():
    counts = torch.tensor([1, 2, 5, 10, 50, 100])
    sampler, scores = NegativeSampler(counts, power=0.75), torch.tensor([3.0, 1.0, 0.0, -1.0, 0.5, 2.0])
    generator = torch.Generator().manual_seed(1)
    sums = []
    for _ in range(2000):
        codes, log_weight = sampler.shared(20, generator)
        sums.append(float(torch.exp(scores[codes] + log_weight).sum()))
    assert sum(sums) / len(sums) == pytest.approx(float(torch.exp(scores).sum()), rel=0.05)


def test_negatives_are_drawn_in_proportion_to_the_power_of_their_counts():
    sampler = NegativeSampler(torch.tensor([1, 16]), power=0.5)
    codes, _ = sampler.each(20_000, 1, torch.Generator().manual_seed(0))
    assert float(codes.float().mean()) == pytest.approx(4 / 5, abs=0.02)


def scores_of(g, users, vectors, biases, rows):
    """Scores [P, K] of given rows, pair by pair of matrix products."""
    return torch.gather(g.matrix(g.user_side(users), g.item_side(vectors)) + biases, 1, rows)


@pytest.mark.parametrize("kind", [Dot, Cosine])
@pytest.mark.parametrize("name", ["bce", "gbce", "bpr"])
def test_pairwise_losses_and_their_gradients_are_those_of_their_formulas(kind, name, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK_BYTES", 4 * (1 + K) * D * 16)  # several blocks and a rest
    users, vectors, biases, targets = parts()
    g, negatives = scorer(kind), drawn(targets, power=0.0 if name == "gbce" else 0.75)
    others = negatives.rows != targets[:, None]
    target = scores_of(g, users, vectors, biases, targets[:, None])
    negative = scores_of(g, users, vectors, biases, negatives.rows)
    if name == "gbce":
        alpha, t, items = K / (R - 2), 0.6, R - 1
        beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
        shift = math.log(beta / (alpha * items))
        on, off = torch.log(torch.sigmoid(target + shift)), torch.log(1 - torch.sigmoid(negative + shift))
        expected = -(beta * on.sum() + (off * others).sum()) / (1 + K)
        loss = GBCE(items, t)(g, users, vectors, biases, targets, negatives)
    else:
        target = target + negatives.target_log_weight_P[:, None]
        negative = negative + negatives.log_weight
        if name == "bce":
            on, off = torch.log(torch.sigmoid(target)), torch.log(1 - torch.sigmoid(negative))
            expected = -(on.sum() + (off * others).sum()) / (1 + K)
        else:
            expected = -(torch.log(torch.sigmoid(target - negative)) * others).sum() / K
        loss = {"bce": bce_loss, "bpr": bpr_loss}[name](g, users, vectors, biases, targets, negatives)
    same_gradients(loss, expected, (users, vectors, biases, *g.parameters()))


def test_pairwise_losses_take_a_scorer_that_does_not_factorise():
    users, vectors, biases, targets = parts()
    g, negatives = scorer(NeuMF), drawn(targets)
    others = negatives.rows != targets[:, None]
    with torch.no_grad():
        target = scores_of(g, users, vectors, biases, targets[:, None]) + negatives.target_log_weight_P[:, None]
        negative = scores_of(g, users, vectors, biases, negatives.rows) + negatives.log_weight
        expected = -(F.logsigmoid(target).sum() + (F.logsigmoid(-negative) * others).sum()) / (1 + K)
    loss = bce_loss(g, users, vectors, biases, targets, negatives)
    torch.testing.assert_close(loss.detach(), expected)


def test_over_uniform_negatives_bce_is_logistic_regression_shifted_by_log_k_and_bpr_is_not_shifted():
    users, vectors, biases, targets = parts()
    negatives = drawn(targets, power=0.0)
    torch.testing.assert_close(negatives.log_weight, torch.full((P, K), -math.log(K)))
    shifted = Negatives(negatives.rows, torch.zeros(P, K), torch.zeros(P))
    losses = [bpr_loss(scorer(Dot), users, vectors, biases, targets, chosen) for chosen in (negatives, shifted)]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize(("t", "beta"), [(0.0, 1.0), (1.0, 0.25), (0.5, 0.625)])
def test_the_calibration_of_gbce_leads_from_binary_cross_entropy_to_the_share_that_is_sampled(t, beta):
    assert GBCE(num_items=13, calibration=t).beta(draws=3) == pytest.approx(beta)
