"""The command line that every job shares: arguments in, one JSON line and an exit code out."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from recsys_spark.config import Config, load_config
from recsys_spark.errors import UserError
from recsys_spark.pipeline.provenance import shown
from recsys_spark.pipeline.runner import Outcome, Runner
from recsys_spark.pipeline.scheduled import Report, Scheduled
from recsys_spark.pipeline.stage import FILES, Stage
from recsys_spark.pipeline.stages import STAGES
from recsys_spark.promotion.decisions import Request
from recsys_spark.scheduling.attempts import Attempt, recorded
from recsys_spark.scheduling.lease import BusyError, LeaseLostError
from recsys_spark.scheduling.limits import Ended, Stopped
from recsys_spark.tables.workspace import Workspace

DONE, FAULT, BAD_INPUT = 0, 1, 2
PIPELINE, TUNE, PROMOTE, BACKTEST = "run_pipeline", "tune_model", "promote_model", "backtest_models"
PUBLISHES = "fuse_recommendations"
"""The stage that an evaluation alone leaves out."""
AS_ASKED = ("promoted", "unchanged", "rolled_back", "rejected")
"""Decisions that are no fault under --strict."""


def main(job: str, argv: Sequence[str] | None = None) -> int:
    """Run a job from its command line; returns the exit code: 0 done, 2 bad input or configuration, 1 a fault."""
    arguments = _parser(job).parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("recsys_spark").setLevel(logging.INFO)
    started = time.monotonic()
    told: dict[str, Any] = {}

    def failed(status: str, error: str) -> None:
        print_line(job, status, started, Report("", {}, {}, {**told, "error": error}))

    def ended(error: Ended | LeaseLostError) -> None:
        print(f"{job}: {error}", file=sys.stderr)
        failed(error.status, str(error))

    try:
        config = load_config(arguments.config, arguments.overrides)
        report = _scheduled(job, config, arguments, ended, told).run()
    except UserError as error:
        print(f"{job}: {error}", file=sys.stderr)
        failed("busy" if isinstance(error, BusyError) else "failed", str(error))
        return BAD_INPUT
    except (Ended, LeaseLostError) as error:
        ended(error)
        return FAULT
    except KeyboardInterrupt:
        ended(Stopped("stopped from the keyboard"))
        return FAULT
    except Exception as error:
        traceback.print_exc()
        failed("failed", f"{type(error).__name__}: see the log")
        return FAULT
    print_line(job, "done", started, replace(report, extra={**report.extra, **told}))
    held_up = job == PROMOTE and arguments.strict and report.extra["decision"] not in AS_ASKED
    return FAULT if held_up else DONE


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
    if job == PIPELINE:
        parser.add_argument(
            "--catch-up", action="store_true", help="first do the days that were missed, one by one; needs --date"
        )
    if job == TUNE:
        parser.add_argument("--model", required=True, metavar="NAME", help="the recommender, such as gru")
    if job == PROMOTE:
        _add_decisions(parser)
    return parser


def _add_decisions(parser: argparse.ArgumentParser) -> None:
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--approve", type=_said, metavar="NAME", help="approve the challenger, as NAME; needs --comment")
    one.add_argument("--reject", type=_said, metavar="NAME", help="reject the challenger, as NAME; needs --comment")
    one.add_argument("--rollback", action="store_true", help="back to the champion before, and its published lists")
    parser.add_argument("--comment", type=_said, metavar="TEXT", help="why; kept with the decision")
    parser.add_argument("--by", type=_said, metavar="NAME", help="who rolls back")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where the challenger is refused or waits")


def _said(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text.strip()


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date like 2017-12-31") from None


def _scheduled(
    job: str, config: Config, arguments: argparse.Namespace, ended: Callable[[Ended], None], told: dict[str, Any]
) -> Scheduled:
    """The job with what it was asked for. Raises UserError where that does not go together."""
    day, force = arguments.date, arguments.force
    with recorded(Attempt(Workspace(config.workspace), job, day)):
        catch_up = job == PIPELINE and arguments.catch_up
        if catch_up and day is None:
            raise UserError("--catch-up needs --date: the day up to which the missed ones are done")
        asked = _request(arguments) if job == PROMOTE else None
        stage = _own_stage(job, config, arguments)

    def body(runner: Runner) -> Report:
        if asked is not None:
            report = _promotion(runner, asked)
        elif stage is None:
            return _with_store(runner, _run_pipeline(runner, config, force))
        else:
            report = _report({job: runner.run(stage, reuse=job == BACKTEST and not force)})
        runner.prune()
        return _with_store(runner, report) if job in (PUBLISHES, PROMOTE) else report

    return Scheduled(job, config, day, force, body, ended, catch_up, told)


def _own_stage(job: str, config: Config, arguments: argparse.Namespace) -> Stage | None:
    """The stage of a job, None for the whole pipeline; what is no part of that is imported late."""
    if job == TUNE:
        from recsys_spark.tuning.search import tuning_stage

        return tuning_stage(config, arguments.model)
    if job == BACKTEST:
        from recsys_spark.pipeline.backtest import backtest_stage

        return backtest_stage()
    return STAGES.get(job)


def _run_pipeline(runner: Runner, config: Config, force: bool) -> Report:
    params = {"workspace": config.workspace, "models": ",".join(config.models), "fusion": config.fusion.method}
    with runner.tracker.start(PIPELINE, params=params) as parent:
        runner.began(parent.run_id)
        stages = {name: stage for name, stage in STAGES.items() if not (config.evaluation.only and name == PUBLISHES)}
        outcomes = {name: runner.run(stage, parent, reuse=not force) for name, stage in stages.items()}
        decided: dict[str, Any] = {}
        if config.promotion.auto and PUBLISHES in outcomes:
            outcomes[PROMOTE] = runner.run(_promotion_stage(Request()), parent, reuse=not force)
            outcomes[PUBLISHES] = replace(outcomes[PUBLISHES], commit=runner.workspace.require(PUBLISHES))
            decided = _decided(outcomes[PROMOTE])
        report = _report(outcomes)
        parent.log_metrics(dict(report.metrics))
        parent.log_json(shown(config), "config.json")
    runner.prune()
    return replace(report, run_id=parent.run_id, extra={**report.extra, **decided})


def _with_store(runner: Runner, report: Report) -> Report:
    """Load the published lists into the online store, where the configuration asks for it; imported late."""
    if not runner.config.online.publish or runner.workspace.latest(PUBLISHES) is None:
        return report
    from recsys_spark.pipeline.online import publish_online

    return replace(report, extra={**report.extra, **publish_online(runner)})


def _request(arguments: argparse.Namespace) -> Request:
    """What promote_model was asked for. Raises UserError where it does not go together."""
    person = arguments.approve or arguments.reject
    if person and not arguments.comment:
        raise UserError("--approve and --reject need --comment: say why, it is kept with the decision")
    if arguments.by and not arguments.rollback:
        raise UserError("--by says who rolls back; with --approve or --reject give the name there")
    return Request(arguments.approve, arguments.reject, arguments.comment or "", arguments.rollback, arguments.by or "")


def _promotion_stage(request: Request) -> Stage:
    """The decision on the challenger; imported late, since the other jobs need nothing of it."""
    from recsys_spark.pipeline.promote import promotion_stage

    return promotion_stage(request)


def _promotion(runner: Runner, request: Request) -> Report:
    outcome = runner.run(_promotion_stage(request))
    report = _report({PROMOTE: outcome})
    lists = runner.workspace.latest(PUBLISHES)
    outputs = dict(report.outputs)
    if lists is not None:
        runner.replace_views(lists)
        outputs |= {name: str(lists.path(name)) for name in lists.tables}
    return replace(report, outputs=outputs, extra=_decided(outcome))


def _decided(outcome: Outcome) -> dict[str, Any]:
    """The decision, for the job's JSON line."""
    told = dict(outcome.commit.facts["decision"])
    return {"decision": told.pop("action"), **told}


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
        commits=commits,
    )


def print_line(job: str, status: str, started: float, report: Report) -> None:
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
    "promote_model": "Make the challenger champion where it passes every gate; record the decision; or go back.",
    "backtest_models": "Fit and measure everything at the earlier origins (split.backtests); publish backtest_metrics.",
    "tune_model": "Search for the settings of one recommender on the valid window; go on where a study stopped.",
    "run_pipeline": "Run every stage in order; a stage whose inputs and configuration did not change is skipped.",
}
