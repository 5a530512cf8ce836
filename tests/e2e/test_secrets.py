"""Canaries in environment, configuration and addresses, through real jobs: nothing that a run leaves holds one."""

from __future__ import annotations

import json
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark import redaction
from recsys_spark.online import __main__ as online
from tests.canaries import argument_lists, canary, in_bytes, in_folder
from tests.e2e.conftest import ROOT, Finished, finish
from tests.shop import write_shop

NAMES = ("environment", "spark", "hidden", "tracking", "webhook", "mail")
BUSY_DAY = "2024-03-23"
"""26 events; a Saturday before it had 22.5 in the median: so there is something to tell."""
OPEN = "shop-open-setting"
"""Is no secret, so it must be found where secrets are looked for."""


@dataclass(frozen=True)
class Run:
    """A run of the main job, and what could be seen of it."""

    folder: Path
    canaries: dict[str, str]
    ended: Finished
    monitored: Finished
    arguments: set[bytes]
    pages: list[bytes]


def job(name: str, config: Path, environment: dict[str, str]) -> Finished:
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), "--config", str(config)]
    return finish(command, ROOT, **environment)


@contextmanager
def environment_pages(port: int) -> Iterator[list[bytes]]:
    """Spark's page of its settings, as it is while the job runs."""
    pages: list[bytes] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.5):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/environment/", timeout=5) as page:
                    content = page.read()
            except (urllib.error.URLError, OSError):
                continue
            if b"Spark is starting up" not in content:
                pages.append(content)
                done.wait(5)

    reader = threading.Thread(target=look, daemon=True)
    reader.start()
    try:
        yield pages
    finally:
        done.set()
        reader.join()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("secrets")
    config, port = write_shop(folder), free_port()
    (folder / "events").mkdir()
    canaries = {name: canary(name) for name in NAMES}
    more = folder / "secrets.yaml"
    settings = {
        "models": ["popularity", "item_knn", "mfn"],
        "tracking": {"uri_env": "MLFLOW_ADDRESS"},
        "spark": {
            "conf": {
                "spark.ui.enabled": "true", "spark.ui.port": str(port), "spark.shop.setting": OPEN,
                "spark.eventLog.enabled": "true", "spark.eventLog.compress": "false",
                "spark.eventLog.dir": f"file:{folder}/events",
            },
            "conf_env": {"spark.hadoop.fs.s3a.secret.key": "S3_KEY", "spark.hadoop.shop.nothing": "SHOP_HIDDEN"},
        },
        "monitoring": {
            "limits": {"events.volume_ratio": {"warn": 1.01, "alert": 1.02}},
            "notify": {
                "at_least": "warn", "tries": 1, "webhook_url_env": "SHOP_WEBHOOK",
                "email": {
                    "host": "127.0.0.1", "port": free_port(), "sender": "shop@example.org", "to": ["ann@example.org"],
                    "user_env": "MAIL_USER", "password_env": "MAIL_PASSWORD",
                },
            },
        },
    }  # fmt: skip
    more.write_text(json.dumps(settings))
    environment = {
        "AWS_SECRET_ACCESS_KEY": canaries["environment"],
        "S3_KEY": canaries["spark"],
        "SHOP_HIDDEN": canaries["hidden"],
        "SHOP_WEBHOOK": f"http://127.0.0.1:{free_port()}/hook/{quote(canaries['webhook'], safe='')}",
        "MAIL_USER": "recsys",
        "MAIL_PASSWORD": canaries["mail"],
        # A database that takes parameters which it does not know.
        "MLFLOW_ADDRESS": f"sqlite:///file:{folder}/workspace/mlflow.db?uri=true&token={quote(canaries['tracking'])}",
    }
    configured = ["--config", str(config), "--config", str(more)]
    here = tmp_path_factory.mktemp("here")  # MLflow makes folders of such an address where it runs
    with argument_lists() as arguments, environment_pages(port) as pages:
        ended = finish([sys.executable, str(ROOT / "jobs" / "run_pipeline.py"), *configured], here, **environment)
        watching = [sys.executable, str(ROOT / "jobs" / "monitor.py"), *configured, "--date", BUSY_DAY]
        monitored = finish(watching, here, **environment)
    assert ended.code == 0, ended.stderr[-3000:]
    assert monitored.code == 0, monitored.stderr[-3000:]
    return Run(folder, canaries, ended, monitored, arguments, pages)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_prints_no_secret(run: Run) -> None:
    for ended in (run.ended, run.monitored):
        assert not in_bytes((ended.stdout + ended.stderr).encode(), run.canaries)
    for way in ("webhook", "email"):
        assert f"monitor: {way}: the message on" in run.monitored.stderr, "the way was tried"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_leaves_no_secret_in_tables_models_pages_and_tracking(run: Run) -> None:
    assert in_folder(run.folder, run.canaries) == []
    found = {Path(path).name for path, _ in in_folder(run.folder, {"open": OPEN})}
    assert "provenance.json" in found, "the search finds what is there to find"
    assert {"mlflow.db"} & {path.name for path in (run.folder / "workspace").iterdir()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_argument_list_holds_a_secret(run: Run) -> None:
    programs = b" ".join(run.arguments)
    assert b"org.apache.spark.deploy.SparkSubmit" in programs
    assert b"torch" in programs, "the processes that train were seen"
    assert OPEN.encode() in programs
    assert not in_bytes(programs, run.canaries)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_sparks_page_of_its_settings_and_its_event_log_cover_secrets(run: Run) -> None:
    assert run.pages
    for page in run.pages:
        assert OPEN.encode() in page
        assert b"fs.s3a.secret.key" in page
        assert b"shop.nothing" in page
        assert not in_bytes(page, run.canaries)
    assert any(path.is_file() for path in (run.folder / "events").rglob("*"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_server_that_does_not_answer_is_told_without_its_password(tmp_path: Path) -> None:
    config, canaries = write_shop(tmp_path), {"url": canary("url")}
    config.write_text(f"{config.read_text()}\ntracking: {{uri_env: MLFLOW_ADDRESS}}\n")
    address = f"http://ann:{quote(canaries['url'], safe='')}@127.0.0.1:{free_port()}"
    ended = job("clean_events", config, {"MLFLOW_ADDRESS": address, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    assert ended.code == 2, ended.stderr
    assert "tracking.uri $MLFLOW_ADDRESS: MLflow cannot use it" in ended.stderr
    assert not in_bytes((ended.stdout + ended.stderr).encode(), canaries)
    assert list(tmp_path.rglob("*.parquet")), "the attempt has a row"
    assert in_folder(tmp_path, canaries) == []


def test_a_store_that_does_not_answer_is_told_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("redis")
    monkeypatch.setattr(redaction, "_known", set())
    canaries = {"redis": canary("redis")}
    monkeypatch.setenv("REDIS_PASSWORD", canaries["redis"])
    config = write_shop(tmp_path)
    store = f"online: {{store: 'redis://127.0.0.1:{free_port()}/0', password_env: REDIS_PASSWORD}}"
    config.write_text(f"{config.read_text()}\n{store}\n")
    assert online.main(["status", "--config", str(config)]) == 2
    ended = capsys.readouterr()
    assert len(ended.err.splitlines()) == 1
    assert not in_bytes((ended.err + ended.out).encode(), canaries)


def test_the_search_finds_what_is_hidden_in_files(tmp_path: Path) -> None:
    """Compressed Parquet, a database, an archive and an escaped text: else the tests above would prove nothing."""
    import sqlite3
    import zipfile
    import zlib

    told = canary("told")
    (tmp_path / "a").mkdir()
    pq.write_table(pa.table({"x": [[told]]}), tmp_path / "a" / "t.parquet", compression="zstd")
    with sqlite3.connect(tmp_path / "d.db") as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (?)", (zlib.compress(told.encode()),))
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", told)
    (tmp_path / "page.html").write_text(quote(told))
    (tmp_path / "none.txt").write_text("nothing")
    found = {Path(path).name for path, _ in in_folder(tmp_path, {"told": told})}
    assert found == {"t.parquet", "d.db", "z.zip", "page.html"}
