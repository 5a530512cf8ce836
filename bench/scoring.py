"""Users per second of the fused scoring pass, beside its floor: a bare torch matrix product with top-k.

    python bench/scoring.py --config conf/demo.yaml --out bench/results/scoring.json

Needs the workspace of a finished run of the main job with that configuration. The floor multiplies [B, D] by [D, I] and
takes the top K, for the same users, items, block and threads, with D = 64: one dense component, nothing else. Both are
timed in turn, the first run of each is not counted, and medians are reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from recsys_spark.config import Config, load_config
from recsys_spark.fusion.model import FusedModel
from recsys_spark.scoring.blocks import Moment, spread
from recsys_spark.scoring.recommend import recommendation_rows
from recsys_spark.scoring.shipping import ship
from recsys_spark.session import build_session, total_cores
from recsys_spark.tables.workspace import Workspace

WIDTH = 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, action="append")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    measured = measure(load_config(arguments.config, arguments.overrides), arguments.runs)
    for name, value in measured.items():
        print(f"{name:34} {value:>14,.2f}")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(config: Config, runs: int) -> dict[str, float]:
    """Time the pass and the floor in turn."""
    workspace = Workspace(config.workspace)
    commit = workspace.require("fuse_recommendations")
    datasets = workspace.version("build_datasets", commit.inputs["build_datasets"])
    spark = build_session(config, "bench scoring")
    histories = workspace.read_table(spark, "histories", datasets).persist()
    users = histories.count()
    model = FusedModel.load(commit.path("model"))
    shipped = ship(spark, commit.path("model"))
    moment = Moment((0, 1, 2), int(datasets.facts["cut_times"]["publish"]))
    block_bytes = config.scoring.block_mb << 20

    def fused() -> None:
        rows = recommendation_rows(
            spread(spark, histories, config.scoring.tasks), shipped, moment, config.fusion.k, "allow", block_bytes
        )
        rows.write.format("noop").mode("overwrite").save()

    torch.set_num_threads(total_cores(spark))
    user_vectors, item_vectors = torch.randn(users, WIDTH), torch.randn(WIDTH, model.num_items)
    block = model.users_in_block(block_bytes)

    def floor() -> None:
        for start in range(0, users, block):
            torch.topk(user_vectors[start : start + block] @ item_vectors, config.fusion.k, dim=1)

    times: dict[str, list[float]] = {"fused": [], "floor": []}
    for run in range(runs + 1):
        for name, work in (("fused", fused), ("floor", floor)):
            seconds = _seconds(work)
            if run:
                times[name].append(seconds)
    spark.stop()
    components = len(model.settings["allow"].components)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "users": users,
        "items": model.num_items,
        "components": components,
        "fused_seconds": medians["fused"],
        "fused_users_per_second": users / medians["fused"],
        "floor_seconds": medians["floor"],
        "floor_users_per_second": users / medians["floor"],
        "fused_over_floor": medians["fused"] / medians["floor"],
        "fused_over_floor_per_component": medians["fused"] / medians["floor"] / components,
    }


def _seconds(work: Callable[[], None]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
