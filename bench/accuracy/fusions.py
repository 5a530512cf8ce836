"""Measures every recommender of a configuration and each way of fusing them, through the project's own jobs.

    python bench/accuracy/fusions.py --config conf/demo.yaml --work folder --out bench/results/demo.json

The main job runs once with `evaluation.only`, so that nothing is fitted for publication; then the fusion is settled and
measured anew by each method. Prints a Markdown table: NDCG and recall at 10 with their bootstrap intervals, how much
the fusion is ahead of the best single recommender (paired over users), and seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.accuracy.job import ahead, measured, run_job  # noqa: E402

METHODS = ("average", "weighted", "cascade", "stacked")
FUSED = "fused"
FITTED = "take the recommenders that the workspace has as they stand, also those of an older version of the program"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, action="append", required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of the workspace, used again where it stands")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeats", nargs="+", choices=["allow", "drop"], default=["allow", "drop"])
    parser.add_argument("--fitted", action="store_true", help=FITTED)
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="further settings")
    parser.add_argument("--out", type=Path, default=None, help="write the rows there as JSON")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    rows = measure(arguments.config, arguments.overrides, work, arguments.methods, arguments.repeats, arguments.fitted)
    print(markdown(rows))
    if arguments.out:
        content = {"cores": os.cpu_count(), "overrides": arguments.overrides, "rows": rows}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(
    configs: Sequence[Path],
    settings: Sequence[str],
    work: Path,
    methods: Sequence[str],
    modes: Sequence[str],
    fitted: bool = False,
    k: int = 10,
) -> list[dict[str, Any]]:
    """A row for each recommender and each method of fusion, for each mode of repeats."""
    own = [*settings, f"workspace={work / 'workspace'}", "evaluation.only=true"]
    rows: list[dict[str, Any]] = []
    trained = {} if fitted else run_job("run_pipeline", configs, [*own, "fusion.method=average"], work / "log.txt")
    for position, method in enumerate(methods):
        line = run_job("evaluate_models", configs, [*own, f"fusion.method={method}"], work / "log.txt")
        took = line["seconds"]
        table, compared = (Path(line["outputs"][name]) for name in ("evaluation_metrics", "evaluation_comparisons"))
        for mode in modes:
            values = measured(table, mode, k)
            if not position:
                rows += [
                    _row(name, mode, values[name], trained.get("metrics", {}).get(f"{name}.seconds"))
                    for name in sorted(values, key=lambda name: values[name]["ndcg"]["value"])
                    if name != FUSED
                ]
            best = max((name for name in values if name != FUSED), key=lambda name: values[name]["ndcg"]["value"])
            found = ahead(compared, mode, k, FUSED, best)
            rows.append({**_row(f"{FUSED}: {method}", mode, values[FUSED], took), "best_single": best, "ahead": found})
    return rows


def _row(name: str, mode: str, values: dict[str, dict[str, float]], seconds: float | None) -> dict[str, Any]:
    return {"model": name, "repeats": mode, "ndcg": values["ndcg"], "recall": values["recall"], "seconds": seconds}


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table."""
    lines = ["| model | repeats | NDCG@10 | recall@10 | ahead of the best single | s |", "|---|---|---|---|---|---|"]
    return "\n".join([*lines, *(table_row(row, row["repeats"]) for row in rows)])


def table_row(row: dict[str, Any], protocol: str) -> str:
    """A row's line of the table."""
    found, seconds = row.get("ahead"), row["seconds"]
    told = f"{found['difference']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})" if found else ""
    cells = (row["model"], protocol, _interval(row["ndcg"]), f"{row['recall']['value']:.4f}")
    of_single = f"{told}, {row['best_single']}" if found else ""
    return f"| {' | '.join((*cells, of_single, '' if seconds is None else f'{seconds:.0f}'))} |"


def _interval(metric: dict[str, float]) -> str:
    if metric.get("low") is None:
        return f"{metric['value']:.4f}"
    return f"{metric['value']:.4f} ({metric['low']:.4f} to {metric['high']:.4f})"


if __name__ == "__main__":
    sys.exit(main())
