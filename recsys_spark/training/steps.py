"""From a batch of sequence rows to a training step: real positions, distinct items, negatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_spark.models.composed import NEGATIVES
from recsys_spark.models.negatives import NegativeSampler
from recsys_spark.models.step import Negatives, Step
from recsys_spark.training.processes import Processes
from recsys_spark.training.spec import TrainSpec


@dataclass(frozen=True)
class _Positions:
    """Next-item pairs of a batch, as tokens."""

    inputs_BL: Tensor
    positions_P: Tensor
    targets_P: Tensor


class StepMaker:
    """Makes the steps of one process. Every draw follows from seed, epoch, step (and rank where processes differ)."""

    def __init__(self, spec: TrainSpec, counts_I: Tensor, processes: Processes) -> None:
        self._spec = spec
        self._processes = processes
        self._kind = NEGATIVES[spec.composition.loss]
        self._sampler = NegativeSampler(counts_I, spec.negatives_power)
        self._num_items = spec.composition.num_items
        self._all_codes = torch.arange(self._num_items)

    def make(self, tokens_BL: Tensor, lengths_B: Tensor, row_weights_B: Tensor, epoch: int, number: int) -> Step:
        """The step of rows of tokens [B, L] left-aligned with their lengths; rows of weight 0 take no part."""
        pairs = _next_item_pairs(tokens_BL, lengths_B, row_weights_B)
        tokens, log_weight, target_log_weight = self._draw(pairs, epoch, number)
        tokens_R, lookup = self._number_rows(pairs, tokens)
        negatives = Negatives(lookup[tokens], log_weight, target_log_weight)
        step = Step(tokens_R, lookup[pairs.inputs_BL], pairs.positions_P, lookup[pairs.targets_P], negatives)
        return _to(step, self._processes.device)

    def _draw(self, pairs: _Positions, epoch: int, number: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Negative tokens, their log weights, and the targets' where the loss corrects them."""
        if self._kind == "all":
            return self._all_codes + 1, torch.zeros(self._num_items), None
        rank = self._processes.rank if self._kind == "each" else 0  # shared negatives are the same on every process
        generator = torch.Generator().manual_seed(mixed_seed(self._spec.seed, epoch, number, rank))
        if self._kind == "shared":
            codes, log_weight = self._sampler.shared(self._spec.negatives, generator)
            return codes + 1, log_weight, None
        draws = self._spec.negatives
        codes, log_weight = self._sampler.each(pairs.targets_P.numel(), draws, generator)
        return codes + 1, log_weight, self._sampler.log_noise_odds(pairs.targets_P - 1, draws)

    def _number_rows(self, pairs: _Positions, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Distinct tokens over all processes [R] with the padding first, and the row of each token [I + 1]."""
        marks = torch.zeros(self._num_items + 1, dtype=torch.uint8)
        marks[0] = 1
        for tokens in (pairs.inputs_BL, pairs.targets_P, negatives):
            marks[tokens.flatten()] = 1
        if self._processes.size > 1:
            marks = marks.to(self._processes.device)
            self._processes.union_(marks)
            marks = marks.cpu()
        return marks.nonzero().squeeze(1), marks.to(torch.int32).cumsum(0) - 1


def mixed_seed(*parts: int) -> int:
    """One seed of several numbers, without collisions between neighbours."""
    seed = 0
    for part in parts:
        seed = (seed * 6364136223846793005 + part + 1442695040888963407) % 2**63
    return seed


def _next_item_pairs(tokens_BL: Tensor, lengths_B: Tensor, row_weights_B: Tensor) -> _Positions:
    pairs_B = torch.where(row_weights_B > 0, lengths_B.to(torch.int64) - 1, 0).clamp_(min=0)
    width = max(1, int(pairs_B.max()) if pairs_B.numel() else 1)
    tokens_BL = tokens_BL[:, : width + 1].to(torch.int64)
    real_BL = torch.arange(width) < pairs_B[:, None]
    positions_P = real_BL.flatten().nonzero().squeeze(1)
    targets_P = tokens_BL[:, 1:].flatten().index_select(0, positions_P)
    return _Positions((tokens_BL[:, :-1] * real_BL), positions_P, targets_P)


def _to(step: Step, device: torch.device) -> Step:
    if device.type == "cpu":
        return step
    negatives = step.negatives
    targets = negatives.target_log_weight_P
    return Step(
        step.tokens_R.to(device),
        step.inputs_BL.to(device),
        step.positions_P.to(device),
        step.targets_P.to(device),
        Negatives(
            negatives.rows.to(device),
            negatives.log_weight.to(device),
            None if targets is None else targets.to(device),
        ),
    )
