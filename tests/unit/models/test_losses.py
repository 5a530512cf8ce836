from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from recsys_spark.models.losses.bce import bce_loss
from recsys_spark.models.losses.softmax import softmax_loss
from recsys_spark.models.negatives import NegativeSampler
from recsys_spark.models.scorers.dot import Dot
from recsys_spark.models.step import Negatives

P, R, D = 70, 12, 8


def parts(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    users, vectors = (torch.randn(rows, D, generator=generator, requires_grad=True) for rows in (P, R))
    biases = torch.randn(R, generator=generator, requires_grad=True)
    return users, vectors, biases, torch.randint(1, R, (P,), generator=generator)


def test_with_every_item_as_a_negative_the_loss_and_its_gradients_are_those_of_cross_entropy(monkeypatch):
    monkeypatch.setattr("recsys_spark.models.losses.softmax.BLOCK_BYTES", 4 * R * 16)  # several blocks and a rest
    users, vectors, biases, targets = parts()
    expected = F.cross_entropy((users @ vectors.T + biases)[:, 1:], targets - 1, reduction="sum")
    wanted = torch.autograd.grad(expected, (users, vectors, biases))
    every = Negatives(torch.arange(1, R), torch.zeros(R - 1))
    loss = softmax_loss(Dot(D, 1), users, vectors, biases, targets, every)
    torch.testing.assert_close(loss, expected)
    for found, right in zip(torch.autograd.grad(loss, (users, vectors, biases)), wanted, strict=True):
        torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-4)


def test_drawing_each_item_once_from_the_uniform_distribution_weighs_it_one():
    sampler = NegativeSampler(torch.full((11,), 7), power=0.75)
    sampler._draw = lambda shape, generator: torch.arange(11).view(shape)
    codes, log_weight = sampler.shared(11, torch.Generator())
    assert codes.tolist() == list(range(11))
    torch.testing.assert_close(log_weight, torch.zeros(11), atol=1e-6, rtol=0)


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


def test_bce_over_uniform_negatives_is_logistic_regression_shifted_by_log_k():
    users, vectors, biases, targets = parts()
    sampler = NegativeSampler(torch.arange(1, R), power=0.0)
    drawn, log_weight = sampler.each(P, 3, torch.Generator().manual_seed(0))
    negatives = Negatives(drawn + 1, log_weight, sampler.log_noise_odds(targets - 1, 3))
    loss = bce_loss(Dot(D, 1), users, vectors, biases, targets, negatives)
    scores = (users @ vectors.T + biases - math.log(3)).detach()
    expected = 0.0
    for position in range(P):
        expected += float(F.softplus(-scores[position, targets[position]])) / 4
        for row in (drawn[position] + 1).tolist():
            if row != int(targets[position]):
                expected += float(F.softplus(scores[position, row])) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-4)
