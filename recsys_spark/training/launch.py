"""The driver's side: starts the training processes, follows their curve, starts them again where they fail."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

import recsys_spark
from recsys_spark.errors import UserError
from recsys_spark.session import is_local_master, package_archive
from recsys_spark.training.curve import CURVE, CurveFollower
from recsys_spark.training.spec import TrainSpec
from recsys_spark.training.worker import train

PROGRESS_SECONDS = 5.0
"""Within an epoch a progress line comes at most so often."""
SLOTS_SECONDS = 30.0
"""Executors of a cluster may take so long to register."""


def launch(
    spark: SparkSession,
    spec: TrainSpec,
    retries: int,
    progress: Callable[[str], None],
    metric: Callable[[str, float, int], None],
) -> dict[str, Any]:
    """Run `training.worker.train` in `spec.num_processes` processes by TorchDistributor; returns rank 0's result.

    A failed launch is repeated up to `retries` times, each from the last whole checkpoint. Meanwhile the curve goes to
    `metric(name, value, step)` and to progress lines. Raises UserError where the cluster cannot take the processes,
    RuntimeError where the last launch failed too.
    """
    preflight(spark, spec)
    local = is_local(spark)
    function, argument = (train, spec) if local else (on_executor(_bring_package(spec)), asdict(spec))
    curve = Path(spec.work) / CURVE
    for attempt in range(retries + 1):
        distributor = TorchDistributor(
            num_processes=spec.num_processes, local_mode=local, use_gpu=spec.use_gpu and not local
        )
        try:
            with CurveFollower(curve, _Reporter(progress, metric)), _process_environment(), redirect_stdout(sys.stderr):
                result = distributor.run(function, argument)
            if isinstance(result, dict):
                return result
            failure: Exception = RuntimeError("the training processes ended without a result")
        except Exception as error:
            failure = error
        progress(f"training failed at attempt {attempt + 1} of {retries + 1}: {' '.join(str(failure).split())[:500]}")
    raise RuntimeError(f"training failed {retries + 1} times; checkpoints are in {spec.work}") from failure


def preflight(spark: SparkSession, spec: TrainSpec) -> None:
    """Refuse, in one line, what would hang or fail: too few slots, dynamic allocation, encryption, uneven batches."""
    processes, conf = spec.num_processes, spark.sparkContext.getConf()
    if spec.batch_size % processes:
        raise UserError(f"batch_size {spec.batch_size} must be a multiple of training.num_processes {processes}")
    slots = _slots(spark, processes)
    if processes > slots:
        cpus = conf.get("spark.task.cpus", "1")
        each = "" if cpus == "1" else f" of {cpus} cores each"
        raise UserError(
            f"training.num_processes is {processes} but {spark.sparkContext.master} has {slots} task slots{each}; "
            "lower it"
        )
    if is_local(spark):
        return
    for key, why in (
        ("spark.dynamicAllocation.enabled", "barrier tasks need all executors from the start"),
        ("spark.ssl.enabled", "the processes talk to each other without TLS"),
    ):
        if conf.get(key, "false") == "true":
            raise UserError(f"{key} is on, and {why}; turn it off for train_models")


def find_gpu(spark: SparkSession, processes: int) -> bool:
    """Are there GPUs for all processes: on this host for a local master, else as resources of Spark's tasks.

    Raises UserError where executors have GPUs that the processes, a task each, would not get.
    """
    if is_local(spark):
        return torch.cuda.is_available() and torch.cuda.device_count() >= processes
    conf = spark.sparkContext.getConf()
    if float(conf.get("spark.executor.resource.gpu.amount", "0") or 0) <= 0:
        return False
    amount = float(conf.get("spark.task.resource.gpu.amount", "0") or 0)
    if amount != 1:
        raise UserError(
            f"executors have GPUs, but spark.task.resource.gpu.amount is {amount:g}; set it to 1 to train on them, "
            "or spark.executor.resource.gpu.amount to 0 to train without"
        )
    return True


def is_local(spark: SparkSession) -> bool:
    """Does Spark run within this process."""
    return is_local_master(spark.sparkContext.master)


def on_executor(archive: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """`train` for a process that an executor starts; it takes a TrainSpec's fields.

    Spark puts what `--py-files` named on the path of its Python workers, but not of the processes that torchrun starts
    from them. So the function travels by value, as nested functions do, and finds the package at `archive` itself.
    """

    def start(fields: Mapping[str, Any]) -> dict[str, Any]:
        import os
        import sys

        if not os.path.exists(archive):
            raise RuntimeError(f"{archive} is not on this host; put the workspace on storage that every worker mounts")
        sys.path.insert(0, archive)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [archive, os.environ.get("PYTHONPATH")]))
        from recsys_spark.models.composition import Composition
        from recsys_spark.training.spec import TrainSpec
        from recsys_spark.training.worker import train

        return train(TrainSpec(**{**fields, "composition": Composition(**fields["composition"])}))

    return start


def _bring_package(spec: TrainSpec) -> str:
    """Put the package beside the checkpoints, which all processes share; returns the archive's path."""
    work = Path(spec.work).absolute()
    work.mkdir(parents=True, exist_ok=True)
    return str(shutil.copyfile(package_archive(), work / "package.zip"))


def _slots(spark: SparkSession, wanted: int) -> int:
    """Tasks that can run at once; waits a while for `wanted` where executors may still register."""
    context, until = spark.sparkContext, time.monotonic() + (0 if is_local(spark) else SLOTS_SECONDS)
    scheduler = context._jsc.sc()
    profile = scheduler.resourceProfileManager().defaultResourceProfile()
    while True:
        # Counts spark.task.cpus and GPUs too; barrier stages are held against the same number.
        slots = int(scheduler.maxNumConcurrentTasks(profile))
        if slots >= wanted or time.monotonic() > until:
            return slots
        time.sleep(0.5)


class _Reporter:
    """Turns points of the curve into metrics and progress lines."""

    def __init__(self, progress: Callable[[str], None], metric: Callable[[str, float, int], None]) -> None:
        self._progress = progress
        self._metric = metric
        self._last = time.monotonic()

    def __call__(self, point: Mapping[str, Any]) -> None:
        step, rate = int(point["total_steps"]), f"{point['positions_per_second']:,.0f} positions/s"
        if point["event"] == "step":
            for name in ("loss", "positions_per_second", "data_wait_share"):
                self._metric(name, float(point[name]), step)
            if time.monotonic() - self._last > PROGRESS_SECONDS:
                self._last = time.monotonic()
                place = f"epoch {point['epoch']}/{point['epochs']} step {point['step']}/{point['steps']}"
                self._progress(f"{place}: loss {point['loss']:.4f}, {rate}, {point['data_wait_share']:.1%} waiting")
            return
        ndcg = point.get("valid_ndcg_at_10")
        if ndcg is not None:
            self._metric("valid_ndcg_at_10", float(ndcg), step)
        found = "" if ndcg is None else f", valid NDCG@10 {ndcg:.4f}"
        self._progress(f"epoch {point['epoch']}/{point['epochs']} done: loss {point['loss']:.4f}{found}, {rate}")


@contextmanager
def _process_environment() -> Iterator[None]:
    """What the processes of a local master find in their environment.

    The package is imported from where this process has it, and OpenMP threads sleep at barriers: spinning, they take
    the core from the thread they wait for as soon as anything else runs (a GRU trained some ten times slower so).
    """
    home = str(Path(recsys_spark.__file__).parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    wanted = {"PYTHONPATH": os.pathsep.join(paths), "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
