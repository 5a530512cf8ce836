"""What a session is made of, seen from processes of their own: a JVM takes its settings once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.session import _launch_settings, _settings, build_session, is_local_master, package_archive

SUBMIT = Path(pyspark.__file__).parent / "bin" / "spark-submit"
ROOT = Path(__file__).resolve().parents[2]
SOURCE = {"format": "csv", "path": "x", "columns": {"user_id": "u", "item_id": "i", "event_time": "t"}}
SHOW = """
import json, sys
from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.session import build_session
try:
    spark = build_session(Config.model_validate(json.loads(sys.argv[1])), "ours")
except UserError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit(2)
conf = dict(spark.sparkContext.getConf().getAll())
conf["shuffle"] = spark.conf.get("spark.sql.shuffle.partitions")
print(json.dumps(conf))
"""


def config(**spark):
    return {"source": {**SOURCE, "event_type": "purchase"}, "spark": spark}


def shown(tmp_path, command, **spark):
    script = tmp_path / "show.py"
    script.write_text(SHOW)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}
    environment["PYSPARK_DRIVER_PYTHON"] = sys.executable
    ended = subprocess.run(
        [*command, str(script), json.dumps(config(**spark))],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.stdout, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_what_spark_submit_set_stays_and_spark_conf_wins(tmp_path):
    command = [str(SUBMIT), "--master", "local[1]", "--driver-memory", "600m", "--name", "theirs"]
    for setting in ("spark.sql.shuffle.partitions=7", "spark.sql.parquet.compression.codec=snappy",
                    "spark.executorEnv.OMP_WAIT_POLICY=ACTIVE", "spark.ui.enabled=false"):  # fmt: skip
        command += ["--conf", setting]
    conf = shown(
        tmp_path, command, driver_memory="1g", shuffle_partitions=3, conf={"spark.executorEnv.OMP_WAIT_POLICY": "x"}
    )
    assert conf["spark.master"] == "local[1]"
    assert conf["spark.driver.memory"] == "600m"
    assert conf["spark.app.name"] == "theirs"
    assert conf["shuffle"] == "7"
    assert conf["spark.sql.parquet.compression.codec"] == "snappy"
    assert conf["spark.executorEnv.OMP_WAIT_POLICY"] == "x"
    assert conf["spark.sql.session.timeZone"] == "UTC"


def test_started_by_python_the_configuration_sets_what_nobody_else_did(tmp_path):
    conf = shown(tmp_path, [sys.executable], master="local[3]", driver_memory="600m")
    assert conf["spark.master"] == "local[3]"
    assert conf["spark.driver.memory"] == "600m"
    assert conf["spark.app.name"] == "ours"
    assert conf["shuffle"] == "6"
    assert conf["spark.sql.parquet.compression.codec"] == "zstd"
    assert conf["spark.ui.showConsoleProgress"] == "false"


def test_what_spark_refuses_is_told_in_one_line(tmp_path):
    assert shown(tmp_path, [sys.executable], master="local[x]", driver_memory="600m") == {
        "error": "Spark did not start: Could not parse Master URL: 'local[x]'"
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"master": "lokal"}, "spark.master 'lokal' is no Spark master"),
        ({"driver_memory": "4gigs"}, "spark.driver_memory '4gigs' is no size for Java"),
    ],
)
def test_a_master_or_size_that_cannot_be_meant_is_refused(settings, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        build_session(Config.model_validate(config(**settings)), "ours")


def test_without_java_one_line_says_so(monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    with pytest.raises(UserError, match=r"needs Java 17 or 21, and there is none in JAVA_HOME \(/nowhere\)"):
        build_session(Config.model_validate(config(master="local[1]")), "ours")


@pytest.mark.parametrize(
    ("master", "local"),
    [("local", True), ("local[*]", True), ("local[2,3]", True), ("local-cluster[2,1,1024]", False), ("yarn", False),
     ("spark://local:7077", False), (None, False)],
)  # fmt: skip
def test_only_masters_within_the_driver_are_local(master, local):
    assert is_local_master(master) is local


def test_the_package_imports_from_the_zip_that_executors_get(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(package_archive())!r}); import recsys_spark; print(recsys_spark.__file__)"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    ).stdout
    assert said.startswith(str(package_archive()))


def test_secrets_of_the_environment_are_not_on_the_command_line_and_are_covered_on_sparks_pages(monkeypatch):
    monkeypatch.setenv("SHOP_KEY", "open-sesame")
    named = config(conf={"spark.x": "y"}, conf_env={"spark.hadoop.fs.shop.thing": "SHOP_KEY"})
    ours = Config.model_validate(named)
    launched = dict(_launch_settings(ours).getAll())
    assert launched["spark.x"] == "y"
    assert "open-sesame" not in str(launched)
    pattern = _settings(ours, "ours", {}, submitted=False)["spark.redaction.regex"]
    plain = ("fs.azure.account.key.shop", "fs.azure.sas.container.shop", "spark.ssl.keyPassword", "ssl.keystore.key")
    for name in ("fs.shop.thing", "spark.hadoop.fs.shop.thing", *plain):
        assert re.search(pattern, name)
    assert not re.search(pattern, "spark.sql.shuffle.partitions")
    named["spark"]["conf"]["spark.redaction.regex"] = "mine"
    own = _settings(Config.model_validate(named), "ours", {}, submitted=False)["spark.redaction.regex"]
    assert re.search(own, "mine")
    assert re.search(own, "fs.shop.thing")


def test_a_secret_that_is_not_there_is_told_before_spark_starts(monkeypatch):
    monkeypatch.delenv("SHOP_KEY", raising=False)
    ours = Config.model_validate(config(conf_env={"spark.hadoop.fs.shop.thing": "SHOP_KEY"}))
    with pytest.raises(UserError, match=r"spark\.conf_env: the environment variable SHOP_KEY is not set"):
        build_session(ours, "ours")
