from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyspark import SparkConf, cloudpickle

from recsys_spark.errors import UserError
from recsys_spark.session import package_archive
from recsys_spark.training import launch as module
from recsys_spark.training import preflight as checks
from recsys_spark.training.curve import CurveFollower, CurveWriter
from recsys_spark.training.launch import launch, on_executor
from recsys_spark.training.ownership import SUPERSEDED, take_over
from recsys_spark.training.preflight import find_gpu


def silent(*_):
    return None


@pytest.fixture
def five(tmp_path):
    """A dataset of five row groups, as far as the checks before a launch look at it."""
    (tmp_path / "five" / "sequences").mkdir(parents=True)
    for number in range(5):
        (tmp_path / "five" / "sequences" / f"part-{number}.parquet").touch()
    return str(tmp_path / "five")


def test_two_processes_are_launched_and_their_curve_is_told(spark, make_spec, tmp_path):
    lines, points = [], []
    two = make_spec(epochs=3, num_processes=2, work=str(tmp_path / "two"))
    result = launch(spark, two, 0, lines.append, lambda *point: points.append(point))
    assert result["best_epoch"] >= 1
    assert result["bytes_per_step"] > 0
    assert "agent" not in result
    done = [line for line in lines if "done" in line]  # a slow machine also tells of steps
    assert [line.split(":")[0] for line in done] == [f"epoch {epoch}/3 done" for epoch in (1, 2, 3)]
    assert "s left" in done[0]
    assert "left" not in done[2]
    assert [step for name, _, step in points if name == "valid_ndcg_at_10"] == [10, 20, 30]
    assert [value > 0 for name, value, _ in points if name == "bytes_communicated"] == [True] * 3


class Flaky:
    """Fails twice, then trains in this process."""

    launches = 0

    def __init__(self, **_):
        pass

    def run(self, function, spec):
        Flaky.launches += 1
        if Flaky.launches < 3:
            raise RuntimeError("a worker was\nkilled")
        return function(spec)


def test_a_failed_launch_is_repeated_and_told_in_one_line(spark, make_spec, monkeypatch):
    monkeypatch.setattr(module, "TorchDistributor", Flaky)
    Flaky.launches, lines = 0, []
    result = launch(spark, make_spec(epochs=1), 2, lines.append, silent)
    assert result["best_epoch"] == 1
    assert lines[0] == "training failed at attempt 1 of 3: a worker was killed"


def test_after_the_last_retry_it_fails(spark, make_spec, monkeypatch):
    monkeypatch.setattr(module, "TorchDistributor", Flaky)
    Flaky.launches = 0
    with pytest.raises(RuntimeError, match="training failed 2 times"):
        launch(spark, make_spec(epochs=1), 1, silent, silent)
    assert Flaky.launches == 2


class Stuck:
    """Trains in a process of its own, whose torchrun then stands still."""

    def __init__(self, **_):
        pass

    def run(self, function, spec):
        told = Path(spec.work) / "told"
        told.write_bytes(cloudpickle.dumps((function, spec)))
        code = f"""
import subprocess, sys, time
worker = "from pyspark import cloudpickle; f, s = cloudpickle.load(open({str(told)!r}, 'rb')); f(s)"
subprocess.run([sys.executable, "-c", worker], check=True)
time.sleep(300)
"""
        subprocess.run([sys.executable, "-c", code], check=True)


class Torn(Flaky):
    """Trains, and then dies of something else."""

    def run(self, function, spec):
        function(spec)
        raise RuntimeError("terminate called without an active exception")


def test_torchrun_that_stands_still_after_the_result_is_ended(spark, make_spec, monkeypatch):
    monkeypatch.setattr(module, "TorchDistributor", Stuck)
    monkeypatch.setattr(module, "EXIT_SECONDS", 1.0)
    started = time.monotonic()
    assert launch(spark, make_spec(epochs=1), 0, silent, silent)["best_epoch"] == 1
    assert time.monotonic() - started < 60


def test_a_failure_after_the_result_is_none(spark, make_spec, monkeypatch):
    monkeypatch.setattr(module, "TorchDistributor", Torn)
    assert launch(spark, make_spec(epochs=1), 0, silent, silent)["best_epoch"] == 1


def test_another_run_of_the_same_training_is_told_of_in_one_line(spark, make_spec, monkeypatch):
    class Overtaken(Flaky):
        def run(self, function, spec):
            take_over(Path(spec.work), "another")
            raise RuntimeError("exit code 75")

    monkeypatch.setattr(module, "TorchDistributor", Overtaken)
    with pytest.raises(UserError, match="another run trains the same in"):
        launch(spark, make_spec(epochs=1), 2, silent, silent)


def test_a_process_whose_launch_is_over_ends_by_itself(tmp_path):
    take_over(tmp_path, "mine")
    code = f"""
import time
from pathlib import Path
from recsys_spark.training.ownership import owned
with owned(Path({str(tmp_path)!r}), "mine"):
    print("watching", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "watching\n"
    take_over(tmp_path, "next")
    assert process.wait(20) == SUPERSEDED


def test_more_processes_than_slots_are_refused_in_one_line(spark, make_spec, five):
    with pytest.raises(UserError, match=r"num_processes is 5 but local\[2\] has 2 task slots"):
        launch(spark, make_spec(num_processes=5, dataset=five), 0, silent, silent)


class Scheduler:
    """A cluster with two slots for tasks."""

    def sc(self):
        return self

    def resourceProfileManager(self):  # noqa: N802 - Spark's name
        return self

    def defaultResourceProfile(self):  # noqa: N802 - Spark's name
        return None

    def maxNumConcurrentTasks(self, profile):  # noqa: N802 - Spark's name
        return 2


def cluster(**settings):
    """A session on a cluster, as far as the checks before a launch look at it."""
    conf = SparkConf(loadDefaults=False)
    for name, value in settings.items():
        conf.set(f"spark.{name.replace('_', '.')}", value)
    context = SimpleNamespace(master="spark://host:7077", getConf=lambda: conf, _jsc=Scheduler())
    return SimpleNamespace(sparkContext=context)


def test_a_cluster_is_given_time_to_register_and_then_refused_with_its_slots(make_spec, five, monkeypatch):
    monkeypatch.setattr(checks, "SLOTS_SECONDS", 0.1)
    message = r"num_processes is 5 but spark://host:7077 has 2 task slots of 4 cores each"
    with pytest.raises(UserError, match=message):
        checks.preflight(cluster(task_cpus="4"), make_spec(num_processes=5, batch_size=10, dataset=five))


def test_gpus_of_executors_are_used_where_each_task_gets_one():
    assert not find_gpu(cluster(), 2)
    assert find_gpu(cluster(executor_resource_gpu_amount="2", task_resource_gpu_amount="1"), 2)


@pytest.mark.parametrize("settings", [{}, {"task_resource_gpu_amount": "0.5"}])
def test_gpus_that_tasks_do_not_ask_for_are_told_in_one_line(settings):
    with pytest.raises(
        UserError, match=r"executors have GPUs, but spark\.task\.resource\.gpu\.amount is .*; set it to 1"
    ):
        find_gpu(cluster(executor_resource_gpu_amount="1", **settings), 2)


def test_a_process_without_the_package_trains_from_the_archive_alone(make_spec, tmp_path):
    spec = make_spec(epochs=1)
    (tmp_path / "job").write_bytes(cloudpickle.dumps((on_executor(str(package_archive())), asdict(spec))))
    code = f"""
import json, sys
sys.path.append({sysconfig.get_paths()["purelib"]!r})
assert not any("recsys_spark" in name for name in sys.modules)
from pyspark import cloudpickle
function, fields = cloudpickle.load(open("job", "rb"))
print(json.dumps(function(fields)))
print(sys.modules["recsys_spark"].__file__)
"""
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    result, place = ended.stdout.splitlines()[-2:]
    assert json.loads(result)["best_epoch"] == 1
    assert place.startswith(str(package_archive()))


def test_an_archive_that_is_not_on_the_host_is_named():
    with pytest.raises(RuntimeError, match=r"/nowhere/package\.zip is not on this host"):
        on_executor("/nowhere/package.zip")({})


def test_a_batch_that_processes_cannot_share_is_refused(spark, make_spec):
    with pytest.raises(UserError, match="batch_size 9 must be a multiple"):
        launch(spark, make_spec(num_processes=2, batch_size=9), 0, silent, silent)


def test_row_groups_that_processes_cannot_share_are_refused(spark, make_spec):
    with pytest.raises(UserError, match=r"row_groups 4 and batch_size 9 must both be multiples of .*num_processes 3"):
        launch(spark, make_spec(num_processes=3, batch_size=9), 0, silent, silent)


def test_gpus_that_are_required_and_absent_are_told_in_one_line(spark, monkeypatch):
    monkeypatch.setattr(checks.torch.cuda, "is_available", lambda: False)
    assert not find_gpu(spark, 1)
    assert not find_gpu(cluster(executor_resource_gpu_amount="2", task_resource_gpu_amount="1"), 2, "off")
    with pytest.raises(UserError, match=r"training\.gpu is required, but there are no 1 GPUs for torch on this host"):
        find_gpu(spark, 1, "required")
    with pytest.raises(UserError, match=r"no 2 GPUs for torch in spark\.executor\.resource\.gpu\.amount"):
        find_gpu(cluster(), 2, "required")


def test_the_curve_is_followed_point_by_point_while_it_is_written(tmp_path):
    path, seen, first = tmp_path / "curve.jsonl", [], threading.Event()
    writer = CurveWriter(path)
    writer.write({"old": 1})

    def on_point(point):
        seen.append(point)
        first.set()

    with CurveFollower(path, on_point, every_seconds=0.01):
        writer.write({"n": 1})
        assert first.wait(5)
        with path.open("a") as file:
            file.write('{"n": ')
            file.flush()
            file.write("2}\n")
    assert seen == [{"n": 1}, {"n": 2}]
