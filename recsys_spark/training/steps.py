"""From batches of sequence rows to a training step: packed positions, distinct items, negatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_spark.models.composed import NEGATIVES
from recsys_spark.models.negatives import NegativeSampler
from recsys_spark.models.packed import History, Rows
from recsys_spark.models.step import Negatives, Step
from recsys_spark.training.pairs import next_moment_pairs, seconds_before
from recsys_spark.training.processes import Processes
from recsys_spark.training.spec import TrainSpec

SEQUENCE_COLUMNS = ("items", "times", "length", "row_weight", "event_types", "user_index")
"""What a step is made from: tokens, times and event types [B, L] left-aligned, their lengths, whether a row is real,
and whose it is."""


@dataclass(frozen=True)
class _Read:
    """What was read and what came next, as tokens, of all lanes of this process one after the other."""

    history: History
    inputs_P: Tensor
    targets_P: Tensor
    lane_positions: dict[int, int]
    """Positions of each lane."""


class StepMaker:
    """Makes the steps of one process from its lanes.

    Every draw follows from seed, epoch and step, those of positions from the lane too: any number of processes that
    share the lanes draws the same.
    """

    def __init__(self, spec: TrainSpec, counts_I: Tensor, processes: Processes) -> None:
        self._spec = spec
        self._processes = processes
        self._kind = NEGATIVES[spec.composition.loss]
        self._sampler = NegativeSampler(counts_I, spec.negatives_power)
        self._frequencies = NegativeSampler(counts_I, 1.0)
        self._num_items = spec.composition.num_items
        self._num_users = spec.composition.num_users
        self._all_codes = torch.arange(self._num_items)

    def make(self, lanes: Mapping[int, Mapping[str, Tensor]], epoch: int, number: int) -> Step:
        """The step of the `SEQUENCE_COLUMNS` of a batch of each lane; rows of weight 0 take no part."""
        read = self._read(lanes, (epoch, number))
        tokens, log_weight, target_log_weight_P = self._draw(read, (epoch, number))
        tokens_R, lookup = self._numbered(self._num_items, (read.inputs_P, read.targets_P, tokens), first=True)
        step = Step(
            tokens_R=tokens_R,
            inputs_P=lookup[read.inputs_P],
            history=read.history,
            targets_P=lookup[read.targets_P],
            negatives=Negatives(lookup[tokens], log_weight, target_log_weight_P),
        )
        return step.to(self._processes.device)

    def _read(self, lanes: Mapping[int, Mapping[str, Tensor]], place: tuple[int, int]) -> _Read:
        """Rows packed, each position with an item of the row's next moment."""
        order = sorted(lanes)
        rows = {name: torch.cat([lanes[lane][name] for lane in order]) for name in SEQUENCE_COLUMNS}
        real_B = rows["row_weight"] > 0
        lengths_B = torch.where(real_B, rows["length"].to(torch.int64), 0)
        pairs = next_moment_pairs(rows["times"], lengths_B)
        sizes = torch.tensor([lanes[lane]["length"].numel() for lane in order])
        positions = [int(part.sum()) for part in pairs.counts_B.split(sizes.tolist())]
        lane_positions = dict(zip(order, positions, strict=True))
        draws_P = self._uniform(lane_positions, place)
        tokens_BL = rows["items"].to(torch.int64)
        kept_B = pairs.counts_B > 0
        users_U, user_B = self._users(rows["user_index"].to(torch.int64)[kept_B])
        composition = self._spec.composition
        history = History(
            rows=Rows(pairs.counts_B[kept_B]),
            event_types_P=rows["event_types"].flatten()[pairs.index_P].to(torch.int64)
            if composition.event_types
            else None,
            gaps_P=seconds_before(rows["times"]).flatten()[pairs.index_P] if composition.time_gaps else None,
            users_U=users_U,
            user_B=user_B,
        )
        targets_P = tokens_BL.flatten()[pairs.target_index(draws_P)]
        return _Read(history, tokens_BL.flatten()[pairs.index_P], targets_P, lane_positions)

    def _uniform(self, lane_positions: Mapping[int, int], place: tuple[int, int]) -> Tensor:
        """A uniform number of each position, drawn lane by lane."""
        return torch.cat(
            [torch.rand(count, generator=self._generator(*place, lane, 1)) for lane, count in lane_positions.items()]
        )

    def _draw(self, read: _Read, place: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Negative tokens, their log weights, and the targets' where the loss corrects them."""
        if self._kind == "all":
            return self._all_codes + 1, torch.zeros(self._num_items), None
        if self._kind == "targets":
            return *self._step_targets(read.targets_P), None
        draws = self._spec.negatives
        if self._kind == "shared":  # the same on every process
            codes_N, log_weight_N = self._sampler.shared(draws, self._generator(*place))
            return codes_N + 1, log_weight_N, None
        parts = [
            self._sampler.each(count, draws, self._generator(*place, lane))
            for lane, count in read.lane_positions.items()
        ]
        codes_PK, log_weight_PK = (torch.cat(values) for values in zip(*parts, strict=True))
        return codes_PK + 1, log_weight_PK, self._sampler.log_noise_odds(read.targets_P - 1, draws)

    def _step_targets(self, targets_P: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct targets of the global batch [N], weighed as that many draws by frequency."""
        counts = torch.bincount(targets_P, minlength=self._num_items + 1).to(torch.int32)
        self._processes.add_(counts)
        tokens_N = counts.nonzero().squeeze(1)
        return tokens_N, self._frequencies.log_weight(tokens_N - 1, counts[tokens_N], int(counts.sum()))

    def _users(self, users_B: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Distinct users of the global batch and the place of each row's among them, where users are a table."""
        if not self._num_users:
            return None, None
        users_U, lookup = self._numbered(self._num_users, (users_B,), first=False)
        return users_U, lookup[users_B]

    def _numbered(self, size: int, parts: tuple[Tensor, ...], first: bool) -> tuple[Tensor, Tensor]:
        """Distinct numbers over all processes [R], 0 too where `first`, and the place of each of 0..size among them."""
        marks = torch.zeros(size + 1, dtype=torch.uint8)
        marks[0] = int(first)
        for numbers in parts:
            marks[numbers.flatten()] = 1
        self._processes.union_(marks)
        return marks.nonzero().squeeze(1), marks.to(torch.int32).cumsum(0) - 1

    def _generator(self, *parts: int) -> torch.Generator:
        return torch.Generator().manual_seed(mixed_seed(self._spec.seed, *parts))


def mixed_seed(*parts: int) -> int:
    """One seed of several numbers, without collisions between neighbours."""
    seed = 0
    for part in parts:
        seed = (seed * 6364136223846793005 + part + 1442695040888963407) % 2**63
    return seed
