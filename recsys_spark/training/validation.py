"""Early stopping's measure: NDCG@K on the valid users, ranking the whole catalogue.

Where lists drop repeats, the items that the user had a target event with, as far as the model sees the history, are out
of the ranking and of the targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from recsys_spark.models.history_scorer import HistoryScorer
from recsys_spark.models.packed import History, last_places
from recsys_spark.training.pairs import seconds_before
from recsys_spark.training.processes import Processes

VALID_COLUMNS = (
    "items",
    "times",
    "length",
    "row_weight",
    "event_types",
    "user_index",
    "targets",
    "target_count",
)


def mean_ndcg(
    scorer: HistoryScorer,
    batches: Iterable[Mapping[str, Tensor]],
    k: int,
    processes: Processes,
    block_bytes: int,
    dropped_types: tuple[int, ...] = (),
) -> float | None:
    """The mean NDCG@K over the valid users of all processes, each process having gone through its own batches.

    Items with earlier events of `dropped_types` count as repeats, which lists do not hold. None where there are no
    valid users, or none who want anything else. `block_bytes` bounds the scores [B, I] that are held at once.
    """
    gained, users = 0.0, 0.0
    rows = max(1, block_bytes // (4 * scorer.biases_I.numel()))
    for batch in batches:
        real_B = torch.as_tensor(batch["row_weight"]) > 0
        real = {name: torch.as_tensor(batch[name])[real_B].to(processes.device) for name in VALID_COLUMNS}
        if dropped_types:
            real = _wanting_new(real, dropped_types)
        for start in range(0, len(real["length"]), rows):
            block = {name: values[start : start + rows] for name, values in real.items()}
            ndcg_B = _ndcg(scorer, block, k)
            gained += float(ndcg_B.sum())
            users += ndcg_B.numel()
    gained, users = processes.total(gained, users)
    return gained / users if users else None


@torch.no_grad()
def _ndcg(scorer: HistoryScorer, valid: Mapping[str, Tensor], k: int) -> Tensor:
    """NDCG@K [B] of the rows' distinct target tokens [B, T], padded with 0; the ideal puts min(K, targets) first.

    Users that the model cannot score gain nothing.
    """
    user_index_B = valid["user_index"].to(torch.int64)
    known_B = scorer.user_side.known(user_index_B, valid["length"])
    scores_BI = scorer.matrix(_users(scorer, valid, torch.where(known_B, user_index_B, 0)))
    if "repeats" in valid:
        tokens_BL = valid["repeats"].to(torch.int64)
        hidden_BT = scores_BI.new_zeros(scores_BI.shape[0], scores_BI.shape[1] + 1)
        scores_BI += hidden_BT.scatter_(1, tokens_BL, -torch.inf)[:, 1:]  # token 0, the padding, is no item
    top_BK = scores_BI.topk(min(k, scores_BI.shape[1]), dim=1).indices + 1
    hits_BK = (top_BK[:, :, None] == valid["targets"][:, None, :]).any(dim=2) & known_B[:, None]
    discounts_K = 1.0 / torch.log2(torch.arange(k, device=scores_BI.device, dtype=torch.float64) + 2.0)
    gains_B = (hits_BK * discounts_K[: top_BK.shape[1]]).sum(dim=1)
    return gains_B / discounts_K.cumsum(0)[valid["target_count"].to(torch.int64).clamp(min=1, max=k) - 1]


def _wanting_new(valid: Mapping[str, Tensor], types: tuple[int, ...]) -> dict[str, Tensor]:
    """The rows with their `repeats` (tokens [B, L], 0 for none) and without the targets that are among them.

    Rows that have no other target are left out.
    """
    targets_BT = valid["targets"]
    of_types_BL = torch.isin(valid["event_types"], torch.tensor(types, device=targets_BT.device))
    repeats_BL = valid["items"] * of_types_BL
    repeated_BT = (targets_BT[:, :, None] == repeats_BL[:, None, :]).any(dim=2)
    kept_BT = targets_BT.masked_fill(repeated_BT, 0)
    count_B = (kept_BT > 0).sum(dim=1)
    rows = {**valid, "targets": kept_BT, "target_count": count_B, "repeats": repeats_BL}
    return {name: values[count_B > 0] for name, values in rows.items()}


def _users(scorer: HistoryScorer, valid: Mapping[str, Tensor], user_index_B: Tensor) -> Tensor:
    """User sides [B, D] from the last events of left-aligned rows."""
    size, width = valid["items"].shape
    rows_B = torch.arange(size, device=user_index_B.device)
    index_P, rows = last_places(rows_B * width, valid["length"].to(torch.int64), scorer.user_side.max_length)
    history = History(
        rows=rows,
        event_types_P=valid["event_types"].flatten()[index_P].to(torch.int64),
        gaps_P=seconds_before(valid["times"]).flatten()[index_P],
        users_U=user_index_B,
        user_B=rows_B,
    )
    return scorer.users(valid["items"].flatten()[index_P].to(torch.int64), history)
