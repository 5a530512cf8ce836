"""Fits of the cold items' benchmark: a bundle is used again as long as it is what a fit would write now."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from recsys_spark.config import Config
from recsys_spark.fitting.inputs import FitInputs
from recsys_spark.fitting.registry import FITS
from recsys_spark.pipeline.keys import code_version, config_value, library_versions
from recsys_spark.pipeline.runner import Runner
from recsys_spark.tables.pointer import Commit


def fit(runner: Runner, commits: dict[str, Commit], name: str, output: Path) -> dict[str, Any]:
    """Fit a recommender on the train window, unless its bundle stands there; what the fit told, and its seconds.

    Beside the bundle lies its key. Seconds are always those of the fit that wrote the bundle.
    """
    beside = output.with_suffix(".json")
    datasets = commits["build_datasets"]
    dataset = datasets.path("datasets") / "select"
    version = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))["version"]
    key = fit_key(runner.config, name, version, commits["fit_features"].key)
    known = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
    if known.get("key") != key:
        beside.unlink(missing_ok=True)  # first, so that it never stands beside half a bundle
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        inputs = FitInputs(
            spark=runner.spark,
            config=runner.config,
            name=name,
            fit="select",
            dataset=dataset,
            histories=runner.workspace.read_table(runner.spark, "histories", datasets),
            folds=(0,),
            cut_time=int(datasets.facts["cut_times"]["select"]),
            output=output,
            features=Path(commits["fit_features"].directory),
            cache=runner.workspace.root / "cache",
            progress=lambda message: print(f"{name}: {message}", file=sys.stderr),
        )
        started = time.monotonic()
        facts = FITS[name](inputs)
        known = {"key": key, "facts": facts, "seconds": time.monotonic() - started}
        beside.write_text(json.dumps(known), encoding="utf-8")
    return {**known["facts"], "seconds": known["seconds"]}


def fit_key(config: Config, name: str, dataset_version: str, features_key: str) -> str:
    """sha256 over everything that a fit's bundle is made from."""
    content = {
        "settings": {key: config_value(config, key) for key in (f"recommenders.{name}", "training", "fusion.repeats")},
        "seed": config.seed,
        "dataset": dataset_version,
        "features": features_key,
        "code": code_version(),
        "libraries": library_versions(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
