"""A driver as train_models is one, as far as the launch goes: `python -m tests.chaos.driver spec.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from recsys_spark.models.composition import Composition
from recsys_spark.training.launch import launch
from recsys_spark.training.spec import TrainSpec

if __name__ == "__main__":
    fields = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    spec = TrainSpec(**{**fields, "composition": Composition.from_dict(fields["composition"])})
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    result = launch(spark, spec, 2, lambda line: print(line, flush=True), lambda *_: None)
    print(json.dumps(result))
    spark.stop()
