"""Starting a network from the parameters of an earlier one, in a catalogue that has grown since.

Parameters alone are taken over: Adam's moments start at zero, the learning rate rises anew and its schedule begins
again. So it is a new training that starts elsewhere, and not the earlier one resumed. (The events of the time between
are a small part of an epoch; moments of the old loss would say little of them, and would double what is kept.)

Tables with a row an item, a user, a category, a brand or a word are grown: rows that the earlier network had keep their
values bit for bit, wherever they stand now, and the others are what a cold start draws. Everything else is taken whole.

A start is a safetensors file with `whole.<name>` for parameters that are taken whole, and for tables `rows.<name>` [n]
and `values.<name>` [n, ...]: where rows stand now, and what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from recsys_spark.errors import UserError
from recsys_spark.recommenders.bundle import file_sha256

WHOLE, ROWS, VALUES = "whole.", "rows.", "values."
SAME = (
    *("user_encoder", "event_types", "time_gaps", "layers", "heads", "item_encoders", "combine"),
    *("scorer", "dim", "max_length"),
)
"""Fields of a composition that both networks must have alike."""
SAME_SIZES = ("word_dim", "filters")
"""The same of its content."""
SAME_LANGUAGE_MODEL = ("sha256", "width", "lora_rank")
"""The same of its language model."""
ITEM_TABLES = ("item_encoder.weight", "item_encoder.parts.id.weight", "item_bias.weight")
"""Parameters with a row an item (row 0 is the padding's), as `ComposedModel` names them."""
USER_TABLES = ("user_side.encoder.weight", "user_side.encoder.seen")
"""The same of users, where the user encoder is a table."""
ATTRIBUTES = "item_encoder.parts.attributes."
CODE_TABLES = (f"{ATTRIBUTES}category", f"{ATTRIBUTES}brand", f"{ATTRIBUTES}price_band")
WORD_TABLE = "item_encoder.parts.kim_cnn.words"


def grown(parameters: Mapping[str, Tensor], moved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a start: `moved` has for each table the place [rows] of each old row in the new one, -1 if gone.

    Raises ValueError where a table has another number of rows than its places.
    """
    start = {}
    for name, tensor in sorted(parameters.items()):
        if name not in moved:
            start[f"{WHOLE}{name}"] = tensor.contiguous()
            continue
        if len(moved[name]) != len(tensor):
            raise ValueError(f"{name} has {len(tensor)} rows, and {len(moved[name])} places are given")
        known = moved[name] >= 0
        start[f"{ROWS}{name}"], start[f"{VALUES}{name}"] = moved[name][known].contiguous(), tensor[known].contiguous()
    return start


def read_parameters(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a file, mapped from it. Raises UserError where it is missing or not what was written."""
    try:
        if file_sha256(path) != sha256:
            raise UserError(f"parameters {path}: changed since they were written; set retraining.warm_start to false")
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"parameters {path}: cannot be read ({error}); set retraining.warm_start to false") from None
    return tensors


@torch.no_grad()
def take_over(model: nn.Module, start: Mapping[str, Tensor]) -> None:
    """Put a start over the parameters and buffers of a drawn model. Raises ValueError where it does not fit."""
    state = model.state_dict()
    named = {name.partition(".")[2] for name in start}
    if named != set(state):
        raise ValueError(f"the start and the network differ in {sorted(named ^ set(state))[:3]}")
    for name, tensor in state.items():
        values = start.get(f"{WHOLE}{name}", start.get(f"{VALUES}{name}"))
        assert values is not None, "a table has rows and values"
        rows = start.get(f"{ROWS}{name}")
        if (tensor.shape if rows is None else (len(rows), *tensor.shape[1:])) != values.shape:
            raise ValueError(f"the start's {name} has the shape {tuple(values.shape)}, the network's {tensor.shape}")
        if rows is None:
            tensor.copy_(values)
        else:
            tensor[rows] = values.to(tensor)
