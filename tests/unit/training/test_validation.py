from __future__ import annotations

import math

import torch

from recsys_spark.models.composed import ComposedModel
from recsys_spark.models.composition import Composition
from recsys_spark.training.processes import Processes
from recsys_spark.training.validation import mean_ndcg


def by_bias(biases: list[float]) -> ComposedModel:
    """A model that ranks items by their biases alone, whoever asks."""
    model = ComposedModel(Composition(user_encoder="mean", dim=2, num_items=len(biases), max_length=3))
    model.reset_parameters(torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.item_encoder.weight.zero_()
        model.item_bias.weight[1:, 0] = torch.tensor(biases)
    return model.eval()


def valid(items: list[list[int]], targets: list[list[int]]) -> dict[str, torch.Tensor]:
    tokens, wanted = torch.tensor(items), torch.tensor(targets)
    return {
        "items": tokens,
        "times": torch.zeros_like(tokens),
        "length": (tokens > 0).sum(dim=1),
        "row_weight": torch.ones(len(items)),
        "event_types": torch.zeros_like(tokens),
        "user_index": torch.arange(1, len(items) + 1),
        "targets": wanted,
        "target_count": (wanted > 0).sum(dim=1),
    }


def test_ndcg_with_repeats_ranks_all_items_and_without_leaves_the_history_out_of_lists_and_targets():
    scorer = by_bias([4.0, 3.0, 2.0, 1.0]).history_scorer()  # tokens 1, 2, 3, 4 in this order
    rows = valid(items=[[1, 2, 0], [1, 0, 0]], targets=[[3, 0], [1, 4]])
    third, fourth = 1 / math.log2(4), 1 / math.log2(5)
    two = 1 + 1 / math.log2(3)
    with_repeats = (third + (1 + fourth) / two) / 2
    assert math.isclose(mean_ndcg(scorer, [rows], 10, Processes(), 2**20), with_repeats, rel_tol=1e-6)
    # Without the history 3 comes first for one user; the other wants 4 alone, which comes third.
    without = (1.0 + third) / 2
    assert math.isclose(mean_ndcg(scorer, [rows], 10, Processes(), 2**20, (0,)), without, rel_tol=1e-6)


def test_users_who_want_only_what_they_had_do_not_count_where_repeats_are_dropped():
    scorer = by_bias([1.0, 2.0]).history_scorer()
    assert mean_ndcg(scorer, [valid([[1, 0, 0]], [[1]])], 10, Processes(), 2**20, (0,)) is None


def test_what_was_only_viewed_is_no_repeat():
    scorer = by_bias([2.0, 1.0]).history_scorer()
    assert mean_ndcg(scorer, [valid([[1, 0, 0]], [[1]])], 10, Processes(), 2**20, (4,)) == 1.0
