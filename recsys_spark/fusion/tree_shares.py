"""TreeSHAP from tables: what each owner of features adds to the score of a row, looked up leaf by leaf.

A leaf's shares depend on a row by one thing alone: which of the splits on the way to the leaf the row follows. So they
are computed once for each of the 2 ** depth ways (as Yang 2021 does, Fast TreeSHAP), and summed over the features of
an owner; a row then costs one look-up a leaf. For a leaf of value v, whose way has m distinct features, feature j's
share is (Lundberg et al. 2018)

    v (o_j - z_j) sum over S of the others of |S|! (m - |S| - 1)! / m! * product of o_i in S * product of z_i not in S,

where o is 1 if the row follows all splits by the feature, else 0, and z is the product of the shares of training rows
that went that way there. Legend: N rows, F features, G owners, L leaves of all trees, S splits of all trees.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

MOST_CELLS = 1 << 22
"""Numbers of the table, at most: 16 MB."""
ROWS_AT_ONCE = 64
LEAVES_AT_ONCE = 64
"""Leaves that are summed in single precision, before the sums are added up in double."""
CATEGORICAL, DEFAULT_LEFT, MISSING_SHIFT, MISSING_ZERO, MISSING_NAN = 1, 2, 2, 1, 2
"""LightGBM's bits of a split's `decision_type`."""
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """A split of a tree, and what of the training rows it saw."""

    feature: int
    threshold: float
    nan_left: bool
    """Where a row goes of which the feature is not known."""
    left: int
    right: int
    """Splits; below 0 leaves, -1 being leaf 0."""


@dataclass(frozen=True)
class Tree:
    """A tree of a LightGBM model."""

    splits: Sequence[Split]
    split_rows: Sequence[int]
    leaf_rows: Sequence[int]
    values: Sequence[float]

    def rows(self, node: int) -> int:
        """Training rows that came to a split, or to a leaf (below 0)."""
        return self.split_rows[node] if node >= 0 else self.leaf_rows[-node - 1]


@dataclass(frozen=True)
class Step:
    """A split on the way to a leaf."""

    split: int
    """Its place among the splits of all trees."""
    feature: int
    left: bool
    share: float
    """Of the training rows that came to the split, those that went on this way."""


@dataclass(frozen=True)
class Leaf:
    """A leaf with the way to it."""

    value: float
    steps: tuple[Step, ...]

    @property
    def features(self) -> list[int]:
        """Each feature of the way once."""
        return list(dict.fromkeys(step.feature for step in self.steps))


@dataclass(frozen=True)
class ShareTables:
    """The trees as look-ups."""

    feature_S: Ints
    threshold_S: Floats
    nan_left_S: npt.NDArray[np.bool_]
    ways_LS: csr_matrix
    """What each split adds to the number of a leaf's way where a row goes left."""
    first_L: Floats
    """The number, among the ways of all leaves, of that of a row that goes right everywhere."""
    table_TG: Tensor
    """Float32, the shares by number; the last row is of nobody."""
    bias: Floats
    """[G] what belongs to nobody's features: the trees' mean over the training rows, with its owner."""

    @classmethod
    def of(cls, text: str, owner_F: Sequence[int], bias_owner: int) -> ShareTables | None:
        """Of a LightGBM model's text and the owner (0..G-1) of each feature.

        None where the tables would be too large, or a split is of a kind that is not read here.
        """
        trees = [_tree(fields) for fields in _blocks(text)]
        if any(tree is None for tree in trees):
            return None
        known = [tree for tree in trees if tree is not None]
        leaves, splits = _leaves(known)
        size = sum(1 << len(leaf.steps) for leaf in leaves)
        groups = max(*owner_F, bias_owner) + 1
        if size * groups > MOST_CELLS or not splits:
            return None
        bias = np.zeros(groups)
        bias[bias_owner] = sum(_mean(tree) for tree in known)
        ways_LS, first_L = _ways(leaves, len(splits))
        return cls(
            np.array([split.feature for split in splits]),
            np.array([split.threshold for split in splits]),
            np.array([split.nan_left for split in splits]),
            ways_LS,
            first_L,
            torch.from_numpy(np.vstack([_table(leaves, owner_F, groups), np.zeros(groups)])).float(),
            bias,
        )

    def shares(self, features_NF: npt.NDArray[np.float32]) -> Floats:
        """[N, G] what each owner adds to each row's score; they add up to it, to single precision."""
        found = np.tile(self.bias, (len(features_NF), 1))
        leaves, nothing = len(self.first_L), len(self.table_TG) - 1
        portions = -(-leaves // LEAVES_AT_ONCE)
        for start in range(0, len(features_NF), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            values_Sn = features_NF[some].T[self.feature_S].astype(np.float64)
            left_Sn = (values_Sn <= self.threshold_S[:, None]) | (np.isnan(values_Sn) & self.nan_left_S[:, None])
            ways_Ln = self.ways_LS @ left_Sn.astype(np.float64) + self.first_L[:, None]
            ways_nL = np.full((left_Sn.shape[1], portions * LEAVES_AT_ONCE), nothing)
            ways_nL[:, :leaves] = ways_Ln.T
            bags = torch.from_numpy(ways_nL.reshape(-1, LEAVES_AT_ONCE))
            sums = torch.nn.functional.embedding_bag(bags, self.table_TG, mode="sum").double()
            found[some] += sums.view(len(ways_nL), portions, -1).sum(dim=1).numpy()
        return found


def _blocks(text: str) -> list[dict[str, str]]:
    """The fields of each tree."""
    return [
        dict(line.split("=", 1) for line in block.split("\n\n", 1)[0].split("\n") if "=" in line)
        for block in text.split("\nTree=")[1:]
    ]


def _tree(fields: Mapping[str, str]) -> Tree | None:
    """A tree of its fields; None where it has splits that are not read here."""

    def numbers(name: str) -> list[float]:
        return [float(word) for word in fields.get(name, "").split()]

    def counts(name: str) -> list[int]:
        return [int(word) for word in fields.get(name, "").split()]

    kinds = counts("decision_type")
    if (
        any(kind & CATEGORICAL or kind >> MISSING_SHIFT == MISSING_ZERO for kind in kinds)
        or fields.get("is_linear") == "1"
    ):
        return None
    columns = (counts("split_feature"), numbers("threshold"), kinds, counts("left_child"), counts("right_child"))
    splits = [
        Split(feature, threshold, _nan_left(kind, threshold), left, right)
        for feature, threshold, kind, left, right in zip(*columns, strict=True)
    ]
    return Tree(splits, counts("internal_count"), counts("leaf_count") or [1], numbers("leaf_value"))


def _nan_left(kind: int, threshold: float) -> bool:
    """A split that knows no missing values takes them for 0."""
    return bool(kind & DEFAULT_LEFT) if kind >> MISSING_SHIFT == MISSING_NAN else threshold >= 0.0


def _leaves(trees: Sequence[Tree]) -> tuple[list[Leaf], list[Split]]:
    """All leaves but those of trees without a split, and all splits."""
    leaves: list[Leaf] = []
    splits: list[Split] = []
    for tree in trees:
        waiting: list[tuple[int, tuple[Step, ...]]] = [(0, ())] if tree.splits else []
        while waiting:
            node, steps = waiting.pop()
            if node < 0:
                leaves.append(Leaf(tree.values[-node - 1], steps))
                continue
            split = tree.splits[node]
            for child, left in ((split.left, True), (split.right, False)):
                share = tree.rows(child) / tree.rows(node)
                waiting.append((child, (*steps, Step(len(splits) + node, split.feature, left, share))))
        splits += tree.splits
    return leaves, splits


def _mean(tree: Tree) -> float:
    """The tree's mean over its training rows."""
    return float(np.average(tree.values, weights=tree.leaf_rows))


def _ways(leaves: Sequence[Leaf], splits: int) -> tuple[csr_matrix, Floats]:
    """How a leaf's number follows from where a row goes at each split: bit s is set where it follows step s."""
    values, columns, offsets, first, base = [], [], [0], [], 0
    for leaf in leaves:
        first.append(base + sum(1 << place for place, step in enumerate(leaf.steps) if not step.left))
        values += [float((1 if step.left else -1) << place) for place, step in enumerate(leaf.steps)]
        columns += [step.split for step in leaf.steps]
        offsets.append(len(columns))
        base += 1 << len(leaf.steps)
    entries = (np.array(values), np.array(columns), np.array(offsets))
    return csr_matrix(entries, shape=(len(leaves), splits)), np.array(first, dtype=np.float64)


def _table(leaves: Sequence[Leaf], owner_F: Sequence[int], groups: int) -> Floats:
    """[ways of all leaves, G] the shares, leaf after leaf; leaves with as many features are worked on together."""
    sizes = [1 << len(leaf.steps) for leaf in leaves]
    starts = np.cumsum([0, *sizes])
    made = np.zeros((int(starts[-1]), groups))
    alike: dict[int, list[int]] = defaultdict(list)
    for place, leaf in enumerate(leaves):
        alike[len(leaf.features)].append(place)
    for places in alike.values():
        z_nM = np.array([_shares_of(leaves[place]) for place in places])
        shares_nPM = _shapley(z_nM) * np.array([leaves[place].value for place in places])[:, None, None]
        for place, shares_PM in zip(places, shares_nPM, strict=True):
            leaf = leaves[place]
            by_owner = np.zeros((len(shares_PM), groups))
            for column, feature in enumerate(leaf.features):
                by_owner[:, owner_F[feature]] += shares_PM[:, column]
            made[starts[place] : starts[place + 1]] = by_owner[_followed(leaf)]
    return made


def _shares_of(leaf: Leaf) -> list[float]:
    """The z of each distinct feature."""
    shares = dict.fromkeys(leaf.features, 1.0)
    for step in leaf.steps:
        shares[step.feature] *= step.share
    return list(shares.values())


def _followed(leaf: Leaf) -> Ints:
    """[2 ** steps] of each way the features all of whose splits it follows, as the bits of a number."""
    ways = np.arange(1 << len(leaf.steps))
    found = np.zeros(len(ways), dtype=np.int64)
    for column, feature in enumerate(leaf.features):
        bits = sum(1 << place for place, step in enumerate(leaf.steps) if step.feature == feature)
        found |= ((ways & bits) == bits).astype(np.int64) << column
    return found


def _shapley(z_nM: Floats) -> Floats:
    """[n, 2 ** M, M] the shares of M features in a leaf of value 1, for each set of features that are followed."""
    count = z_nM.shape[1]
    o_PM = (np.arange(1 << count)[:, None] >> np.arange(count)) & 1
    weights = [factorial(size) * factorial(count - size - 1) / factorial(count) for size in range(count)]
    shares = np.empty((len(z_nM), 1 << count, count))
    for feature in range(count):
        sums = np.zeros((len(z_nM), 1 << count, count))  # by the size of S: sums of products over all S of that size
        sums[:, :, 0] = 1.0
        for other in range(count):
            if other != feature:
                outside = sums * z_nM[:, None, other, None]
                outside[:, :, 1:] += sums[:, :, :-1] * o_PM[None, :, other, None]
                sums = outside
        shares[:, :, feature] = (o_PM[None, :, feature] - z_nM[:, None, feature]) * (sums @ weights)
    return shares
