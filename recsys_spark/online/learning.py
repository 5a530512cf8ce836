"""Online learning: what new target events teach the item sides, from the champion's parameters and never far from it.

For each new event the user's side is computed from the history before it, by the champion's frozen encoder;
`online.item_steps` says what a step is. Each step takes some new events, in their order, and earlier ones again from a
reservoir, against forgetting. Everything drawn comes from (seed, batch id): a replay of the batch log in its own
boundaries gives the same parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from recsys_spark.config.online_learning import OnlineLearning
from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FusedModel
from recsys_spark.online.adjusted import Floats, Ints, Learnable, learnable
from recsys_spark.online.item_steps import ItemSteps, Samples
from recsys_spark.online.overlay import Overlay, Reservoir
from recsys_spark.online.store import StoredEvent
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.histories import SECONDS_A_DAY, RawHistory, batch_of_raw

USERS_AT_ONCE = 1024
"""Users whose histories are encoded at once."""


@dataclass(frozen=True)
class Example:
    """What a user bought at one moment, and the history before it."""

    items: Sequence[str]
    """Items of the target events, in the order in which they are learned."""
    history: Sequence[StoredEvent]
    """The events before the moment, oldest first."""
    time: float
    """Epoch seconds of the moment."""


def learn(
    model: FusedModel,
    overlay: Overlay,
    examples: Sequence[Example],
    batch_id: int,
    settings: OnlineLearning,
    seed: int,
) -> Overlay:
    """The overlay after the examples of a batch, in their order; `model` with or without changes applied.

    Pure: the same arguments give the same bytes. That a batch is learned from once is the online store's to see to.
    Raises UserError where `settings.models` names a recommender that cannot learn.
    """
    histories = [
        RawHistory(
            item_ids=[event.item_id for event in example.history],
            event_types=[event.event_type for event in example.history],
            ages_days=[max(0.0, example.time - event.event_time) / SECONDS_A_DAY for event in example.history],
            weights=[event.weight for event in example.history],
        )
        for example in examples
    ]
    batch = batch_of_raw(histories, model.vocabulary, model.event_weights)
    codes = [model.vocabulary.codes(example.items) for example in examples]
    rows = np.repeat(np.arange(len(examples)), [len(some) for some in codes])
    return learn_codes(
        model, overlay, batch, rows, np.concatenate([*codes, np.zeros(0, np.int64)]), batch_id, settings, seed
    )


def learn_codes(
    model: FusedModel,
    overlay: Overlay,
    batch: UserBatch,
    rows: Ints,
    items: Ints,
    batch_id: int,
    settings: OnlineLearning,
    seed: int,
) -> Overlay:
    """As `learn`, from histories as a UserBatch of B users, and events [N] by row 0..B-1 and code (-1: left out)."""
    learners = learners_of(model, settings)
    samples = _samples(learners, batch, rows, items)
    if samples.items.size == 0:
        return replace(overlay, batch=batch_id)
    work = ItemSteps(overlay, learners, samples.items, settings, model.num_items)
    draw = np.random.default_rng([seed, batch_id])
    reservoir = overlay.reservoir if set(overlay.reservoir.users) == set(learners) else Reservoir()
    for start in range(0, samples.items.size, settings.step_events):
        new = samples.of(slice(start, start + settings.step_events))
        again = round(settings.replay * new.items.size) if reservoir.items.size else 0
        picked = draw.integers(reservoir.items.size, size=again) if again else np.zeros(0, np.int64)
        work.step(new.joined(reservoir, picked), draw)
        reservoir = _offered(reservoir, new, settings.reservoir, draw)
    return replace(
        overlay,
        batch=batch_id,
        version=overlay.version + 1,
        codes=work.codes,
        rows=work.rows(),
        reservoir=reservoir,
    )


def learners_of(model: FusedModel, settings: OnlineLearning) -> dict[str, Learnable]:
    """The recommenders of the model that learn, in the order of their names."""
    possible = {name: learnable(model.recommenders[name]) for name in sorted(model.recommenders)}
    found = {name: own for name, own in possible.items() if own is not None}
    unknown = sorted(set(settings.models or ()) - set(found))
    if unknown:
        raise UserError(f"online.learning.models: {unknown} cannot learn; those of the model that can: {[*found]}")
    return {name: own for name, own in found.items() if settings.models is None or name in settings.models}


def _samples(learners: Mapping[str, Learnable], batch: UserBatch, rows: Ints, items: Ints) -> Samples:
    """Known items of users whom every learner can score."""
    users: dict[str, Floats] = {}
    can_B = np.ones(batch.size, dtype=bool)
    for name, own in learners.items():
        blocks = [
            own.users(batch.rows(start, min(start + USERS_AT_ONCE, batch.size)))
            for start in range(0, batch.size, USERS_AT_ONCE)
        ]
        users[name] = torch.cat([sides for sides, _ in blocks]).numpy() if blocks else np.zeros((0, 0), np.float32)
        can_B &= torch.cat([can for _, can in blocks]).numpy() if blocks else can_B
    kept = (items >= 0) & can_B[rows] & bool(learners)
    return Samples(items[kept], {name: sides[rows[kept]] for name, sides in users.items()})


def _offered(reservoir: Reservoir, new: Samples, size: int, draw: np.random.Generator) -> Reservoir:
    """The reservoir after the new samples passed by."""
    items = [*reservoir.items.tolist()]
    sources = [*range(len(items))]
    seen = reservoir.seen
    for place, item in enumerate(new.items.tolist()):
        seen += 1
        source = reservoir.items.size + place
        if len(items) < size:
            items.append(item)
            sources.append(source)
            continue
        target = int(draw.integers(seen))
        if target < size:
            items[target], sources[target] = item, source
    users = {
        name: np.concatenate([reservoir.users[name], own] if name in reservoir.users else [own])[sources]
        for name, own in new.users.items()
    }
    return Reservoir(np.array(items, dtype=np.int64), users, seen)
