"""Running stages: find the inputs, skip what is still true, run the rest, commit."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.pipeline.keys import source_manifest, stage_key
from recsys_spark.pipeline.provenance import FILE, provenance
from recsys_spark.pipeline.stage import Stage, StageContext
from recsys_spark.promotion.ledger import rollback_pins
from recsys_spark.scheduling.lease import Lease
from recsys_spark.session import build_session, stop_session
from recsys_spark.tables.catalog import check_database, replace_views
from recsys_spark.tables.pointer import Commit, publish, sync_tree
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.registry import pinned_versions
from recsys_spark.tracking.runs import TrackedRun, Tracker

log = logging.getLogger("recsys_spark")


@dataclass(frozen=True)
class Outcome:
    """What became of a stage."""

    commit: Commit
    skipped: bool
    seconds: float


class Runner:
    """Runs stages of one configuration for one date."""

    def __init__(
        self,
        config: Config,
        app_name: str,
        day: date | None,
        *,
        force: bool = False,
        lease: Lease | None = None,
        finished: dict[str, int] | None = None,
    ) -> None:
        """`finished` holds the versions that an attempt before published, by stage: they are not made once more.

        What this one publishes is added to it.
        """
        if config.tables.catalog:
            check_database(config.tables.catalog)
        self.config = config
        self.workspace = Workspace(config.workspace)
        self.workspace.check()
        self.workspace.fence = lease.fence if lease else None
        self.run_id: str | None = None
        """The run in MLflow that everything else of this run lies below."""
        self._app_name = app_name
        self._day = day
        self._force = force
        self._lease = lease
        self._finished = {} if finished is None else finished
        self._before = dict(self._finished)

    @cached_property
    def tracker(self) -> Tracker:
        """MLflow, reached at first use."""
        return Tracker(self.config, self.workspace.root)

    @cached_property
    def spark(self) -> SparkSession:
        """The session, built at first use: a run in which nothing changed needs none."""
        return build_session(self.config, self._app_name)

    def _session_of(self, stage: str) -> SparkSession:
        """The session; the jobs that this thread starts from now on have the stage's name in Spark's pages and logs."""
        self.spark.sparkContext.setJobDescription(stage)
        return self.spark

    def stop(self) -> None:
        """Stop the session if there is one."""
        if "spark" in self.__dict__:
            stop_session(self.spark)

    def cancel(self) -> None:
        """End the Spark jobs that run, from another thread."""
        if "spark" in self.__dict__:
            with suppress(Exception):
                self.spark.sparkContext.cancelAllJobs()

    def began(self, run_id: str) -> None:
        """Tell whoever looks at the lock which run this is."""
        if self.run_id is None:
            self.run_id = run_id
            if self._lease is not None:
                self._lease.name_run(run_id)

    def run(self, stage: Stage, parent: TrackedRun | None = None, *, reuse: bool = False) -> Outcome:
        """Run a stage and commit its outputs; with `reuse`, an unchanged newest commit is returned instead."""
        started = time.monotonic()
        self.workspace.check_held()
        named = self._named(stage)
        inputs = self._inputs(stage, named)
        self._check_same_origin(inputs)
        day = None if named or stage.day == "inputs" else self._day
        as_of = self._as_of({} if stage.day == "given" and day else inputs, day) if stage.dated(self.config) else None
        key = stage_key(
            stage.name,
            self.config,
            stage.config_keys,
            {name: commit.key for name, commit in inputs.items()},
            as_of.isoformat() if as_of else None,
            source_manifest(self.config) if stage.reads_source else None,
            stage.follows(self.config, self.tracker) if stage.follows else None,
        )
        newest = self.workspace.latest(stage.name)
        kept = newest is not None and (reuse or self._before.get(stage.name) == newest.version)
        if kept and newest is not None and newest.key == key:
            log.info("%s: unchanged, kept version %d", stage.name, newest.version)
            self.replace_views(newest)
            return Outcome(newest, True, time.monotonic() - started)
        commit = self._run(stage, inputs, as_of, key, parent, reuse, newest.version if newest else 0)
        seconds = time.monotonic() - started
        log.info("%s: done in %.1f s", stage.name, seconds)
        return Outcome(commit, False, seconds)

    def _run(
        self,
        stage: Stage,
        inputs: dict[str, Commit],
        as_of: datetime | None,
        key: str,
        parent: TrackedRun | None,
        reuse: bool,
        newest: int,
    ) -> Commit:
        log.info("%s: started", stage.name)
        tags = {"recsys.stage": stage.name, "recsys.key": key}
        with self.tracker.start(stage.name, parent, tags=tags) as tracked:
            self.began(tracked.run_id)
            parts: dict[str, Commit] = {}
            run_directory = self.workspace.new_run_directory(stage.name, tracked.run_id or uuid.uuid4().hex)

            def run_part(part: Stage) -> Commit:
                commit = self.run(part, tracked, reuse=reuse).commit
                os.utime(run_directory)  # still at work: not to be taken for the folder of a dead writer
                parts[part.name] = commit
                return commit

            context = StageContext(
                stage=stage.name,
                config=self.config,
                workspace=self.workspace,
                as_of=as_of,
                run_id=tracked.run_id,
                inputs=inputs,
                run_directory=run_directory,
                session=lambda: self._session_of(stage.name),
                progress=_progress(stage.name),
                tracker=self.tracker,
                tracked=tracked,
                run_part=run_part,
                force=self._force,
            )
            tracked.log_json(provenance(self.config), FILE)
            result = stage.run(context)
            tracked.log_metrics(dict(result.metrics))
            sync_tree(context.run_directory)
            commit = publish(
                self.workspace.stage_directory(stage.name),
                stage.name,
                context.run_directory,
                key=key,
                run_id=tracked.run_id,
                tables=context.tables,
                inputs={name: commit.version for name, commit in {**inputs, **parts}.items()},
                metrics=result.metrics,
                facts=result.facts,
                as_of=as_of.isoformat() if as_of else None,
                after=newest if stage.append_only(self.config) else None,
                fence=self.workspace.fence,
            )
        self._finished[stage.name] = commit.version
        self.replace_views(commit)
        return commit

    def _named(self, stage: Stage) -> Mapping[str, int]:
        return stage.reads(self.config, self.tracker, self.workspace) if stage.reads else {}

    def _inputs(self, stage: Stage, named: Mapping[str, int]) -> dict[str, Commit]:
        """The commits that a stage reads: the newest ones, but for those that it names itself."""
        return {
            name: self.workspace.version(name, named[name]) if name in named else self.workspace.require(name)
            for name in stage.upstream
        }

    def _check_same_origin(self, inputs: Mapping[str, Commit]) -> None:
        """Refuse inputs of which one was made from another version of a second one than is newest now.

        Versions of one key were made from the same by the same, so either will do.
        """
        for name, commit in inputs.items():
            for origin, version in commit.inputs.items():
                if origin in inputs and not self.workspace.same(inputs[origin], version):
                    raise UserError(
                        f"{name} was made from version {version} of {origin}, the newest is {inputs[origin].version}; "
                        f"run jobs/{name.partition('.')[0]}.py first"
                    )

    def replace_views(self, commit: Commit) -> None:
        """Also for a commit that was kept: the last run may have died before it came to its views."""
        if self.config.tables.catalog and commit.tables:
            replace_views(self.spark, self.config.tables.catalog, commit)

    def prune(self) -> None:
        """Remove old versions, except those that a registered alias, an earlier champion or a kept version needs."""
        pinned = [*pinned_versions(self.tracker), *rollback_pins(self.workspace)]
        removed = self.workspace.prune(self.config.tables.keep_versions, pinned)
        if removed:
            log.info("removed %d old run directories", len(removed))

    def _as_of(self, inputs: Mapping[str, Commit], day: date | None) -> datetime | None:
        """The end of the run's day: that of the inputs, else the date given, else that of the newest event.

        Raises UserError where the date given is not the one that an input was made for.
        """
        given = None if day is None else datetime.combine(day + timedelta(days=1), datetime.min.time())
        for name, commit in inputs.items():
            if commit.as_of is None:
                continue
            made_for = datetime.fromisoformat(commit.as_of)
            if given is not None and given != made_for:
                other = (made_for - timedelta(days=1)).date()
                raise UserError(f"--date {day}: {name} was made for {other}; run jobs/{name}.py for that date first")
            given = made_for
        if given is not None or "clean_events" not in inputs:
            return given
        newest = datetime.fromisoformat(inputs["clean_events"].facts["newest_event"])
        return datetime.combine(newest.date() + timedelta(days=1), datetime.min.time())


def _progress(stage: str) -> Callable[[str], None]:
    return lambda message: log.info("%s: %s", stage, message)
