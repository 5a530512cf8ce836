"""Online learning: steps on the item sides by new target events, from the champion's parameters and never far from it.

A sample is a user's side u, by the champion's frozen encoder from the history before the event, and the event's item.
For networks a step lowers the sampled softmax loss over the item and N sampled negatives,

    -log( exp(s_i) / (exp(s_i) + sum_n exp(s_n - log m_n)) ),   s_j = u . (v_j + d_j) + b_j + c_j,

where d, c are learned and m_n is how often the item n is expected among the N: half are drawn from the items that were
targets since the publication, half from the catalogue (the log-Q correction, Bengio and Senecal 2008, makes the sum
that over the whole catalogue, on average). For factors it lowers (s_i - 1)^2 / 2 + sum_n s_n^2 / 2N. Negatives that are
the sample's target do not count. Rows of items that never were a target stay: what is kept is of T rows alone.

AdaGrad (Duchi, Hazan and Singer 2011) keeps one sum a row and one a bias, d -= rate g / sqrt(start + sum of mean(g^2)).
After each step rows are projected onto balls around the champion: |d_i| <= max_change |v_i|, |c_i| <= max_bias_change.

Everything drawn comes from (seed, batch id), so that a replay of the batch log in its own boundaries gives the same
parameters. Legend: S samples of a step, N negatives, T rows, D width of vectors, E width of a user's side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from recsys_spark.config.online_learning import OnlineLearning
from recsys_spark.errors import UserError
from recsys_spark.fusion.model import FusedModel
from recsys_spark.online.adjusted import Floats, Ints, Learnable, learnable
from recsys_spark.online.overlay import Overlay, Reservoir, Rows
from recsys_spark.online.store import StoredEvent
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.histories import SECONDS_A_DAY, RawHistory, batch_of_raw

Doubles = npt.NDArray[np.float64]
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
    work = _Work(overlay, learners, samples.items, settings, model.num_items)
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


@dataclass(frozen=True)
class _Samples:
    """Targets [S], and the users' sides [S, E] by recommender."""

    items: Ints
    users: Mapping[str, Floats]

    def of(self, some: slice) -> _Samples:
        return _Samples(self.items[some], {name: users[some] for name, users in self.users.items()})

    def joined(self, reservoir: Reservoir, picked: Ints) -> _Samples:
        """These, and some of the reservoir behind them."""
        if not picked.size:
            return self
        users = {name: np.concatenate([own, reservoir.users[name][picked]]) for name, own in self.users.items()}
        return _Samples(np.concatenate([self.items, reservoir.items[picked]]), users)


def _samples(learners: Mapping[str, Learnable], batch: UserBatch, rows: Ints, items: Ints) -> _Samples:
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
    return _Samples(items[kept], {name: sides[rows[kept]] for name, sides in users.items()})


def _offered(reservoir: Reservoir, new: _Samples, size: int, draw: np.random.Generator) -> Reservoir:
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


class _Work:
    """The rows while a batch is learned, in double precision."""

    def __init__(
        self,
        overlay: Overlay,
        learners: Mapping[str, Learnable],
        targets: Ints,
        settings: OnlineLearning,
        num_items: int,
    ) -> None:
        self.codes: Ints = np.union1d(overlay.codes, targets)
        self._settings = settings
        self._num_items = num_items
        self._learners = learners
        self._rows = {name: _grown(overlay, name, own, self.codes) for name, own in learners.items()}
        codes = torch.from_numpy(self.codes)
        self._bounds = {
            name: settings.max_change * np.linalg.norm(own.vectors_ID[codes].double().numpy(), axis=1)
            for name, own in learners.items()
            if own.vectors_ID is not None
        }

    def rows(self) -> dict[str, Rows]:
        return {name: Rows(*(part.astype(np.float32) for part in parts)) for name, parts in self._rows.items()}

    def step(self, samples: _Samples, draw: np.random.Generator) -> None:
        """One step of every learner, on the same negatives."""
        negatives, expected = drawn_negatives(draw, self.codes, self._num_items, self._settings.negatives)
        row_S = np.searchsorted(self.codes, samples.items)
        row_N = np.searchsorted(self.codes, negatives).clip(max=self.codes.size - 1)
        kept_N = self.codes[row_N] == negatives
        for name, own in self._learners.items():
            users_SE = samples.users[name].astype(np.float64)
            scores_S, scores_SN = _scores(own, samples.users[name], samples.items, negatives)
            vectors, biases = self._rows[name][:2]
            scores_S = scores_S + biases[row_S]
            scores_SN = scores_SN + biases[row_N] * kept_N
            if own.width:
                scores_S += np.einsum("sd,sd->s", users_SE, vectors[row_S])
                scores_SN += (users_SE @ vectors[row_N].T) * kept_N
            hits_SN = samples.items[:, None] == negatives[None, :]
            slope_S, slope_SN = slopes(own.loss, scores_S, scores_SN, expected, hits_SN)
            self._move(name, own, users_SE, (row_S, slope_S), (row_N, slope_SN * kept_N))

    def _move(
        self,
        name: str,
        own: Learnable,
        users_SE: Doubles,
        targets: tuple[Ints, Doubles],
        negatives: tuple[Ints, Doubles],
    ) -> None:
        """Down the gradient, given by the slopes of the targets [S] and the negatives [S, N] in their rows."""
        (row_S, slope_S), (row_N, slope_SN) = targets, negatives
        vectors, biases, vector_squares, bias_squares = self._rows[name]
        rate = self._settings
        if own.biases and rate.bias_learning_rate:
            gradient_T = np.zeros(self.codes.size)
            np.add.at(gradient_T, row_S, slope_S)
            np.add.at(gradient_T, row_N, slope_SN.sum(axis=0))
            bias_squares += gradient_T**2
            biases -= rate.bias_learning_rate * gradient_T / self._divisor(bias_squares)
            np.clip(biases, -rate.max_bias_change, rate.max_bias_change, out=biases)
        if own.width and rate.learning_rate:
            gradient_TD = np.zeros(vectors.shape)
            np.add.at(gradient_TD, row_S, slope_S[:, None] * users_SE)
            np.add.at(gradient_TD, row_N, slope_SN.T @ users_SE)
            vector_squares += (gradient_TD**2).mean(axis=1)
            vectors -= rate.learning_rate * gradient_TD / self._divisor(vector_squares)[:, None]
            lengths_T = np.linalg.norm(vectors, axis=1)
            vectors *= np.minimum(1.0, self._bounds[name] / np.maximum(lengths_T, 1e-300))[:, None]

    def _divisor(self, squares_T: Doubles) -> Doubles:
        if self._settings.method == "sgd":
            return np.ones_like(squares_T)
        return np.sqrt(self._settings.start_squares + squares_T)


def _scores(own: Learnable, users_SE: Floats, items: Ints, negatives: Ints) -> tuple[Doubles, Doubles]:
    """The champion's scores [S] of the targets and [S, N] of the negatives."""
    users, codes = torch.from_numpy(users_SE), torch.from_numpy(items)
    shared = torch.from_numpy(negatives).expand(len(items), -1)
    with torch.no_grad():
        targets, others = own.pairs(users, codes[:, None])[:, 0], own.pairs(users, shared)
    return targets.double().numpy(), others.double().numpy()


def _grown(overlay: Overlay, name: str, own: Learnable, codes: Ints) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """The parts of a recommender's rows for more items, in double precision; zeros where an item is new."""
    shapes = ((codes.size, own.width), (codes.size,), (codes.size,), (codes.size,))
    vectors, biases, vector_squares, bias_squares = (np.zeros(shape) for shape in shapes)
    parts = (vectors, biases, vector_squares, bias_squares)
    if name in overlay.rows:
        place = np.searchsorted(codes, overlay.codes)
        known = overlay.rows[name]
        for part, value in zip(
            parts, (known.vectors, known.biases, known.vector_squares, known.bias_squares), strict=True
        ):
            part[place] = value
    return vectors, biases, vector_squares, bias_squares


def drawn_negatives(draw: np.random.Generator, active: Ints, num_items: int, count: int) -> tuple[Ints, Doubles]:
    """`count` codes, half of them of the items `active`, half of all; and how often each is expected among them [N]."""
    half = count // 2
    codes = np.concatenate(
        [active[draw.integers(active.size, size=half)], draw.integers(num_items, size=count - half)]
    ).astype(np.int64)
    expected = np.full(count, (count - half) / num_items) + np.isin(codes, active) * (half / active.size)
    return codes, expected


def slopes(
    loss: str, scores_S: Doubles, scores_SN: Doubles, expected_N: Doubles, hits_SN: npt.NDArray[np.bool_]
) -> tuple[Doubles, Doubles]:
    """Derivatives of the loss by the scores of the targets [S] and of the negatives [S, N]; 0 where these are hits."""
    if loss == "squared":
        return scores_S - 1.0, np.where(hits_SN, 0.0, scores_SN) / scores_SN.shape[1]
    logits_SN = np.where(hits_SN, -np.inf, scores_SN - np.log(expected_N))
    top_S = np.maximum(scores_S, logits_SN.max(axis=1))
    target_S, others_SN = np.exp(scores_S - top_S), np.exp(logits_SN - top_S[:, None])
    total_S = target_S + others_SN.sum(axis=1)
    return target_S / total_S - 1.0, others_SN / total_S[:, None]
