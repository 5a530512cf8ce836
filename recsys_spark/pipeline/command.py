"""The command line that every job shares: arguments in, one JSON line and an exit code out."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from recsys_spark.config import Config, load_config
from recsys_spark.errors import UserError
from recsys_spark.pipeline.provenance import shown
from recsys_spark.pipeline.runner import Outcome, Runner
from recsys_spark.pipeline.scheduled import Report, Scheduled
from recsys_spark.pipeline.stage import FILES, Stage
from recsys_spark.pipeline.stages import STAGES
from recsys_spark.promotion.decisions import Request
from recsys_spark.redaction import covered, covered_values, print_stack, start_logging
from recsys_spark.scheduling.attempts import Attempt, recorded
from recsys_spark.scheduling.lease import BusyError, LeaseLostError
from recsys_spark.scheduling.limits import Ended, Stopped
from recsys_spark.tables.workspace import Workspace

if TYPE_CHECKING:
    from recsys_spark.pipeline.retraining import Decision
    from recsys_spark.tracking.runs import TrackedRun

log = logging.getLogger("recsys_spark")

DONE, FAULT, BAD_INPUT, FOUND = 0, 1, 2, 3
PIPELINE, TUNE, PROMOTE, BACKTEST = "run_pipeline", "tune_model", "promote_model", "backtest_models"
MONITOR = "monitor"
PUBLISHES = "fuse_recommendations"
"""The stage that an evaluation alone leaves out."""
FRESH = ("clean_events", "build_features", "build_datasets")
"""The stages that run before it is decided whether a run trains."""
AS_ASKED = ("promoted", "unchanged", "rolled_back", "rejected")
"""Decisions that are no fault under --strict."""


def main(job: str, argv: Sequence[str] | None = None) -> int:
    """Run a job from its command line; returns the exit code: 0 done, 2 bad input or configuration, 1 a fault.

    3 stands for findings where monitor was asked to end so (`--fail-on`).
    """
    arguments = _parser(job).parse_args(argv)
    start_logging(logging.WARNING)
    logging.getLogger("recsys_spark").setLevel(logging.INFO)
    started = time.monotonic()
    told: dict[str, Any] = {}

    def failed(status: str, error: str) -> None:
        print_line(job, status, started, Report("", {}, {}, {**told, "error": error}))

    def ended(error: Ended | LeaseLostError) -> None:
        print(covered(f"{job}: {error}"), file=sys.stderr)
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
        print_stack()
        failed("failed", f"{type(error).__name__}: see the log")
        return FAULT
    print_line(job, "done", started, replace(report, extra={**report.extra, **told}))
    if job == MONITOR:
        return FOUND if arguments.fail_on and _bad(report, arguments.fail_on) else DONE
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
    if job == MONITOR:
        parser.add_argument("--fail-on", choices=("warn", "alert"), help="exit with 3 where there is such a finding")
        parser.add_argument(
            "--acknowledge", type=_said, metavar="NAME", help="let publication go on in spite of alerts, as NAME"
        )
        parser.add_argument("--comment", type=_said, metavar="TEXT", help="why; kept with the acknowledgement")
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
        if job == MONITOR and bool(arguments.acknowledge) != bool(arguments.comment):
            raise UserError("--acknowledge needs --comment, and --comment needs it: say who lets it pass, and why")
        stage = _own_stage(job, config, arguments)

    def body(runner: Runner) -> Report:
        if job == MONITOR:
            report = _monitor(runner, arguments)
        elif asked is not None:
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


def _monitor(runner: Runner, arguments: argparse.Namespace) -> Report:
    """A day's findings and what follows from them, or the acknowledgement of alerts; imported late."""
    from recsys_spark.pipeline.alerts import acknowledged
    from recsys_spark.pipeline.monitor import monitored

    if arguments.acknowledge:
        told = acknowledged(runner, arguments.acknowledge, arguments.comment, arguments.date)
        return Report("", told.pop("outputs"), {}, told)
    outcome, told = monitored(runner)
    report = replace(_report({MONITOR: outcome}), extra=told)
    return _with_store(runner, report) if told["rolled_back"] else report


def _bad(report: Report, worst: str) -> bool:
    """Has the monitored day a finding of this status or a worse one."""
    counts = report.extra.get("counts", {})
    return bool(counts.get("alert") or (worst == "warn" and counts.get("warn")))


def _run_pipeline(runner: Runner, config: Config, force: bool) -> Report:
    params = {"workspace": config.workspace, "models": ",".join(config.models), "fusion": config.fusion.method}
    with runner.tracker.start(PIPELINE, params=params) as parent:
        runner.began(parent.run_id)
        stages = {name: stage for name, stage in STAGES.items() if not (config.evaluation.only and name == PUBLISHES)}
        decision = None
        outcomes: dict[str, Outcome] = {}
        if config.retraining.on and not config.evaluation.only and not force:
            outcomes = {name: runner.run(stages[name], parent, reuse=True) for name in FRESH}
            decision, stages = _retraining(runner, config, parent, stages)
        outcomes |= {
            name: runner.run(stage, parent, reuse=not force) for name, stage in stages.items() if name not in outcomes
        }
        decided: dict[str, Any] = {}
        decides = decision is None or decision.train or _undecided(runner)
        if config.promotion.auto and PUBLISHES in outcomes and decides:
            outcomes[PROMOTE] = runner.run(_promotion_stage(Request()), parent, reuse=not force)
            outcomes[PUBLISHES] = replace(outcomes[PUBLISHES], commit=runner.workspace.require(PUBLISHES))
            decided = _decided(outcomes[PROMOTE])
        report = _report(outcomes)
        parent.log_metrics(dict(report.metrics))
        parent.log_json(shown(config), "config.json")
    runner.prune()
    told = {"retraining": decision.to_json()} if decision else {}
    return replace(report, run_id=parent.run_id, extra={**report.extra, **told, **decided})


def _retraining(
    runner: Runner, config: Config, parent: TrackedRun, stages: dict[str, Stage]
) -> tuple[Decision, dict[str, Stage]]:
    """Does the run train; and the stages that follow: all, or those of a night that keeps the model. Imported late."""
    from recsys_spark.monitoring.actions import check_publication
    from recsys_spark.pipeline.kept import kept_stages
    from recsys_spark.pipeline.retraining import decide

    check_publication(runner.workspace)  # before a training that nothing could come of
    decision = decide(config, runner.workspace, runner.tracker)
    log.info("retraining: %s: %s", "the run trains" if decision.train else "the model is kept", decision.why)
    parent.log_metrics(decision.metrics)
    parent.set_tags({"recsys.retraining": "train" if decision.train else "keep", "recsys.retraining.why": decision.why})
    return decision, stages if decision.train else kept_stages()


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


def _undecided(runner: Runner) -> bool:
    """Has a night died between registering a challenger and judging it; imported late."""
    from recsys_spark.pipeline.promote import undecided

    return undecided(runner.workspace, runner.tracker)


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
    """The contract's last line of stdout, without secrets."""
    line = {
        "job": job,
        "status": status,
        "run_id": report.run_id,
        "outputs": dict(report.outputs),
        "metrics": dict(report.metrics),
        "seconds": round(time.monotonic() - started, 2),
        **report.extra,
    }
    print(json.dumps(covered_values(line), sort_keys=False), flush=True)


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
    "monitor": "Measure a day (by default the newest): drift, lists, outcomes, bias; judge it, and tell of alerts.",
    "run_pipeline": "Run every stage in order; a stage whose inputs and configuration did not change is skipped.",
}
