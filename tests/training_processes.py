"""Training processes started as torchrun starts them: a program each, told its rank by the environment."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recsys_spark.training.spec import TrainSpec

PROGRAM = """
import json, sys
from recsys_spark.models.composition import Composition
from recsys_spark.training.spec import TrainSpec
from recsys_spark.training.worker import train
fields = json.load(open(sys.argv[1]))
result = train(TrainSpec(**{**fields, "composition": Composition.from_dict(fields["composition"])}))
print(json.dumps(result))
"""


def start(spec: TrainSpec) -> list[subprocess.Popen[str]]:
    """Start `spec.num_processes` processes that train together."""
    work = Path(spec.work)
    work.mkdir(parents=True, exist_ok=True)
    told = work / "spec.json"
    told.write_text(json.dumps(asdict(spec)), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common["PYTHONPATH"] = str(Path(__file__).parent.parent)
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(told)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(spec.num_processes)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(spec.num_processes)
    ]  # fmt: skip


def finish(processes: list[subprocess.Popen[str]]) -> dict[str, Any]:
    """Wait for all of them; rank 0's result."""
    outputs = [process.communicate(timeout=300) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    result: dict[str, Any] = json.loads(outputs[0][0].splitlines()[-1])
    return result


def kill(processes: list[subprocess.Popen[str]], first: int = 0) -> None:
    """SIGKILL one process; the others fail with it, or are killed too."""
    processes[first].kill()
    until = time.monotonic() + 20
    for process in processes:
        try:
            process.communicate(timeout=max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def curve(spec: TrainSpec) -> list[dict[str, Any]]:
    """The points of the learning curve."""
    return [json.loads(line) for line in (Path(spec.work) / "curve.jsonl").read_text(encoding="utf-8").splitlines()]


def epoch_losses(spec: TrainSpec) -> list[float]:
    """The loss of each epoch."""
    return [point["loss"] for point in curve(spec) if point["event"] == "epoch"]
