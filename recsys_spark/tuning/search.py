"""The stage behind jobs/tune_model.py: a study of one recommender's settings, from where it stopped to its end."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recsys_spark.config import Config
from recsys_spark.config.recommenders import NEURAL
from recsys_spark.datasets.recipe import VALID_NAME
from recsys_spark.errors import UserError
from recsys_spark.fitting.inputs import FitInputs
from recsys_spark.pipeline.fits import moment_of
from recsys_spark.pipeline.stage import Stage, StageContext, StageResult
from recsys_spark.pipeline.train import fit_inputs, part
from recsys_spark.session import total_cores
from recsys_spark.tracking.runs import TrackedRun
from recsys_spark.training.preflight import find_gpu
from recsys_spark.tuning.fitted import NO_VALID_USERS, fitted_ndcg
from recsys_spark.tuning.key import JUDGED_BY, study_key
from recsys_spark.tuning.referee import NDCG, VALID_K, Referee
from recsys_spark.tuning.result import study_result
from recsys_spark.tuning.space import Space, space_of, told, with_settings
from recsys_spark.tuning.study import ERROR, PLACE, Proposal, TuningStudy, Verdict, locked
from recsys_spark.tuning.trained import train_batch

MOST_FAILURES = 3
"""Trials that may fail before the first one is finished, and that may fail in all where more are not asked for."""
CURVE_METRICS = ("loss", NDCG, "positions_per_second")


def tuning_stage(config: Config, name: str) -> Stage:
    """The search for the settings of a recommender, as a stage. Raises UserError where there is nothing to search."""
    space = space_of(config, name)
    parts = [part(name, with_settings(config, name, corner)) for corner in space.corners()]
    upstream = dict.fromkeys(stage for each in parts for stage in each.upstream)
    return Stage(
        name=f"tune_model.{name}",
        upstream=tuple(stage for stage in upstream if not stage.startswith("train_models")),
        config_keys=("tuning", f"recommenders.{name}", "training", "datasets", "seed", *JUDGED_BY),
        run=lambda context: Search(context, space).run(),
    )


@dataclass(frozen=True)
class _Started:
    """A trial that is to be fitted or trained."""

    proposal: Proposal
    run: TrackedRun
    inputs: FitInputs


class Search:
    """One run of the job."""

    def __init__(self, context: StageContext, space: Space) -> None:
        self._context = context
        self._space = space
        self._name = space.name
        self._trained = space.name in NEURAL
        self._key = study_key(context, space)
        self._folder = context.workspace.root / "tuning" / space.name / self._key[:16]
        self._tuning = context.config.tuning
        self._started = time.monotonic()
        self._done_here = 0

    def run(self) -> StageResult:
        """Directory outputs `best.yaml` and `trials.json`; metrics of the best trial and counts of all."""
        rows = self._context.facts("build_datasets")["num_rows"]["select"]
        if not rows.get(VALID_NAME):
            raise UserError(NO_VALID_USERS)
        with locked(self._folder.with_suffix(".lock")):
            if self._context.force:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True)
            study = TuningStudy(
                self._folder / "study.db", self._key, self._space, self._tuning, self._context.config.seed
            )
            self._resume(study)
            self._context.tracked.set_tags({"recsys.study": self._key})
            if study.next_exists:
                self._search(study)
            return study_result(self._context, study, self._name, self._key)

    def _resume(self, study: TuningStudy) -> None:
        lost = study.recover()
        for run_id in lost:
            self._context.tracker.resume(run_id).end("KILLED")
        if study.finished or lost:
            self._context.progress(
                f"study {self._key[:16]} goes on: {len(study.finished)} of {study.total} trials are finished, "
                f"{len(lost)} were killed and are repeated"
            )

    def _search(self, study: TuningStudy) -> None:
        base = fit_inputs(self._context, self._name, "select", {})
        size = self._batch_size(base)
        while batch := study.next_batch(size):
            os.utime(self._context.run_directory)  # still at work: not to be taken for the folder of a dead writer
            with ExitStack() as stack:
                runs = [stack.enter_context(self._start(study, proposal)) for proposal in batch]
                verdicts = self._verdicts(study, base, batch, runs, size)
                for proposal, run, verdict in zip(batch, runs, verdicts, strict=True):
                    study.tell(proposal, verdict)
                    self._tell(study, proposal, run, verdict)
                    shutil.rmtree(self._work(proposal), ignore_errors=True)
            self._check_failures(study)

    def _batch_size(self, base: FitInputs) -> int:
        """Trials at once: those that Spark fits keep all of its tasks busy one by one."""
        if not self._trained or self._context.config.training.num_processes > 1 or find_gpu(base.spark, 1):
            return 1
        cores = int(base.spark.sparkContext.getConf().get("spark.task.cpus", "1") or 1)
        return self._tuning.parallel or max(1, total_cores(base.spark) // cores)

    def _verdicts(
        self, study: TuningStudy, base: FitInputs, batch: Sequence[Proposal], runs: Sequence[TrackedRun], size: int
    ) -> list[Verdict]:
        """What becomes of each trial of a batch. Settings that were tried before, or twice here, are run once."""
        found: dict[str, Verdict] = {}
        new: dict[str, _Started] = {}
        for proposal, run in zip(batch, runs, strict=True):
            if proposal.key in new:
                continue
            if (same := study.same_settings(proposal)) is not None:
                found[proposal.key] = Verdict.of(same)
                continue
            try:
                new[proposal.key] = _Started(proposal, run, self._inputs(base, proposal))
            except UserError as error:  # between the ends of ranges some values may not go together
                found[proposal.key] = Verdict({}, None, str(error))
        started = list(new.values())
        made = self._trained_verdicts(study, started, size) if self._trained else [self._fitted(one) for one in started]
        found |= dict(zip(new, made, strict=True))
        return [found[proposal.key] for proposal in batch]

    def _trained_verdicts(self, study: TuningStudy, started: Sequence[_Started], size: int) -> list[Verdict]:
        if not started:
            return []

        def on_epoch(number: int, point: Mapping[str, Any]) -> None:
            trial, epoch = started[number], int(point["epoch"])
            trial.run.log_metrics({name: point[name] for name in CURVE_METRICS if name in point}, epoch)
            if size > 1:  # a launch tells its epochs itself
                trial.inputs.progress(f"epoch {epoch}/{point['epochs']}, valid NDCG@{VALID_K} {point[NDCG]:.4f}")

        referee = Referee(self._tuning, study.earlier(started[0].proposal.place, size))
        return train_batch([trial.inputs for trial in started], referee, on_epoch, in_tasks=size > 1)

    def _fitted(self, started: _Started) -> Verdict:
        try:
            ndcg = fitted_ndcg(started.inputs, moment_of("select", self._context))
        except UserError as error:
            if str(error) == NO_VALID_USERS:
                raise
            return Verdict({}, None, str(error))  # such as a penalty that is too small for these data
        return Verdict({0: ndcg}, ndcg)

    def _inputs(self, base: FitInputs, proposal: Proposal) -> FitInputs:
        def progress(message: str) -> None:
            self._context.progress(f"trial {proposal.place + 1}: {message}")

        return replace(
            base,
            config=with_settings(base.config, self._name, proposal.values, "tuning.space"),
            output=self._work(proposal) / "bundle",
            scratch=self._work(proposal),
            progress=progress,
            metric=lambda name, value, step: None,
        )

    def _work(self, proposal: Proposal) -> Path:
        """Where a trial trains; named by its settings, so that a repeated one finds its checkpoints."""
        return self._folder / "trials" / proposal.key

    def _start(self, study: TuningStudy, proposal: Proposal) -> TrackedRun:
        tags = {"recsys.study": self._key, "recsys.trial": proposal.number, "state": "running"}
        name = f"{self._name} trial {proposal.place + 1}"
        run = self._context.tracker.start(name, self._context.tracked, tags=tags, params=proposal.values)
        study.note_run(proposal, run.run_id)
        return run

    def _tell(self, study: TuningStudy, proposal: Proposal, run: TrackedRun, verdict: Verdict) -> None:
        """The trial's run in MLflow, and a line of progress."""
        run.set_tags({"state": verdict.state, **({"error": verdict.error} if verdict.error else {})})
        what = f"trial {proposal.place + 1} of {study.total} ({told(proposal.values)}): "
        if verdict.value is not None:
            run.log_metrics({f"best_{NDCG}" if self._trained else NDCG: verdict.value})
            what += f"NDCG@{VALID_K} {verdict.value:.4f}"
        elif verdict.error is not None:
            run.end("FAILED")
            what += f"failed ({verdict.error})"
        else:
            what += f"pruned after epoch {max(verdict.curve)} with NDCG@{VALID_K} {max(verdict.curve.values()):.4f}"
        self._done_here += 1
        left = max(0, study.total - len(study.finished))
        minutes = (time.monotonic() - self._started) / self._done_here * left / 60
        if (best := study.best) is not None:
            what += f"; best {best.value:.4f} of trial {best.user_attrs[PLACE] + 1}"
        self._context.progress(f"{what}; about {minutes:.1f} min left" if left else what)

    def _check_failures(self, study: TuningStudy) -> None:
        """Raise UserError where trials fail again and again: it is not their settings then."""
        failed = [trial for trial in study.settled if ERROR in trial.user_attrs]
        if len(failed) >= max(MOST_FAILURES, study.total if study.finished else 0):
            raise UserError(
                f"tuning of {self._name}: {len(failed)} trials failed, the last with: {failed[-1].user_attrs[ERROR]}"
            )
