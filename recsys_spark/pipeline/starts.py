"""Which earlier models a fit may start from, without a look at what it is measured on.

A fit of parameters before a cut may start from a champion only where the whole of that champion's run, its valid and
test windows with it, ended by the cut: a model that was fitted or chosen on later events would bring them along. Of
these it takes the newest, which is the one that served when the cut was today. So `select` and `test` are evaluated as
one would have trained at their cuts, and `publish` starts from the newest champion of an earlier date.
"""

from __future__ import annotations

from datetime import UTC, datetime

from recsys_spark.errors import UserError
from recsys_spark.fitting.inputs import FitInputs
from recsys_spark.fitting.neural import PARAMETERS, WARM_FROM
from recsys_spark.fitting.start import Start
from recsys_spark.pipeline.serving import MODEL_NAME, made_here
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.promotion.ledger import STAGE as PROMOTE
from recsys_spark.promotion.ledger import state_of
from recsys_spark.tables.workspace import Workspace
from recsys_spark.tracking.aliases import CHAMPION, Registered, aliased, registered

DATASETS, FEATURES = "build_datasets", "fit_features"
SOURCE = "publish"
"""The fit whose parameters are taken: it has learned from all of its run's events."""


def starts_of(context: StageContext, inputs: FitInputs) -> list[Start]:
    """What the fit may start from, the newest first.

    Where `select` found nothing, neither do the fits that take over what it settled: what is published is trained as
    what was evaluated.
    """
    if inputs.frozen and WARM_FROM not in inputs.frozen:
        return []
    # Of the run's own date there may be a champion already, where it is run again: it must not start from itself.
    cut_time = inputs.cut_time - 1 if inputs.fit == SOURCE else inputs.cut_time
    found = [(end, start) for end, start in _all(context, inputs.name) if end <= cut_time]
    starts = [start for _, start in sorted(found, key=lambda each: each[0], reverse=True)]
    if not starts:
        cut = datetime.fromtimestamp(inputs.cut_time, UTC).date()
        inputs.progress(f"starts cold: no champion of data before {cut} left parameters of {inputs.name}")
    return starts


def _all(context: StageContext, name: str) -> list[tuple[int, Start]]:
    """Starts of the champions that there were, each with the end of its data in epoch seconds."""
    champion = aliased(context.tracker, MODEL_NAME, CHAMPION)
    earlier = [each.version for each in state_of(context.workspace.latest(PROMOTE)).champions]
    known = {version: registered(context.tracker, MODEL_NAME, version) for version in earlier}
    if champion is not None:
        known[champion.version] = champion
    found = [_start(context.workspace, model, name) for model in known.values() if model is not None]
    return [each for each in found if each is not None]


def _start(workspace: Workspace, model: Registered, name: str) -> tuple[int, Start] | None:
    """The start that a registered model gives, None where it has none or was made elsewhere."""
    datasets = made_here(workspace, model, DATASETS)
    if datasets is None or datasets.as_of is None:
        return None
    try:
        part = workspace.version(f"train_models.{name}", model.parts.get(name, 0))
        described = part.inputs.get(FEATURES)
        features = workspace.version(FEATURES, described) if described is not None else None
    except UserError:
        return None
    sha256 = part.facts["fits"].get(SOURCE, {}).get("parameters_sha256")
    if sha256 is None:
        return None
    start = Start(
        name=f"{MODEL_NAME}/{model.version}",
        bundle=part.path(SOURCE),
        parameters=part.path(PARAMETERS),
        sha256=sha256,
        features=features.path("features") / SOURCE if features is not None else None,
    )
    return int(datetime.fromisoformat(datasets.as_of).replace(tzinfo=UTC).timestamp()), start
