from __future__ import annotations

import json
from pathlib import Path

import yaml
from pyspark.sql import SparkSession

from bench.generator import Files, day_names, write_configurations, write_shard
from bench.log_model import LogSpec, Market
from recsys_spark.events import cleaning
from tests.stages import Shop


def test_cleaning_finds_the_dirt_that_was_put_in(spark: SparkSession, tmp_path: Path) -> None:
    spec, files = LogSpec(events=20_000, days=3, dirty=4), Files(tmp_path)
    for name in day_names(spec):
        (tmp_path / "events" / name).mkdir(parents=True)
    truth = write_shard(spec, Market(spec), 0, files)
    write_configurations(spec, files)
    config = yaml.safe_load((tmp_path / "shop.yaml").read_text())
    shop = Shop(spark, tmp_path, source=config["source"], cleaning=config["cleaning"])
    commit = shop.run("clean_events", cleaning.run)
    report = json.loads((commit.path("quality") / "report.json").read_text())
    found = report["rejects_by_reason"]
    lines = truth["cut_line"] + truth["broken_quote"]
    assert report["rows_in"] == truth["rows"]
    assert found["malformed_row"] == lines
    assert found["bad_price"] == truth["bad_price"]
    assert found["bad_encoding"] == truth["bad_bytes"]
    assert found["absurd_quantity"] == truth["absurd_quantity"]
    assert found["robot"] == truth["robot"]
    assert found["return"] + found.get("unmatched_return", 0) == truth["return"]
    # A copy of a row of a test account is counted as a copy or as its account's, a broken line lacks all that follows.
    assert abs(found["test_account"] - truth["test_account"]) <= 5
    assert abs(found["bad_event_time"] - truth["bad_time"] - lines) <= 5
    assert abs(found["missing_user_id"] - truth["missing_user"] - lines) <= 5
    assert abs(found["ancient_time"] - truth["ancient_time"]) <= 2
    copies = truth["exact_duplicate"] + truth["near_duplicate"]
    assert abs(report["duplicates"] - copies) <= 20
    assert abs(report["near_duplicates"] - truth["near_duplicate"]) <= 20
    assert report["unknown_event_types"] == {"wishlist": truth["unknown_type"]}
    assert report["items"] == spec.num_items, "every item has one spelling"
