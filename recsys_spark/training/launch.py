"""The driver's side: starts the training processes, follows their curve, starts them again where they fail."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pyspark import InheritableThread
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

import recsys_spark
from recsys_spark.errors import UserError
from recsys_spark.session import package_archive
from recsys_spark.training.curve import CURVE, CurveFollower
from recsys_spark.training.ownership import is_owner, read_result, take_over
from recsys_spark.training.preflight import is_local, preflight
from recsys_spark.training.report import Reporter
from recsys_spark.training.spec import TrainSpec
from recsys_spark.training.worker import train

EXIT_SECONDS = 20.0
"""Once rank 0 left its result, the processes have so long to end by themselves."""
LOOK_SECONDS = 0.5


def launch(
    spark: SparkSession,
    spec: TrainSpec,
    retries: int,
    progress: Callable[[str], None],
    metric: Callable[[str, float, int], None],
) -> dict[str, Any]:
    """Run `training.worker.train` in `spec.num_processes` processes by TorchDistributor; returns rank 0's result.

    A failed launch is repeated up to `retries` times, each from the last whole checkpoint. Meanwhile the curve goes to
    `metric(name, value, step)` and to progress lines. Raises UserError where the cluster cannot take the processes or
    another run trains the same, RuntimeError where the last launch failed too.
    """
    preflight(spark, spec)
    work = Path(spec.work)
    for attempt in range(retries + 1):
        named = replace(spec, launch=uuid.uuid4().hex)
        take_over(work, named.launch)
        try:
            with CurveFollower(work / CURVE, Reporter(progress, metric)):
                return _Launch(spark, named).result()
        except UserError:
            raise
        except Exception as error:
            failure = error
        if not is_owner(work, named.launch):
            raise UserError(f"another run trains the same in {work}; wait for it, or end it") from failure
        progress(f"training failed at attempt {attempt + 1} of {retries + 1}: {' '.join(str(failure).split())[:500]}")
    raise RuntimeError(f"training failed {retries + 1} times; checkpoints are in {work}") from failure


class _Launch:
    """One run of TorchDistributor, in a thread, so that it can be left once the result is there.

    torchrun's agents wait up to 300 s for one another when their processes have ended, and now and then one of them
    dies there ("terminate called without an active exception"). So the result is not what TorchDistributor returns,
    which comes after that, but the file that rank 0 leaves when all processes are done.
    """

    def __init__(self, spark: SparkSession, spec: TrainSpec) -> None:
        self._spark = spark
        self._spec = spec
        self._local = is_local(spark)
        self._failure: Exception | None = None
        self._thread = InheritableThread(target=self._run, name="training", daemon=True)

    def result(self) -> dict[str, Any]:
        """Start, wait, and see that it ends. Raises RuntimeError where it ended without a result."""
        with _process_environment(), redirect_stdout(sys.stderr):
            self._thread.start()
            try:
                return self._awaited()
            finally:
                if self._thread.is_alive():
                    self._end()

    def _run(self) -> None:
        spec = self._spec
        function, argument = (train, spec) if self._local else (on_executor(_bring_package(spec)), asdict(spec))
        try:
            if not self._local:
                context = self._spark.sparkContext
                stage = context.getLocalProperty("spark.job.description")  # this thread's own, taken from its starter
                context.setJobGroup(spec.launch, f"{stage or 'fit'}: training", interruptOnCancel=True)
            TorchDistributor(
                num_processes=spec.num_processes, local_mode=self._local, use_gpu=spec.use_gpu and not self._local
            ).run(function, argument)
        except Exception as error:
            self._failure = error

    def _awaited(self) -> dict[str, Any]:
        until: float | None = None
        while self._thread.is_alive() and (until is None or time.monotonic() < until):
            self._thread.join(LOOK_SECONDS)
            if until is None and self._left() is not None:
                until = time.monotonic() + EXIT_SECONDS
        left = self._left()
        if left is None:
            raise self._failure or RuntimeError("the training processes ended without a result")
        return {name: value for name, value in left.items() if name != "agent"}

    def _left(self) -> dict[str, Any] | None:
        return read_result(Path(self._spec.work), self._spec.launch)

    def _end(self) -> None:
        """End what is still there: Spark's tasks, or on a local master torchrun, whose wrapper ends with it."""
        if not self._local:
            self._spark.sparkContext.cancelJobGroup(self._spec.launch)
        elif left := self._left():
            with suppress(ProcessLookupError):
                os.kill(int(left["agent"]), signal.SIGKILL)
        else:
            take_over(Path(self._spec.work), "")  # the driver was interrupted: they end by themselves
        self._thread.join(EXIT_SECONDS)


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

        return train(TrainSpec(**{**fields, "composition": Composition.from_dict(fields["composition"])}))

    return start


def _bring_package(spec: TrainSpec) -> str:
    """Put the package beside the checkpoints, which all processes share; returns the archive's path."""
    work = Path(spec.work).absolute()
    work.mkdir(parents=True, exist_ok=True)
    return str(shutil.copyfile(package_archive(), work / "package.zip"))


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
