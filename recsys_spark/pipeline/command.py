"""The command line that every job shares: arguments in, one JSON line and an exit code out."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from recsys_spark.config import Config, load_config
from recsys_spark.config.sources import SECRET
from recsys_spark.errors import UserError
from recsys_spark.pipeline.runner import Outcome, Runner
from recsys_spark.pipeline.stage import FILES, Stage
from recsys_spark.pipeline.stages import STAGES

DONE, FAULT, BAD_INPUT = 0, 1, 2
TUNE = "tune_model"
COVERED = "***"


@dataclass(frozen=True)
class Report:
    """What a job tells at its end."""

    run_id: str
    outputs: Mapping[str, str]
    metrics: Mapping[str, float]
    extra: Mapping[str, Any]


def main(job: str, argv: Sequence[str] | None = None) -> int:
    """Run a job from its command line; returns the exit code: 0 done, 2 bad input or configuration, 1 a fault."""
    arguments = _parser(job).parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("recsys_spark").setLevel(logging.INFO)
    started = time.monotonic()
    try:
        config = load_config(arguments.config, arguments.overrides)
        report = _run(job, config, arguments)
    except UserError as error:
        print(f"{job}: {error}", file=sys.stderr)
        _print_line(job, "failed", started, Report("", {}, {}, {"error": str(error)}))
        return BAD_INPUT
    except Exception as error:
        traceback.print_exc()
        _print_line(job, "failed", started, Report("", {}, {}, {"error": f"{type(error).__name__}: see the log"}))
        return FAULT
    _print_line(job, "done", started, report)
    return DONE


def _parser(job: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"jobs/{job}.py", description=_DESCRIPTIONS[job])
    parser.add_argument(
        "--config", required=True, action="append", metavar="FILE", help="YAML file; several are merged left to right"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="override, such as fusion.k=10",
    )
    parser.add_argument(
        "--date", type=_day, default=None, metavar="YYYY-MM-DD", help="the run's day; default that of the newest event"
    )
    parser.add_argument("--force", action="store_true", help=_FORCE_TUNING if job == TUNE else _FORCE)
    if job == TUNE:
        parser.add_argument("--model", required=True, metavar="NAME", help="the recommender, such as gru")
    return parser


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date like 2017-12-31") from None


def _run(job: str, config: Config, arguments: argparse.Namespace) -> Report:
    stage = _tuning_stage(config, arguments.model) if job == TUNE else STAGES.get(job)
    runner = Runner(config, f"recsys_spark {job}", arguments.date, force=arguments.force)
    try:
        if stage is None:
            return _run_pipeline(runner, config, arguments.force)
        report = _report({job: runner.run(stage)})
        runner.prune()
        return report
    finally:
        runner.stop()


def _tuning_stage(config: Config, name: str) -> Stage:
    """The search of one recommender; imported late, since the other jobs need nothing of it."""
    from recsys_spark.tuning.search import tuning_stage

    return tuning_stage(config, name)


def _run_pipeline(runner: Runner, config: Config, force: bool) -> Report:
    params = {"workspace": config.workspace, "models": ",".join(config.models), "fusion": config.fusion.method}
    with runner.tracker.start("run_pipeline", params=params) as parent:
        outcomes = {name: runner.run(stage, parent, reuse=not force) for name, stage in STAGES.items()}
        report = _report(outcomes)
        parent.log_metrics(dict(report.metrics))
        parent.log_json(shown(config), "config.json")
    runner.prune()
    return Report(parent.run_id, report.outputs, report.metrics, report.extra)


def shown(config: Config) -> dict[str, Any]:
    """The configuration as it may be read by everybody: what may be a secret is covered."""
    content = config.model_dump(mode="json")
    conf = content["spark"]["conf"]
    content["spark"]["conf"] = {key: COVERED if SECRET.search(key) else value for key, value in conf.items()}
    if content["tracking"]["uri"]:
        content["tracking"]["uri"] = re.sub(r"//[^/@]+@", f"//{COVERED}@", content["tracking"]["uri"])
    return content


def _report(outcomes: Mapping[str, Outcome]) -> Report:
    commits = [outcome.commit for outcome in outcomes.values()]
    stages = {
        name: {"status": "skipped" if outcome.skipped else "done", "seconds": round(outcome.seconds, 2)}
        for name, outcome in outcomes.items()
    }
    return Report(
        run_id=commits[-1].run_id,
        outputs={
            name: str(commit.path(name))
            for commit in commits
            for name in (*commit.tables, *commit.facts.get(FILES, ()))
        },
        metrics={name: value for commit in commits for name, value in commit.metrics.items()},
        extra={"stages": stages} if len(outcomes) > 1 else {},
    )


def _print_line(job: str, status: str, started: float, report: Report) -> None:
    """The contract's last line of stdout."""
    line = {
        "job": job,
        "status": status,
        "run_id": report.run_id,
        "outputs": dict(report.outputs),
        "metrics": dict(report.metrics),
        "seconds": round(time.monotonic() - started, 2),
        **report.extra,
    }
    print(json.dumps(line, sort_keys=False), flush=True)


_FORCE = "run stages again although nothing changed"
_FORCE_TUNING = "begin the study anew instead of going on with it"
_DESCRIPTIONS = {
    "clean_events": "Read the configured logs; publish clean_events and quarantine with a quality report.",
    "build_features": "Give users and items their dense ids; publish user_ids, item_ids and items.",
    "build_datasets": "Split by time; publish histories and the Petastorm datasets of each fit.",
    "fit_features": "Fit features of items and users on training time; publish them for every item and user.",
    "train_models": "Fit every configured recommender into a bundle, for each fit, and register it.",
    "evaluate_models": "Choose the fusion on the valid window; measure every recommender and the fusion on test.",
    "fuse_recommendations": "Publish the recommendations table and register the fused model as challenger.",
    "tune_model": "Search for the settings of one recommender on the valid window; go on where a study stopped.",
    "run_pipeline": "Run every stage in order; a stage whose inputs and configuration did not change is skipped.",
}
