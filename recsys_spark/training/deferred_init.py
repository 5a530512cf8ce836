"""Deferred initialisation with torchdistx's two calls, on torch's own meta device.

A module is built without memory for its parameters, and gets it where it is wanted, once. torchdistx recorded the
operations of construction and replayed them; here the modules' own `reset_parameters(generator)` draws every parameter
and computes every buffer, so that a deferred module equals one that was built at once with the same seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import nn

P = ParamSpec("P")
M = TypeVar("M", bound=nn.Module)


def deferred_init(make: Callable[P, M], *args: P.args, **kwargs: P.kwargs) -> M:
    """`make(*args, **kwargs)` with every parameter and buffer on the meta device: shapes without memory."""
    with torch.device("meta"):
        return make(*args, **kwargs)


def materialize_module(module: M, generator: torch.Generator, device: torch.device | str = "cpu") -> M:
    """Give the module its memory on `device` and draw it by `module.reset_parameters(generator)`; returns it.

    The draws come from the generator's device, so a model for a GPU that is to equal one of the CPU is materialised on
    the CPU and moved. A module without meta parameters is only drawn.
    """
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        module.to_empty(device=device)
    module.reset_parameters(generator)
    return module
