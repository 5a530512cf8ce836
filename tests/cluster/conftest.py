"""A real standalone cluster on this host: a master, two workers, and a Python that does not have the package."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyspark
import pytest

SPARK_HOME = Path(pyspark.__file__).parent
WORKERS = 2
SECONDS = 60


@dataclass(frozen=True)
class Cluster:
    """What a job needs to run on it."""

    master: str
    python: Path
    """A Python with everything that the package depends on, but without the package."""
    workers: tuple[int, ...]
    """Process groups of the workers: a worker's executors and their processes are in its group."""

    @property
    def environment(self) -> dict[str, str]:
        return {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": str(self.python)}

    @property
    def settings(self) -> tuple[str, ...]:
        conf = "{spark.executor.memory: 1g, spark.driver.host: 127.0.0.1}"
        return ("--set", f"spark.master={self.master}", "--set", f"spark.conf={conf}")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    port, page = free_port(), free_port()
    master = f"spark://127.0.0.1:{port}"
    with ExitStack() as running:
        master_command = ["master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page)]
        running.enter_context(daemon(folder / "master", *master_command))
        wait_for(folder, page, workers=0)
        workers = []
        for number in range(WORKERS):
            home = folder / f"worker{number}"
            size = ("--cores", "1", "--memory", "2g", "--webui-port", "0", "--work-dir", str(home / "work"))
            workers.append(running.enter_context(daemon(home, "worker.Worker", "--host", "127.0.0.1", *size, master)))
        wait_for(folder, page, workers=WORKERS)
        yield Cluster(master, bare_python(folder / "bare"), tuple(workers))
    for work in folder.glob("worker*/work"):  # every executor that ever was has left its unpacked archives
        shutil.rmtree(work)


@contextmanager
def daemon(home: Path, name: str, *arguments: str) -> Iterator[int]:
    """A daemon of Spark in a folder and a process group of its own; it and its executors end with the block."""
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "SPARK_CONF_DIR")}
    environment |= {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m", "SPARK_HOME": str(SPARK_HOME)}
    command = [str(SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", *arguments]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def wait_for(folder: Path, page: int, workers: int) -> None:
    """Until the master's page counts so many workers."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if state(page).get("aliveworkers", -1) >= workers:
            return
        time.sleep(0.2)
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in folder.glob("*/log"))
    pytest.fail(f"{workers} workers did not register in {SECONDS} s:\n{logs}")


def state(page: int) -> Mapping[str, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{page}/json/", timeout=5) as answer:
            content: dict[str, Any] = json.load(answer)
            return content
    except (OSError, ValueError):
        return {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bare_python(folder: Path) -> Path:
    """An environment that sees the packages of this one, but not those installed in place, as this project is."""
    venv.create(folder, symlinks=True, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return folder / "bin" / "python"
