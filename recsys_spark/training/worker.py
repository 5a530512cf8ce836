"""The training loop that runs in each process. Nothing here knows of Spark."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from torch import Tensor

from recsys_spark.models.composed import ComposedModel
from recsys_spark.models.step import Step
from recsys_spark.training.ahead import Ahead
from recsys_spark.training.averaging import Averages
from recsys_spark.training.checkpoint import checkpoint_path, latest_checkpoint, load_checkpoint
from recsys_spark.training.curve import CURVE, CurveWriter
from recsys_spark.training.deferred_init import deferred_init, materialize_module
from recsys_spark.training.keeper import Keeper
from recsys_spark.training.lanes import LaneReader, lane_count, row_groups
from recsys_spark.training.meter import Meter
from recsys_spark.training.optimiser import Optimiser, Stepping
from recsys_spark.training.outer import LocalSteps
from recsys_spark.training.ownership import owned, write_result
from recsys_spark.training.processes import Processes, joined
from recsys_spark.training.schedule import learning_rate
from recsys_spark.training.spec import TrainSpec
from recsys_spark.training.staging import LocalFiles
from recsys_spark.training.steps import SEQUENCE_COLUMNS, StepMaker, mixed_seed
from recsys_spark.training.validation import VALID_COLUMNS, mean_ndcg
from recsys_spark.training.warm_start import read_parameters, take_over

VALID_K = 10
VALID_BLOCK_BYTES = 64 * 2**20
POINT_SECONDS = 1.0
"""A point of the curve is written about so often."""
STEPS_AHEAD = 2
"""Steps that are made while those before them are computed."""


def train(spec: TrainSpec) -> dict[str, Any]:
    """Train to the end, from the last whole checkpoint where there is one; the result is the same as in one go.

    Returns `best_epoch`, its `loss` and `valid_ndcg_at_10` (None where not validated), `checkpoint` (its path), and of
    the epochs that this call trained `positions_per_second`, `data_wait_share`, `checkpoint_share`, and with several
    processes `bytes_per_step`, what this process gave to exchanges.
    """
    with owned(Path(spec.work), spec.launch), joined(spec.num_processes, spec.use_gpu, spec.threads) as processes:
        result = _Training(spec, processes).run()
        if processes.rank == 0 and spec.launch:
            write_result(Path(spec.work), spec.launch, result)
        return result


@dataclass
class _Sums:
    """What the epochs of this call took together."""

    positions: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0
    saved: float = 0.0
    steps: int = 0

    def add(self, meter: Meter, steps: int) -> None:
        self.positions += meter.positions
        self.seconds += meter.seconds
        self.waited += meter.waited
        self.saved += meter.saved
        self.steps += steps

    def rate(self, name: str) -> float | None:
        return getattr(self, name) / self.seconds if self.seconds else None


class _Training:
    """Model, optimiser and history of one run."""

    def __init__(self, spec: TrainSpec, processes: Processes) -> None:
        self.spec = spec
        self.processes = processes
        self.files = LocalFiles(spec.dataset, spec.dataset_version, spec.cache_dir)
        self.work = Path(spec.work)
        groups = row_groups(self.files.root / "sequences")
        self.reader = LaneReader(
            self.files,
            SEQUENCE_COLUMNS,
            spec.batch_size,
            lane_count(groups, spec.batch_size, spec.num_processes),
            processes.rank,
            processes.size,
            spec.seed,
        )
        self.steps_an_epoch = _steps_an_epoch(self.files.root / "sequences", spec.batch_size)
        counts_I = _item_counts(self.files.root)
        self.model = build_model(spec, counts_I, processes.device)
        rate = partial(learning_rate, spec, steps_an_epoch=self.steps_an_epoch)
        # Of several processes that step alone, none needs to know the others' rows.
        stepping = processes.alone() if spec.sync == "local" else processes
        inner = Optimiser(self.model, spec, stepping, rate)
        local = spec.sync == "local" and processes.size > 1
        self.optimiser: Stepping = LocalSteps(inner, self._marks(), spec, processes) if local else inner
        self.averages = Averages(self.model, spec.average_epochs, self.steps_an_epoch)
        self.steps = StepMaker(spec, counts_I, stepping)
        self.history: list[dict[str, Any]] = []
        self.step, self.sums = 0, (0.0, 0.0)
        self.curve = CurveWriter(self.work / CURVE) if processes.rank == 0 else None
        self.keeper = Keeper(self.work, spec.checkpoint_seconds)
        self.identity = {"fingerprint": spec.fingerprint, "lanes": self.reader.lanes}
        self.began, self.began_at = time.perf_counter(), 0

    def _marks(self) -> list[Tensor]:
        return [buffer for buffer in self.model.buffers() if buffer.dtype == torch.bool]

    def run(self) -> dict[str, Any]:
        self._resume()
        spent = _Sums()
        self.began, self.began_at = time.perf_counter(), self.optimiser.steps
        while not self._finished():
            before, sent = self.optimiser.steps, self.processes.traffic.bytes
            meter = self._train_epoch(len(self.history) + 1)
            self._end_epoch(meter, self.processes.traffic.bytes - sent)
            spent.add(meter, self.optimiser.steps - before)
        best = self._best_epoch()
        result = {
            "best_epoch": best,
            "loss": self.history[best - 1]["loss"],
            "valid_ndcg_at_10": self.history[best - 1].get("valid_ndcg_at_10"),
            "checkpoint": str(checkpoint_path(self.work, best)),
            "positions_per_second": spent.rate("positions"),
            "data_wait_share": spent.rate("waited"),
            "checkpoint_share": spent.rate("saved"),
        }
        if self.processes.size > 1 and spent.steps:
            result["bytes_per_step"] = self.processes.traffic.bytes / spent.steps
        return result

    def _resume(self) -> None:
        """Take up the newest whole checkpoint: rank 0 finds it, all load it."""
        found = latest_checkpoint(self.work, self.identity) if self.processes.rank == 0 else None
        epoch = self.processes.agree(int(found.state["epoch"]) if found else 0)
        step = self.processes.agree(int(found.state["step"]) if found else 0)
        if epoch == step == 0:
            return
        path = checkpoint_path(self.work, epoch, step)
        checkpoint = found or load_checkpoint(path)
        if checkpoint is None:
            raise RuntimeError(f"rank {self.processes.rank} cannot read the checkpoint {path}")
        checkpoint.fill("model", self.model.state_dict())
        checkpoint.fill("optimiser", self.optimiser.tensors())
        checkpoint.fill("averages", self.averages.tensors())
        self.optimiser.steps = int(checkpoint.state["steps"])
        self.history = list(checkpoint.state["history"])
        self.step, self.sums = step, tuple(checkpoint.state["sums"])
        self.processes.total(0.0)  # nobody goes on, and replaces it, before all have it

    def _train_epoch(self, epoch: int) -> Meter:
        self.model.train()
        meter = Meter.at(self.sums, self.processes.device)
        point = _Point(meter)
        number = start = self.step
        steps = Ahead(lambda: self._steps(epoch, start), STEPS_AHEAD)
        try:
            for number, step in enumerate(steps, start + 1):
                torch.manual_seed(mixed_seed(self.spec.seed, epoch, number, self.processes.rank, 2))  # dropout
                self.optimiser.zero_grad()
                with self._precision():
                    loss = self.model(step)
                loss.backward()
                totals = torch.stack((loss.detach().float(), loss.new_tensor(step.positions, dtype=torch.float)))
                meter.add(self.optimiser.step(totals))
                if self.optimiser.in_step:
                    self.averages.take(self.optimiser.steps)
                meter.waited = steps.waited
                if self.processes.rank == 0:
                    self._save_within(number, meter)
                    point = self._tell(epoch, number, point)
        finally:
            steps.close()
        meter.add(self.optimiser.synchronise())
        meter.stop()
        if number != self.steps_an_epoch:
            raise RuntimeError(f"epoch {epoch} had {number} steps instead of {self.steps_an_epoch}: rows are uneven")
        self.step, self.sums = 0, (0.0, 0.0)
        return meter

    def _steps(self, epoch: int, start: int) -> Iterator[Step]:
        """The steps of an epoch after the first `start`, whose rows are read and passed over."""
        for number, lanes in enumerate(self.reader.read(epoch), 1):
            if number > start:
                yield self.steps.make(lanes, epoch, number)

    def _precision(self) -> AbstractContextManager[object]:
        """On a GPU, bf16 is torch's autocast; on the CPU the loss does it itself."""
        if self.spec.precision == "bf16" and self.processes.device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()

    def _tell(self, epoch: int, number: int, point: _Point) -> _Point:
        """Write a point of the curve where it is time; returns where the next one begins."""
        if self.curve is None or time.perf_counter() - point.started < POINT_SECONDS:
            return point
        place = {"epoch": epoch, "epochs": self.spec.epochs, "step": number, "steps": self.steps_an_epoch}
        counted = {"total_steps": self.optimiser.steps, "seconds_left": self._seconds_left()}
        self.curve.write({"event": "step", **counted, **place, **point.numbers()})
        return _Point(point.meter)

    def _seconds_left(self) -> float:
        """Until the last of all epochs, at the pace of this call."""
        done = self.optimiser.steps - self.began_at
        left = self.spec.epochs * self.steps_an_epoch - self.optimiser.steps
        return (time.perf_counter() - self.began) * left / max(1, done)

    def _save_within(self, number: int, meter: Meter) -> None:
        if number < self.steps_an_epoch and self.optimiser.in_step and self.keeper.due():
            meter.saved += self._save(number, tuple(meter.sums.tolist()))

    def _save(self, step: int, sums: tuple[float, ...]) -> float:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"optimiser.{name}": tensor for name, tensor in self.optimiser.tensors().items()}
        tensors |= {f"averages.{name}": tensor for name, tensor in self.averages.tensors().items()}
        place = {"epoch": len(self.history), "step": step, "steps": self.optimiser.steps, "sums": sums}
        return self.keeper.save({**self.identity, **place, "history": self.history}, tensors, self._best_epoch())

    def _end_epoch(self, meter: Meter, sent: int) -> None:
        """Measure, remember, write the checkpoint; all processes go on together."""
        entry: dict[str, Any] = {"epoch": len(self.history) + 1, **meter.numbers()}
        if self.processes.size > 1:
            entry["bytes_communicated"] = sent
        self.model.end_epoch()
        if self.spec.validate:
            with self.averages.in_place():
                entry["valid_ndcg_at_10"] = self._valid_ndcg()  # None where there are no valid users
        self.history.append(entry)
        if self.curve is not None:
            # Before the checkpoint: whoever dies between the two trains the epoch again, and its point stands twice.
            counted = {"total_steps": self.optimiser.steps, "seconds_left": self._seconds_left()}
            self.curve.write({"event": "epoch", "epochs": self.spec.epochs, **counted, **entry})
        if self.processes.rank == 0:
            meter.saved += self._save(0, (0.0, 0.0))

    def _valid_ndcg(self) -> float | None:
        from recsys_spark.datasets.loader import check_dataset, read_files, shard_files

        self.model.eval()
        path = self.files.root / "valid"
        check_dataset(path, self.processes.size)
        files = self.files.local(shard_files(path, self.processes.rank, self.processes.size))
        batches = read_files(files, VALID_COLUMNS, 256, seeds=None)
        dropped = self.spec.target_types if self.spec.valid_repeats == "drop" else ()
        return mean_ndcg(
            self.model.history_scorer(), batches, VALID_K, self.processes, VALID_BLOCK_BYTES, tuple(dropped)
        )

    def _finished(self) -> bool:
        """Rank 0 decides for all."""
        done = len(self.history)
        waited_out = done - self._best_epoch() >= self.spec.patience
        stopped = done > 0 and self.spec.stop_file is not None and Path(self.spec.stop_file).exists()
        return bool(self.processes.agree(int(done >= self.spec.epochs or waited_out or stopped)))

    def _best_epoch(self) -> int:
        """The epoch of the best valid NDCG@10, the first of equals; the last one where nothing is validated."""
        measured = [entry for entry in self.history if entry.get("valid_ndcg_at_10") is not None]
        if not measured:
            return len(self.history)
        return int(max(measured, key=lambda entry: (entry["valid_ndcg_at_10"], -entry["epoch"]))["epoch"])


class _Point:
    """The stretch of an epoch since the last point of the curve."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.started = time.perf_counter()
        self._sums = meter.sums.clone()
        self._waited = meter.waited

    def numbers(self) -> dict[str, float]:
        seconds = max(time.perf_counter() - self.started, 1e-9)
        loss, positions = (self.meter.sums - self._sums).tolist()
        return {
            "loss": loss / max(1.0, positions),
            "positions_per_second": positions / seconds,
            "data_wait_share": (self.meter.waited - self._waited) / seconds,
        }


def build_model(spec: TrainSpec, counts_I: Tensor, device: torch.device) -> ComposedModel:
    """The model as training begins: drawn once, into the memory where it stays; a start is put over what was drawn."""
    model = deferred_init(ComposedModel, spec.composition, spec.precision)
    materialize_module(model, torch.Generator().manual_seed(spec.seed))
    model.item_bias.start_from_counts(counts_I)
    content = None
    if spec.content is not None:
        from recsys_spark.models.content import Content

        content = Content.load(Path(spec.content))
        model.start_from_content(content)
        if spec.id_start == "histories":
            model.start_ids_from_histories(content)
    if spec.start is not None:
        take_over(model, read_parameters(Path(spec.start), spec.start_version))
    if content is not None:
        model.attach(content)
    return model.to(device)


def _steps_an_epoch(dataset: Path, batch_size: int) -> int:
    """Steps of an epoch: a lane's rows in batches of its part of the global batch, which are as many for any lanes."""
    rows = sum(pq.read_metadata(path).num_rows for path in dataset.glob("*.parquet"))
    return -(-rows // batch_size)


def _item_counts(dataset: Path) -> Tensor:
    """Events [I] of each item, by code."""
    column = pq.read_table(dataset / "vocabulary.parquet", columns=["count"], partitioning=None)["count"]
    return torch.tensor(column.to_numpy())
