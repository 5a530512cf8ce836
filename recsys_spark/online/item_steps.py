"""The steps of online learning on item sides: gradients of sampled losses, AdaGrad, and the ball around the champion.

A sample is a user's side u, by the champion's frozen encoder, and the item of the event. For networks a step lowers the
sampled softmax loss over the item and N sampled negatives,

    -log( exp(s_i) / (exp(s_i) + sum_n exp(s_n - log m_n)) ),   s_j = u . (v_j + d_j) + b_j + c_j,

where d, c are learned and m_n is how often the item n is expected among the N: half are drawn from the items that were
targets since the publication, half from the catalogue (the log-Q correction, Bengio and Senecal 2008, makes the sum
that over the whole catalogue, on average). For factors it lowers (s_i - 1)^2 / 2 + sum_n s_n^2 / 2N. Negatives that are
the sample's target do not count. Rows of items that never were a target stay: what is kept is of T rows alone.

AdaGrad (Duchi, Hazan and Singer 2011) keeps one sum a row and one a bias, d -= rate g / sqrt(start + sum of mean(g^2)).
After each step rows are projected onto balls around the champion: |d_i| <= max_change |v_i|, |c_i| <= max_bias_change.

Legend: S samples of a step, N negatives, T rows, D width of vectors, E width of a user's side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from recsys_spark.config.online_learning import OnlineLearning
from recsys_spark.online.adjusted import Floats, Ints, Learnable
from recsys_spark.online.overlay import Overlay, Reservoir, Rows

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """Targets [S], and the users' sides [S, E] by recommender."""

    items: Ints
    users: Mapping[str, Floats]

    def of(self, some: slice) -> Samples:
        """Some of them."""
        return Samples(self.items[some], {name: users[some] for name, users in self.users.items()})

    def joined(self, reservoir: Reservoir, picked: Ints) -> Samples:
        """These, and some of the reservoir behind them."""
        if not picked.size:
            return self
        users = {name: np.concatenate([own, reservoir.users[name][picked]]) for name, own in self.users.items()}
        return Samples(np.concatenate([self.items, reservoir.items[picked]]), users)


class ItemSteps:
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
        """What is kept of them."""
        return {name: Rows(*(part.astype(np.float32) for part in parts)) for name, parts in self._rows.items()}

    def step(self, samples: Samples, draw: np.random.Generator) -> None:
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
