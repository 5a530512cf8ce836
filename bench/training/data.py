"""Histories for the training benchmarks: read, split, drawn, and ranked lists written. Needs numpy alone.

    python bench/training/data.py --users 4000 --items 12101 --length 200 --out histories-200.txt

A file has a line a user: the user's number, then items' numbers (1 and up) in time order, between blanks. Of each
history the last item is test and the one before it valid, so training sees all but the last two. Drawn histories have
`--length` + 3 items each, so that every training row has that many (history, next item) pairs. Something can be learnt
of them: a user moves among four groups of fifty items, half of the time to the item that follows in the group. Valid
and test go on like that among what the user has not seen, since lists leave out what was seen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LIST_LENGTH = 100
GROUP = 50
Lists = dict[int, list[int]]
Ints = NDArray[np.int64]


class Split(NamedTuple):
    """Leave-one-out: what training may see, and the item that valid asks for."""

    train: Lists
    valid: dict[int, int]


def read_histories(path: Path) -> Lists:
    """User to items in time order. Raises ValueError for a line of less than two numbers."""
    histories: Lists = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            values = [int(value) for value in line.split()]
            if len(values) < 2:
                raise ValueError(f"{path}, line {number}: a user and at least one item are needed")
            histories[values[0]] = values[1:]
    return histories


def split_last(histories: Lists) -> Split:
    """Without test; users of less than four items leave nothing to train and are left out."""
    whole = {user: items for user, items in histories.items() if len(items) > 3}
    return Split({user: x[:-2] for user, x in whole.items()}, {user: x[-2] for user, x in whole.items()})


def num_items(histories: Lists) -> int:
    """The largest item number."""
    return max(max(items) for items in histories.values())


def top_items(scores_BI: NDArray[np.float32], seen: list[list[int]]) -> Ints:
    """[B, LIST_LENGTH] items of the highest scores, best first; column i of the scores is item i + 1.

    Items that the user has seen are left out, also where that makes the list shorter (0 stands at its end).
    """
    scores_BI = scores_BI.copy()
    for row, items in zip(scores_BI, seen, strict=True):
        row[np.asarray(items) - 1] = -np.inf
    kept = min(LIST_LENGTH, scores_BI.shape[1])
    places_BK = np.argpartition(-scores_BI, kept - 1, axis=1)[:, :kept]
    order_BK = np.argsort(-np.take_along_axis(scores_BI, places_BK, axis=1), axis=1, kind="stable")
    places_BK = np.take_along_axis(places_BK, order_BK, axis=1)
    return np.where(np.isfinite(np.take_along_axis(scores_BI, places_BK, axis=1)), places_BK + 1, 0)


def write_lists(folder: Path, epoch: int, users: list[int], items_UK: Ints) -> None:
    """The lists that a model makes after an epoch."""
    np.savez_compressed(folder / f"lists-{epoch:03}.npz", users=np.asarray(users), items=items_UK.astype(np.int64))


def draw(users: int, items: int, length: int, seed: int) -> Lists:
    """Histories of length + 3 items each, of which the last two are new to their user.

    Raises ValueError where a user has seen so much of the catalogue that two further items are not left.
    """
    random = np.random.default_rng(seed)
    own_UG = random.integers(items, size=(users, 4)) // GROUP * GROUP
    drawn_UL = np.zeros((users, length + 3), dtype=np.int64)
    last_U = own_UG[:, 0]
    for place in range(length + 1):
        follow_U = (random.random(users) < 0.5) & (place > 0)
        group_U = own_UG[np.arange(users), random.integers(own_UG.shape[1], size=users)]
        popular_U = np.minimum(random.geometric(0.08, size=users) - 1, GROUP - 1)
        last_U = np.where(follow_U, last_U // GROUP * GROUP + (last_U + 1) % GROUP, group_U + popular_U) % items
        drawn_UL[:, place] = last_U + 1
    for row, own_G in zip(drawn_UL, own_UG, strict=True):
        for place in (length + 1, length + 2):
            row[place] = 1 + _unseen_item(row[:place] - 1, own_G, items, random)
    return {user + 1: row.tolist() for user, row in enumerate(drawn_UL)}


def _unseen_item(seen: Ints, own_G: Ints, items: int, random: np.random.Generator) -> int:
    """Half of the time the next unseen item of the last one's group, else one of the user's groups by popularity.

    Where the user has seen all of the groups it is any unseen item.
    """
    last, places = int(seen[-1]), np.arange(GROUP)
    following = (last // GROUP * GROUP + (last + 1 + places) % GROUP) % items
    left = following[~np.isin(following, seen)]
    if random.random() < 0.5 and len(left):
        return int(left[0])
    own = (own_G[:, None] + places).ravel() % items
    weights = np.where(np.isin(own, seen), 0.0, np.tile(0.92**places, len(own_G)))
    if weights.any():
        return int(random.choice(own, p=weights / weights.sum()))
    left = np.setdiff1d(np.arange(items), seen)
    if not len(left):
        raise ValueError(f"{items} items are too few: a user has seen them all before test")
    return int(random.choice(left))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=4000)
    parser.add_argument("--items", type=int, default=12101)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    histories = draw(arguments.users, arguments.items, arguments.length, arguments.seed)
    lines = (" ".join(map(str, [user, *items])) for user, items in histories.items())
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
