"""Real processes, killed by SIGKILL wherever they happen to be: what is run again ends as if undisturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from recsys_spark.training.checkpoint import load_checkpoint
from recsys_spark.training.worker import train
from tests.training_processes import finish, kill, start

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}


def outcome(result):
    """What must be equal to the last bit."""
    tensors = load_checkpoint(Path(result["checkpoint"])).tensors
    parameters = {name: tensor.tolist() for name, tensor in tensors.items()}
    return result["best_epoch"], result["loss"], result["valid_ndcg_at_10"], parameters


def wait_for(condition, seconds=120.0):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return found


def begun(spec, process):
    """Is there a checkpoint within an epoch, or has the process ended."""
    return lambda: any(Path(spec.work).glob("epoch-*+*")) or process.poll() is not None


def test_killed_in_mid_epoch_it_ends_as_if_undisturbed(make_spec, tmp_path):
    changes = {"batch_size": 4, "epochs": 3, "checkpoint_seconds": 0.0}
    spec = make_spec(work=str(tmp_path / "killed"), **changes)
    processes = start(spec)
    wait_for(begun(spec, processes[0]))
    kill(processes)
    resumed = train(spec)
    assert outcome(resumed) == outcome(train(make_spec(work=str(tmp_path / "whole"), **changes)))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"sync": "local", "local_steps": 3, "warmup_steps": 2}], ids=["sum", "local"])
def test_one_of_two_processes_killed_again_and_again(make_spec, tmp_path, changes):
    changes = {"batch_size": 4, "epochs": 30, "patience": 99, "checkpoint_seconds": 0.0, "num_processes": 2, **changes}
    spec = make_spec(work=str(tmp_path / "killed"), **changes)
    for victim in (0, 1, 0):
        processes = start(spec)
        wait_for(begun(spec, processes[0]))
        time.sleep(random.uniform(0, 1))
        kill(processes, victim)
    undisturbed = finish(start(make_spec(work=str(tmp_path / "whole"), **changes)))
    assert outcome(finish(start(spec))) == outcome(undisturbed)


def driver(spec):
    """The launch in a process of its own."""
    told = Path(spec.work).with_suffix(".json")
    told.write_text(json.dumps(asdict(spec)), encoding="utf-8")
    command = [sys.executable, "-m", "tests.chaos.driver", str(told)]
    with Path(spec.work).with_suffix(".log").open("ab") as log:
        environment = {**os.environ, **ENVIRONMENT}
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)


def ended(process):
    """Progress lines and result of a driver that came to its end."""
    lines = process.communicate(timeout=300)[0].splitlines()
    assert process.returncode == 0, lines
    return lines[:-1], json.loads(lines[-1])


def descendants(pid):
    """All processes below one, as Linux tells: a process's children by the thread that started them."""
    children = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            children += [int(child) for child in listed.read_text().split()]
    return [each for child in children for each in (child, *descendants(child))]


def workers(process):
    """The training processes of a driver: they run what TorchDistributor wrote, and start nothing themselves."""
    found = []
    for pid in descendants(process.pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except OSError:
            continue
        if any(part.endswith("train.py") for part in command) and not any("torch" in part for part in command[:4]):
            found.append(pid)
    return found


LONG = {"batch_size": 2, "epochs": 40, "checkpoint_seconds": 0.0, "num_processes": 2, "patience": 99}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["worker", "driver"])
def test_a_killed_worker_is_started_again_by_the_launch_and_a_killed_driver_by_hand(make_spec, tmp_path, victim):
    _, undisturbed = ended(driver(make_spec(work=str(tmp_path / "whole"), **LONG)))
    spec = make_spec(work=str(tmp_path / "killed"), **LONG)
    process = driver(spec)
    wait_for(begun(spec, process))
    if victim == "worker":
        os.kill(random.choice(wait_for(lambda: workers(process))), signal.SIGKILL)
        lines, result = ended(process)
        assert any(line.startswith("training failed at attempt 1 of 3") for line in lines)
    else:
        time.sleep(random.uniform(0, 1))
        assert process.poll() is None, "it ended before it was killed"
        process.kill()
        process.communicate()
        _, result = ended(driver(spec))
    assert outcome(result) == outcome(undisturbed)
