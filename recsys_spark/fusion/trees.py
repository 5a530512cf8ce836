"""The stacked fusion's trees: a LightGBM ranker as its own text, no pickle. Legend: N candidates, F features."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from recsys_spark.errors import UserError
from recsys_spark.fusion.tree_shares import ShareTables

if TYPE_CHECKING:
    from lightgbm import Booster


@dataclass(frozen=True)
class Trees:
    """A fitted ranker. It is parsed at its first use, so that whoever only ships it needs no LightGBM."""

    text: str

    def __reduce__(self) -> tuple[type[Trees], tuple[str]]:
        """Tasks are sent the text alone."""
        return Trees, (self.text,)

    @classmethod
    def added_up(cls, boosters: Sequence[Booster]) -> Trees:
        """The trees of boosters on the same columns, one after the other: scores and contributions are sums."""
        texts = [booster.model_to_string() for booster in boosters]
        head, first = texts[0].split("Tree=0\n", 1)
        tail = first[first.index("end of trees") :]
        trees = [
            tree
            for text in texts
            for tree in re.split(r"^Tree=\d+\n", text[: text.index("end of trees")], flags=re.MULTILINE)[1:]
        ]
        blocks = [f"Tree={number}\n{tree}" for number, tree in enumerate(trees)]
        sizes = " ".join(str(len(block.encode())) for block in blocks)
        return cls(re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", head, flags=re.MULTILINE) + "".join(blocks) + tail)

    @property
    def features(self) -> tuple[str, ...]:
        """The F names of the columns that it was trained on."""
        named = re.search(r"^feature_names=(.*)$", self.text, re.MULTILINE)
        if named is None:
            raise UserError("the stacked fusion's trees are damaged; run jobs/evaluate_models.py again")
        return tuple(named.group(1).split(" "))

    def scores(self, features_NF: Tensor) -> Tensor:
        """[N] float32, higher is better; each row's for itself, whatever stands beside it."""
        if not len(features_NF):
            return torch.zeros(0)
        threads = torch.get_num_threads()
        return torch.from_numpy(np.asarray(self._booster.predict(features_NF.numpy(), num_threads=threads))).float()

    def contributions(self, features_NF: Tensor) -> Tensor:
        """[N, F+1] float64 TreeSHAP (Lundberg et al. 2018): each feature's share of the score, and last the bias."""
        width = features_NF.shape[1] + 1
        if not len(features_NF):
            return torch.zeros(0, width, dtype=torch.float64)
        threads = torch.get_num_threads()
        found = self._booster.predict(features_NF.numpy(), pred_contrib=True, num_threads=threads)
        return torch.from_numpy(np.asarray(found, dtype=np.float64).reshape(-1, width))

    def shares(self, features_NF: Tensor, owners: tuple[int, ...]) -> Tensor:
        """[N, G] float64: the contributions, summed by the owner 0..G-1 of each of the F features and of the bias."""
        if owners not in self._tables:
            self._tables[owners] = ShareTables.of(self.text, owners[:-1], owners[-1])
        tables = self._tables[owners]
        if tables is not None:
            return torch.from_numpy(tables.shares(features_NF.numpy()))
        shares = torch.zeros(len(features_NF), max(owners) + 1, dtype=torch.float64)
        return shares.index_add_(1, torch.tensor(owners), self.contributions(features_NF))

    @cached_property
    def _tables(self) -> dict[tuple[int, ...], ShareTables | None]:
        """By owners, made at first use; None where LightGBM itself has to be asked."""
        return {}

    @cached_property
    def _booster(self) -> Booster:
        from lightgbm import Booster  # here: it takes a second to import, and other fusions do without it

        return Booster(model_str=self.text)
