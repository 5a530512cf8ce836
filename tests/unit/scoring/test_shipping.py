"""How a fused model gets into tasks off a local master; Spark's part is played by a folder."""

from __future__ import annotations

import json
import os
import zipfile
from types import SimpleNamespace

import pytest

from recsys_spark.recommenders.bundle import file_sha256
from recsys_spark.scoring import shipping


class Context:
    """Keeps what is added, as a SparkContext does."""

    def __init__(self, master="spark://somewhere:7077", cpus="2"):
        self.master, self.added, self._cpus = master, [], cpus

    @property
    def listFiles(self):  # noqa: N802 - Spark's name
        return [f"spark://driver/files/{path.rsplit('/', 1)[1]}" for path in self.added]

    def addFile(self, path):  # noqa: N802 - Spark's name
        self.added.append(path)

    def getConf(self):  # noqa: N802 - Spark's name
        return {"spark.task.cpus": self._cpus}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "components").mkdir(parents=True)
    (folder / "components" / "tensors").write_bytes(b"weights")
    (folder / "manifest.json").write_text(json.dumps({"files": {}}))
    return folder


@pytest.fixture
def host(tmp_path, monkeypatch):
    """An executor's host: where Spark puts files, and where this user's temporary files go."""
    files, temporary = tmp_path / "files", tmp_path / "tmp"
    files.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(shipping, "SparkFiles", SimpleNamespace(get=lambda name: str(files / name)))
    monkeypatch.setattr(shipping.tempfile, "gettempdir", lambda: str(temporary))
    return SimpleNamespace(files=files, cache=temporary / f"recsys_spark-{os.getuid()}")


def zipped(path, manifest):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", manifest)


def test_on_a_local_master_the_model_is_read_in_place(model):
    context = Context("local[2]")
    shipped = shipping.ship(SimpleNamespace(sparkContext=context), model)
    assert (shipped.directory, shipped.threads, context.added) == (str(model), 2, [])


def test_the_same_content_is_shipped_once_and_stays_where_executors_fetch_it(model):
    context = Context()
    spark = SimpleNamespace(sparkContext=context)
    first, second = shipping.ship(spark, model), shipping.ship(spark, model)
    assert first == second
    assert first.name == file_sha256(model / "manifest.json")
    assert len(context.added) == 1
    with zipfile.ZipFile(context.added[0]) as archive:
        assert archive.read("components/tensors") == b"weights"


def test_another_context_gets_the_model_again(model):
    one, other = Context(), Context()
    for context in (one, other):
        shipping.ship(SimpleNamespace(sparkContext=context), model)
    assert one.added == other.added
    assert len(other.added) == 1


def test_spark_itself_takes_the_same_model_twice(spark, model, monkeypatch):
    monkeypatch.setattr(shipping, "is_local_master", lambda master: False)
    name = {shipping.ship(spark, model).name for _ in range(2)}.pop()
    assert [path for path in spark.sparkContext.listFiles if name in path] != []
    assert spark.sparkContext.parallelize([name], 1).map(size_on_executor).collect() == [True]


def size_on_executor(name):
    return os.path.getsize(shipping.SparkFiles.get(f"{name}.zip")) > 0


def test_an_archive_unpacks_into_a_folder_of_this_user_alone(model, host):
    context = Context()
    name = shipping.ship(SimpleNamespace(sparkContext=context), model).name
    os.rename(context.added[0], host.files / f"{name}.zip")
    target = shipping._unpacked(name)
    assert (target / "components" / "tensors").read_bytes() == b"weights"
    assert target.parent == host.cache
    assert host.cache.stat().st_mode & 0o777 == 0o700
    (host.files / f"{name}.zip").unlink()
    assert shipping._unpacked(name) == target


def test_a_planted_archive_is_refused(host):
    zipped(host.files / "0123.zip", "{}")
    with pytest.raises(RuntimeError, match="holds another model than its name says"):
        shipping._unpacked("0123")
    assert list(host.cache.iterdir()) == []


def test_a_planted_model_is_replaced_by_the_one_that_was_shipped(model, host):
    name = file_sha256(model / "manifest.json")
    zipped(host.files / f"{name}.zip", (model / "manifest.json").read_bytes())
    (host.cache / name).mkdir(parents=True)
    (host.cache / name / "manifest.json").write_text("{}")
    assert file_sha256(shipping._unpacked(name) / "manifest.json") == name


def test_a_cache_that_is_a_link_is_refused(host, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    host.cache.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RuntimeError, match="is not a folder of this user"):
        shipping._unpacked("0123")


def test_only_the_models_used_last_are_kept(host):
    names = []
    for number in range(6):
        manifest = json.dumps({"number": number})
        zipped(host.files / "new.zip", manifest)
        with zipfile.ZipFile(host.files / "new.zip") as archive:
            archive.extract("manifest.json", host.files)
        names.append(file_sha256(host.files / "manifest.json"))
        os.rename(host.files / "new.zip", host.files / f"{names[-1]}.zip")
        target = shipping._unpacked(names[-1])
        os.utime(target, (number, number))
    assert {path.name for path in host.cache.iterdir()} == set(names[-shipping.KEPT :])
