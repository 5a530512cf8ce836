"""The stage promote_model: gates, a person where one is wanted, the alias `champion`, and the record of it all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.monitoring.actions import check_publication
from recsys_spark.monitoring.live import RESTORED
from recsys_spark.pipeline import fuse
from recsys_spark.pipeline.comparison import measure
from recsys_spark.pipeline.kept import kept_stages
from recsys_spark.pipeline.keys import code_version
from recsys_spark.pipeline.serving import MODEL_NAME
from recsys_spark.pipeline.stage import Stage, StageContext, StageResult, always, never
from recsys_spark.pipeline.stages import STAGES
from recsys_spark.promotion.decisions import Champion, Pending, Request, State, decide, rolled_back_gate
from recsys_spark.promotion.gates import Gate, judge
from recsys_spark.promotion.ledger import PUBLISHING, STAGE, TABLE, Decision, append, read_decisions, state_of
from recsys_spark.tables.links import publish_again
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.aliases import CHALLENGER, CHAMPION, Registered, aliased, registered, set_champions
from recsys_spark.tracking.runs import Tracker

LINEAGE = ("data_version", "id_map_version", "split_version", "code_version", "git_revision", "run_id")


def promotion_stage(request: Request) -> Stage:
    """The decision on the challenger, or the way back, as a stage."""
    if request.rollback:
        # It reads nothing from upstream: a workspace in which something is half done must not hold it up.
        return Stage(STAGE, (), (), partial(_roll_back, request=request), dated=never, append_only=always)
    return Stage(
        name=STAGE,
        upstream=STAGES[PUBLISHING].upstream,
        config_keys=("promotion", "evaluation", "fusion", "scoring", "seed"),
        run=partial(_run, request=request),
        append_only=always,
        reads=_made_from,
        follows=_challenger,
    )


def undecided(workspace: Workspace, tracker: Tracker) -> bool:
    """Is there a challenger that is not champion and on which no decision is recorded."""
    challenger, champion = (aliased(tracker, MODEL_NAME, alias) for alias in (CHALLENGER, CHAMPION))
    if challenger is None or (champion is not None and champion.content == challenger.content):
        return False
    return all(row["challenger"] != challenger.version for row in read_decisions(workspace.latest(STAGE)))


def _made_from(config: Config, tracker: Tracker, workspace: Workspace) -> Mapping[str, int]:
    """What the challenger was made from, where nights since then kept the model that serves; else what is newest."""
    challenger = aliased(tracker, MODEL_NAME, CHALLENGER)
    return challenger.pins if challenger and _was_kept(workspace) else {}


def _was_kept(workspace: Workspace) -> bool:
    """Did the newest night make lists without training; what a roll back restored since is of an earlier one."""
    made = [commit for commit in workspace.history(PUBLISHING) if RESTORED not in commit.facts]
    return bool(made and made[-1].facts.get("kept"))


def _challenger(config: Config, tracker: Tracker) -> str | None:
    """Who asks: the same challenger is not judged twice by `run_pipeline`."""
    challenger = aliased(tracker, MODEL_NAME, CHALLENGER)
    return challenger.content if challenger else None


def _run(context: StageContext, request: Request) -> StageResult:
    challenger = aliased(context.tracker, MODEL_NAME, CHALLENGER)
    if challenger is None:
        raise UserError(f"registry: no {MODEL_NAME}@challenger to promote; run jobs/fuse_recommendations.py first")
    _check_newest(context, challenger)
    champion = aliased(context.tracker, MODEL_NAME, CHAMPION)
    state, decisions = _reconciled(context, champion)
    if champion is not None and champion.content == challenger.content:
        context.progress(f"{MODEL_NAME}/{champion.version} is champion already: nothing to decide")
        _published_by(context, champion)
        return _recorded(context, state, decisions, Decision("unchanged", challenger.version, champion.version), ())
    key = _comparison_key(context, challenger, champion)
    gates = _gates(context, request, state, key, challenger, champion)
    action = decide(gates, context.config.promotion.approval == "required", request)
    decision = Decision(
        action,
        challenger.version,
        champion.version if champion else None,
        gates,
        request.person,
        request.comment,
        _lineage(context, challenger),
    )
    for gate in gates:
        context.progress(f"gate {gate.line}")
    if action == "promoted":
        state = _promote(context, state, challenger, champion)
    else:
        state = replace(state, pending=Pending(key, tuple(gates)) if action == "waiting" else None)
    context.progress(f"{MODEL_NAME}/{challenger.version} is {action}")
    return _recorded(context, state, [*decisions, decision], decision, gates)


def _roll_back(context: StageContext, request: Request) -> StageResult:
    champion = aliased(context.tracker, MODEL_NAME, CHAMPION)
    if champion is None:
        raise UserError(f"--rollback: {MODEL_NAME} has no champion; nothing was changed")
    state, decisions = _reconciled(context, champion)
    standing = state.champions[0]
    state = state.back()
    target = state.champions[0]
    assert target.published is not None, "checked on the way back"
    lists = context.workspace.version(PUBLISHING, target.published)
    context.workspace.check_held()
    set_champions(context.tracker, _versions(target), standing.components)
    restored = publish_again(context.workspace, lists, {RESTORED: lists.version})
    state = replace(state, champions=(replace(target, published=None), *state.champions[1:]))
    context.progress(
        f"champion is {MODEL_NAME}/{target.version} again, and its lists of version {lists.version} are published as "
        f"version {restored.version}"
    )
    model = registered(context.tracker, MODEL_NAME, target.version)
    about = _lineage(context, model) if model else {}
    decision = Decision("rolled_back", target.version, champion.version, (), request.person, request.comment, about)
    return _recorded(context, state, [*decisions, decision], decision, ())


def _check_newest(context: StageContext, challenger: Registered) -> None:
    """Refuse a challenger that was made from other versions than are newest."""
    for stage, commit in context.inputs.items():
        version = challenger.pins.get(stage, 0)
        if not context.workspace.same(commit, version):
            raise UserError(
                f"{MODEL_NAME}/{challenger.version}@challenger was made from version {version} of {stage}, the newest "
                f"is {commit.version}; run jobs/fuse_recommendations.py first"
            )


def _reconciled(context: StageContext, champion: Registered | None) -> tuple[State, list[Decision]]:
    """The state with the champion that the registry names, and a row on it where that came about without this job."""
    state = state_of(context.previous)
    if champion is None or (state.standing is not None and state.standing.version == champion.version):
        return state, []
    found = Decision(
        "found",
        champion.version,
        state.standing.version if state.standing else None,
        comment="the alias was moved outside of this job, or a decision died before it was recorded",
        lineage=_lineage(context, champion),
    )
    keep = context.config.promotion.keep_champions
    before = _newest_lists(context, state.standing.version if state.standing else None)
    return state.found(_as_champion(context, champion, strict=False), before, keep), [found]


def _gates(
    context: StageContext,
    request: Request,
    state: State,
    key: str,
    challenger: Registered,
    champion: Registered | None,
) -> list[Gate]:
    """The gates' verdicts; those that a person was shown, where the person answers now."""
    if state.pending is not None and state.pending.key == key and request.person:
        context.progress("the gates are those that were recorded when it began to wait: nothing has changed since")
        gates = list(state.pending.gates)
    elif request.reject:
        gates = []
    else:
        gates = judge(measure(context, challenger, champion), context.config.promotion)
    again = rolled_back_gate(challenger.content, state, request)
    return gates + ([again] if again else [])


def _promote(context: StageContext, state: State, challenger: Registered, champion: Registered | None) -> State:
    """Move the aliases and publish the new champion's lists."""
    before = _newest_lists(context, champion.version if champion else None)
    new = _as_champion(context, challenger)
    check_publication(context.workspace)  # before the alias moves: its lists could not follow it
    context.workspace.check_held()
    set_champions(context.tracker, _versions(new), state.standing.components if state.standing else {})
    _published_by(context, challenger)
    return state.promoted(new, before, context.config.promotion.keep_champions)


def _published_by(context: StageContext, champion: Registered) -> None:
    """Publish the champion's lists, unless they are those that are published."""
    newest = context.workspace.latest(PUBLISHING)
    if context.config.fusion.use == CHALLENGER:
        context.progress("fusion.use is challenger: the published lists stay those of the newest challenger")
    elif newest is None or newest.facts.get("served_version") != champion.version or not _settled(context, newest):
        if _was_kept(context.workspace):
            for stage in kept_stages().values():
                context.run_part(replace(stage, day="inputs"))
        else:
            context.run_part(replace(STAGES[PUBLISHING], run=partial(fuse.run, take_over=True)))


def _settled(context: StageContext, newest: Commit) -> bool:
    """Were the newest lists published as the champion's, so that the next run finds nothing to do."""
    return newest.facts.get("served") == CHAMPION


def _newest_lists(context: StageContext, version: str | None) -> int | None:
    """The newest version of the lists that a champion published."""
    history = context.workspace.history(PUBLISHING) if version else []
    of_it = [commit.version for commit in history if commit.facts.get("served_version") == version]
    return of_it[-1] if of_it else None


def _as_champion(context: StageContext, model: Registered, *, strict: bool = True) -> Champion:
    """What going back to a version will need. Where not `strict`, components that are gone are left out."""
    components = {}
    for name, version in model.parts.items():
        try:
            commit = context.workspace.version(f"train_models.{name}", version)
        except UserError:
            if strict:
                raise
            continue
        components[f"recsys-{name}"] = str(commit.facts["registered_version"])
    return Champion(model.version, model.content, components, model.pins)


def _versions(champion: Champion) -> dict[str, str]:
    return {MODEL_NAME: champion.version, **champion.components}


def _comparison_key(context: StageContext, challenger: Registered, champion: Registered | None) -> str:
    """Hash of what is compared, and by what."""
    config = context.config.model_dump(mode="json")
    content = [
        [challenger.content, champion.content if champion else None],
        {name: commit.key for name, commit in context.inputs.items()},
        [config["promotion"], config["evaluation"], code_version()],
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _lineage(context: StageContext, model: Registered) -> dict[str, Any]:
    tags = {name: model.tags[name] for name in LINEAGE if name in model.tags}
    components = dict(_as_champion(context, model, strict=False).components)
    return {**tags, "content": model.content, "stages": model.pins, "components": components}


def _recorded(
    context: StageContext, state: State, decisions: Sequence[Decision], last: Decision, gates: Sequence[Gate]
) -> StageResult:
    path = context.run_directory / TABLE
    context.tables[TABLE] = append(context.previous, path, decisions, MODEL_NAME, context.run_id)
    told: Mapping[str, Any] = {
        "action": last.action,
        "passed": last.passed,
        "challenger": last.challenger,
        "champion": state.standing.version if state.standing else None,
        "champion_before": last.champion,
        "gates": [gate.to_json() for gate in gates],
    }
    context.tracked.set_tags({"recsys.decision": last.action, "recsys.challenger": last.challenger})
    context.tracked.log_json(told, "decision.json")
    metrics = {f"gate.{gate.name}": gate.value for gate in gates if gate.value is not None}
    return StageResult(metrics=metrics, facts={"state": state.to_json(), "decision": told})
