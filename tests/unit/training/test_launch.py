from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import threading
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyspark import SparkConf, cloudpickle

from recsys_spark.errors import UserError
from recsys_spark.session import package_archive
from recsys_spark.training import launch as module
from recsys_spark.training.curve import CurveFollower, CurveWriter
from recsys_spark.training.launch import find_gpu, launch, on_executor
from recsys_spark.training.worker import train


def silent(*_):
    return None


def test_two_processes_train_what_one_does_for_the_same_global_batch(spark, make_spec, tmp_path):
    lines, points = [], []
    two = make_spec(epochs=3, dropout=0.0, num_processes=2, work=str(tmp_path / "two"))
    result = launch(spark, two, 0, lines.append, lambda *point: points.append(point))
    one = make_spec(epochs=3, dropout=0.0, work=str(tmp_path / "one"))
    alone = train(one)
    losses = {}
    for spec in (one, two):
        curve = [json.loads(line) for line in (Path(spec.work) / "curve.jsonl").read_text().splitlines()]
        losses[spec.num_processes] = [point["loss"] for point in curve if point["event"] == "epoch"]
    assert len(losses[2]) == 3
    assert losses[2] == pytest.approx(losses[1], rel=0.1)
    assert result["valid_ndcg_at_10"] == pytest.approx(alone["valid_ndcg_at_10"], abs=0.1)
    assert [line.split(":")[0] for line in lines] == [f"epoch {epoch}/3 done" for epoch in (1, 2, 3)]
    assert [step for name, _, step in points if name == "valid_ndcg_at_10"] == [10, 20, 30]


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


def test_more_processes_than_slots_are_refused_in_one_line(spark, make_spec):
    with pytest.raises(UserError, match=r"num_processes is 5 but local\[2\] has 2 task slots"):
        launch(spark, make_spec(num_processes=5), 0, silent, silent)


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


def test_a_cluster_is_given_time_to_register_and_then_refused_with_its_slots(make_spec, monkeypatch):
    monkeypatch.setattr(module, "SLOTS_SECONDS", 0.1)
    message = r"num_processes is 5 but spark://host:7077 has 2 task slots of 4 cores each"
    with pytest.raises(UserError, match=message):
        module.preflight(cluster(task_cpus="4"), make_spec(num_processes=5, batch_size=10))


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
