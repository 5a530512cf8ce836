"""The training loop that runs in each process. Nothing here knows of Spark."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from torch import Tensor

from recsys_spark.models.composed import ComposedModel
from recsys_spark.training.checkpoint import (
    checkpoint_path,
    latest_checkpoint,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from recsys_spark.training.curve import CURVE, CurveWriter
from recsys_spark.training.optimiser import Optimiser
from recsys_spark.training.processes import Processes, joined
from recsys_spark.training.spec import TrainSpec
from recsys_spark.training.staging import stage_locally
from recsys_spark.training.steps import SEQUENCE_COLUMNS, StepMaker, mixed_seed
from recsys_spark.training.validation import VALID_COLUMNS, mean_ndcg

VALID_K = 10
VALID_BLOCK_BYTES = 64 * 2**20
POINT_SECONDS = 1.0
"""A point of the curve is written about so often."""


def train(spec: TrainSpec) -> dict[str, Any]:
    """Train to the end, from the last whole checkpoint where there is one; the result is the same as in one go.

    Returns `best_epoch`, `valid_ndcg_at_10` (None where not validated), `checkpoint` (path of the best epoch's),
    `positions_per_second` and `data_wait_share` of the epochs that this call trained.
    """
    with joined(spec.num_processes, spec.use_gpu) as processes:
        return _Training(spec, processes).run()


@dataclass
class _Meter:
    """Where the time of training went, and what was learned meanwhile."""

    started: float = field(default_factory=time.perf_counter)
    positions: float = 0.0
    loss: float = 0.0
    waited: float = 0.0
    seconds: float = 0.0

    def add(self, totals: Tensor) -> None:
        """Count a step's summed loss and positions."""
        loss, positions = totals.tolist()
        self.loss += loss
        self.positions += positions

    def stop(self) -> None:
        """The period is over."""
        self.seconds = time.perf_counter() - self.started

    def numbers(self) -> dict[str, float]:
        """Mean loss a position, positions a second, share of the time that waited for data."""
        seconds = self.seconds or time.perf_counter() - self.started
        return {
            "loss": self.loss / max(1.0, self.positions),
            "positions_per_second": self.positions / max(seconds, 1e-9),
            "data_wait_share": self.waited / max(seconds, 1e-9),
        }


class _Training:
    """Model, optimiser and history of one run."""

    def __init__(self, spec: TrainSpec, processes: Processes) -> None:
        self.spec = spec
        self.processes = processes
        self.dataset = Path(stage_locally(spec.dataset))
        self.work = Path(spec.work)
        counts_I = _item_counts(self.dataset)
        self.model = ComposedModel(spec.composition)
        self.model.reset_parameters(torch.Generator().manual_seed(spec.seed))
        self.model.item_bias.start_from_counts(counts_I)
        self.model.to(processes.device)
        self.optimiser = Optimiser(self.model, spec, processes)
        self.steps = StepMaker(spec, counts_I, processes)
        self.steps_an_epoch = _steps_an_epoch(self.dataset / "sequences", spec)
        self.history: list[dict[str, Any]] = []
        self.curve = CurveWriter(self.work / CURVE) if processes.rank == 0 else None

    def run(self) -> dict[str, Any]:
        self._resume()
        seconds, positions, waited = 0.0, 0.0, 0.0
        while not self._finished():
            meter = self._train_epoch(len(self.history) + 1)
            self._end_epoch(meter)
            seconds, positions, waited = seconds + meter.seconds, positions + meter.positions, waited + meter.waited
        best = self._best_epoch()
        return {
            "best_epoch": best,
            "valid_ndcg_at_10": self.history[best - 1].get("valid_ndcg_at_10"),
            "checkpoint": str(checkpoint_path(self.work, best)),
            "positions_per_second": positions / seconds if seconds else None,
            "data_wait_share": waited / seconds if seconds else None,
        }

    def _resume(self) -> None:
        """Take up the newest whole checkpoint: rank 0 finds it, all load it."""
        found = latest_checkpoint(self.work, self.spec.fingerprint) if self.processes.rank == 0 else None
        epoch = self.processes.agree(int(found.state["epoch"]) if found else 0)
        if epoch == 0:
            return
        checkpoint = found or load_checkpoint(checkpoint_path(self.work, epoch))
        if checkpoint is None:
            raise RuntimeError(f"rank {self.processes.rank} cannot read the checkpoint of epoch {epoch} in {self.work}")
        self.model.load_state_dict(checkpoint.part("model"))
        self.optimiser.restore(checkpoint.part("optimiser"), int(checkpoint.state["steps"]))
        self.history = list(checkpoint.state["history"])

    def _train_epoch(self, epoch: int) -> _Meter:
        torch.manual_seed(mixed_seed(self.spec.seed, epoch, self.processes.rank))  # dropout
        self.model.train()
        meter, point = _Meter(), _Meter()
        batches = self._batches("sequences", SEQUENCE_COLUMNS, self.spec.batch_size, epoch, shuffle=True)
        number = 0
        while (batch := _timed_next(batches, meter, point)) is not None:
            number += 1
            step = self.steps.make(batch, epoch, number)
            self.optimiser.zero_grad()
            loss = self.model(step)
            loss.backward()
            totals = self.optimiser.step(torch.stack((loss.detach(), loss.new_tensor(step.positions_P.numel()))))
            meter.add(totals)
            point.add(totals)
            if time.perf_counter() - point.started > POINT_SECONDS:
                point = self._write_point(epoch, number, point)
        meter.stop()
        if number != self.steps_an_epoch:
            raise RuntimeError(
                f"epoch {epoch} had {number} steps instead of {self.steps_an_epoch}: row groups are uneven"
            )
        return meter

    def _write_point(self, epoch: int, number: int, point: _Meter) -> _Meter:
        if self.curve is not None:
            place = {"epoch": epoch, "epochs": self.spec.epochs, "step": number, "steps": self.steps_an_epoch}
            self.curve.write({"event": "step", "total_steps": self.optimiser.steps, **place, **point.numbers()})
        return _Meter()

    def _end_epoch(self, meter: _Meter) -> None:
        """Measure, remember, write the checkpoint; all processes go on together."""
        entry: dict[str, Any] = {"epoch": len(self.history) + 1, **meter.numbers()}
        if self.spec.validate:
            entry["valid_ndcg_at_10"] = self._valid_ndcg()  # None where there are no valid users
        self.history.append(entry)
        if self.processes.rank == 0:
            tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
            tensors |= {f"optimiser.{name}": tensor for name, tensor in self.optimiser.tensors().items()}
            state = {
                "epoch": entry["epoch"],
                "steps": self.optimiser.steps,
                "fingerprint": self.spec.fingerprint,
                "history": self.history,
            }
            save_checkpoint(self.work, state, tensors)
            prune_checkpoints(self.work, keep={entry["epoch"], self._best_epoch()})
        if self.curve is not None:
            self.curve.write(
                {"event": "epoch", "epochs": self.spec.epochs, "total_steps": self.optimiser.steps, **entry}
            )

    def _valid_ndcg(self) -> float | None:
        self.model.eval()
        batches = self._batches("valid", VALID_COLUMNS, 256 * self.processes.size, epoch=0, shuffle=False)
        return mean_ndcg(self.model.history_scorer(), batches, VALID_K, self.processes, VALID_BLOCK_BYTES)

    def _finished(self) -> bool:
        """Rank 0 decides for all."""
        done = len(self.history)
        waited_out = done - self._best_epoch() >= self.spec.patience
        return bool(self.processes.agree(int(done >= self.spec.epochs or waited_out)))

    def _best_epoch(self) -> int:
        """The epoch of the best valid NDCG@10, the first of equals; the last one where nothing is validated."""
        measured = [entry for entry in self.history if entry.get("valid_ndcg_at_10") is not None]
        if not measured:
            return len(self.history)
        return int(max(measured, key=lambda entry: (entry["valid_ndcg_at_10"], -entry["epoch"]))["epoch"])

    def _batches(
        self, name: str, columns: tuple[str, ...], batch_size: int, epoch: int, shuffle: bool
    ) -> Iterator[Mapping[str, Tensor]]:
        from recsys_spark.datasets.loader import batches

        return iter(
            batches(
                self.dataset / name,
                columns=columns,
                batch_size=batch_size // self.processes.size,
                rank=self.processes.rank,
                world_size=self.processes.size,
                seed=self.spec.seed,
                epoch=epoch,
                shuffle=shuffle,
            )
        )


def _timed_next(batches: Iterator[Mapping[str, Tensor]], *meters: _Meter) -> Mapping[str, Tensor] | None:
    started = time.perf_counter()
    batch = next(batches, None)
    for meter in meters:
        meter.waited += time.perf_counter() - started
    return batch


def _steps_an_epoch(dataset: Path, spec: TrainSpec) -> int:
    """Steps that every process takes: the rows of its row groups in batches of its part of the global batch."""
    rows = sum(pq.read_metadata(path).num_rows for path in dataset.glob("*.parquet"))
    return -(-(rows // spec.num_processes) // (spec.batch_size // spec.num_processes))


def _item_counts(dataset: Path) -> Tensor:
    """Events [I] of each item, by code."""
    column = pq.read_table(dataset / "vocabulary.parquet", columns=["count"], partitioning=None)["count"]
    return torch.tensor(column.to_numpy())
