"""The one place that builds a SparkSession, and what a session brings to its tasks."""

from __future__ import annotations

import atexit
import hashlib
import io
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

import recsys_spark
from recsys_spark.config import Config
from recsys_spark.credentials import secret_of
from recsys_spark.errors import UserError
from recsys_spark.redaction import SECRET

REQUIRED = {
    "spark.sql.session.timeZone": "UTC",
    # Corrupt CSV rows are only recognised when every column is parsed.
    "spark.sql.csv.parser.columnPruning.enabled": "false",
}
"""What the tables' meaning depends on: set whatever spark-submit says."""
REDACTED = "spark.redaction.regex"
DEFAULTS = {
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.ui.showConsoleProgress": "false",
    # Idle threads of a task's matrix products would spin on the cores that other tasks need.
    "spark.executorEnv.OMP_WAIT_POLICY": "PASSIVE",
    # Whose values are covered on Spark's pages and in its event logs: the names that `redaction` takes for secrets.
    REDACTED: rf"(?i){SECRET.pattern}|//[^/@\s]*:[^/@\s]*@",
}
"""What is set where spark-submit, spark-defaults.conf or `spark.conf` say nothing."""
SHUFFLE_PARTITIONS = "spark.sql.shuffle.partitions"
MASTER = re.compile(r"local(\[.+\])?|local-cluster\[.+\]|spark://.+|yarn|k8s://.+")
HEAP = re.compile(r"[1-9]\d*[kKmMgGtT]")
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip can hold."""


def stop_session(session: SparkSession) -> None:
    """Stop a session, also one whose JVM has died: the next one then starts a JVM of its own."""
    gateway = SparkContext._gateway
    with suppress(Py4JError, OSError):
        session.stop()
    process = getattr(gateway, "proc", None)  # there where this process has started the JVM
    if process is not None and process.poll() is not None:
        SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None
        SparkSession._instantiatedSession = SparkSession._activeSession = None


def build_session(config: Config, app_name: str) -> SparkSession:
    """The session of a job: what spark-submit set stays, our defaults fill the rest, `spark.conf` wins.

    Only the settings that the tables' meaning depends on are set in any case (time is UTC everywhere). Python workers
    run this interpreter unless PYSPARK_PYTHON says otherwise; off local masters they get this package. Raises UserError
    where Spark does not start.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # Python workers of a local master inherit it
    _check(config)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    secrets = {key: secret_of(variable, "spark.conf_env") for key, variable in config.spark.conf_env.items()}
    with _one_line():
        if not submitted:
            _prepare_java(config)
        SparkContext._ensure_initialized(conf=_launch_settings(config))  # spark-submit has started it already
        # With the JVM there, a SparkConf holds what spark-submit and spark-defaults.conf set.
        given = dict(SparkConf().getAll())
        builder = SparkSession.builder
        for key, value in _settings(config, app_name, given, submitted).items():
            builder = builder.config(key, value)
        for key, secret in secrets.items():
            builder = builder.config(key, secret)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        if is_local_master(session.sparkContext.master):
            if not session.sparkContext.getConf().contains(SHUFFLE_PARTITIONS):
                session.conf.set(SHUFFLE_PARTITIONS, str(2 * total_cores(session)))
        else:
            _ship_package(session.sparkContext)
    return session


def is_local_master(master: str | None) -> bool:
    """Do tasks run within the driver's JVM, on its host."""
    return master is not None and (master == "local" or master.startswith("local["))


def total_cores(spark: SparkSession) -> int:
    """Task slots of the session's cluster, as Spark sees them now."""
    return int(spark.sparkContext.defaultParallelism)


@cache
def process_folder() -> Path:
    """A folder for what tasks fetch from the driver: Spark serves files from where they are, at any later time."""
    folder = tempfile.mkdtemp(prefix="recsys_spark-driver-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def package_archive() -> Path:
    """The zip of this package, from which Python imports it; a changed package has another name."""
    home = Path(recsys_spark.__file__).parent.parent
    if home.is_file():  # it was imported from a zip itself
        return home
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for source in sorted((home / recsys_spark.__name__).rglob("*.py")):
            target.writestr(zipfile.ZipInfo(source.relative_to(home).as_posix(), EARLIEST), source.read_bytes())
    content = buffer.getvalue()
    archive = process_folder() / f"recsys_spark-{hashlib.sha256(content).hexdigest()[:16]}.zip"
    archive.write_bytes(content)
    return archive


def _check(config: Config) -> None:
    """Refuse what spark-submit and Java would only answer with pages of their own."""
    master, memory = config.spark.master, config.spark.driver_memory
    if master and not MASTER.fullmatch(master):
        raise UserError(
            f"spark.master {master!r} is no Spark master; write local[*], spark://HOST:PORT, yarn or k8s://URL"
        )
    if not HEAP.fullmatch(memory):
        raise UserError(f"spark.driver_memory {memory!r} is no size for Java; write a number and a unit, such as 4g")


def _prepare_java(config: Config) -> None:
    """See that there is a Java to start, and on a local master keep it off the network."""
    home = os.environ.get("JAVA_HOME")
    if not shutil.which(f"{home}/bin/java" if home else "java"):
        place = f"JAVA_HOME ({home})" if home else "PATH"
        raise UserError(f"Spark needs Java 17 or 21, and there is none in {place}; install it or set JAVA_HOME")
    if _surely_local(config.spark.conf.get("spark.master") or config.spark.master):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")


def _launch_settings(config: Config) -> SparkConf:
    """What the driver's JVM must know when it starts. It stands on its command line: `spark.conf` holds no secret."""
    settings = {
        "spark.driver.memory": config.spark.driver_memory,
        "spark.ui.showConsoleProgress": "false",  # would be on, as in a shell
    }
    if config.spark.master:
        settings["spark.master"] = config.spark.master
    return SparkConf(loadDefaults=False).setAll(list((settings | config.spark.conf).items()))


def _surely_local(master: str | None) -> bool:
    """Will the master be local: it says so, or nothing could say anything else."""
    if master:
        return is_local_master(master)
    folder = os.environ.get("SPARK_CONF_DIR") or f"{os.environ.get('SPARK_HOME', '')}/conf"
    named = os.environ.get("MASTER") or os.environ.get("PYSPARK_SUBMIT_ARGS")
    return not named and not Path(folder, "spark-defaults.conf").exists()


def _settings(config: Config, app_name: str, given: Mapping[str, str], submitted: bool) -> dict[str, str]:
    """What to set on top of what is given already."""
    defaults = dict(DEFAULTS)
    if not submitted:
        defaults["spark.ui.enabled"] = "false"
    if config.spark.shuffle_partitions:
        defaults[SHUFFLE_PARTITIONS] = str(config.spark.shuffle_partitions)
    if config.tables.catalog:  # views that outlive the session need a metastore
        defaults["spark.sql.catalogImplementation"] = "hive"
    settings = {key: value for key, value in defaults.items() if key not in given} | REQUIRED
    if config.spark.master:
        settings["spark.master"] = config.spark.master
    name = given.get("spark.app.name", "")
    if not name or name.endswith(".py") or name == "pyspark-shell":  # what spark-submit says where nobody named it
        settings["spark.app.name"] = app_name
    settings |= config.spark.conf
    if config.spark.conf_env:  # covered whatever they are called; Hadoop knows its own without the prefix
        named = [re.escape(key.removeprefix("spark.hadoop.")) for key in sorted(config.spark.conf_env)]
        settings[REDACTED] = "|".join([settings.get(REDACTED) or given[REDACTED], *named])
    return settings


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn Spark's and Java's failures to start into a sentence."""
    try:
        yield
    except Py4JJavaError as error:
        cause = _cause(error)
        if "stopped SparkContext" in cause:  # it stops itself where no master answers
            cause = "the master does not answer or refused the application; check spark.master, and its log above"
        raise UserError(f"Spark did not start: {cause}") from error
    except (PySparkException, Py4JError, OSError) as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        hint = "; Java's own message stands above" if "JAVA_GATEWAY_EXITED" in line else ""
        raise UserError(f"Spark did not start: {line}{hint}") from error


def _cause(error: Py4JJavaError) -> str:
    """The first line of the innermost Java exception that says anything."""
    exception, message = error.java_exception, ""
    while exception is not None:
        message = exception.getMessage() or message
        exception = exception.getCause()
    return next(iter(message.strip().splitlines()), "the cause is unknown")


def _ship_package(context: SparkContext) -> None:
    """Give executors this package, from which tasks' functions are imported, unless spark-submit did."""
    archive = package_archive()
    if not any(path.endswith(f"/{archive.name}") for path in context.listFiles):
        context.addPyFile(str(archive))
