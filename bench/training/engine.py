"""What run.py tells each library's script and what the script tells back."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Told:
    """What a script measured."""

    positions: int
    """(History, next item) pairs that an epoch trains: padding is none, whatever the library spends on it."""
    epoch_seconds: list[float]
    """Wall time of each epoch's training, reading of data included and validation left out."""
    loss: str
    """What is minimised, by the name that it has in our configuration."""
    versions: dict[str, str]
    """Of the library."""
    precision: str = "float32"
    """Of the matrix products."""
    overrides: list[str] = field(default_factory=list)
    """Settings that were asked for beyond those that every library is given."""
    recommender: dict[str, Any] = field(default_factory=dict)
    """All settings of the recommender as they were resolved, where the library tells them."""
    more: dict[str, Any] = field(default_factory=dict)


def parser_of(description: str | None, batch_size: int) -> argparse.ArgumentParser:
    """The arguments that every script takes; `batch_size` is the library's own default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a file as bench/training/data.py says")
    parser.add_argument("--out", type=Path, required=True, help="empty folder of the lists and of result.json")
    parser.add_argument("--model", choices=["gru", "sasrec"], default="sasrec")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seed", type=int, default=20)
    return parser


def arguments_of(description: str | None, batch_size: int) -> argparse.Namespace:
    """The arguments, with torch held to the threads that they name."""
    import torch

    arguments = parser_of(description, batch_size).parse_args()
    torch.set_num_threads(arguments.threads)
    return arguments


def thread_environment(threads: int) -> dict[str, str]:
    """The environment of a script that computes with so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads))}


def tell(arguments: argparse.Namespace, told: Told, **resolved: Any) -> None:
    """Leave result.json for run.py; `resolved` are sizes that came out otherwise than the arguments say."""
    import torch

    settings = {name: getattr(arguments, name) for name in ("dim", "layers", "length", "batch_size", "threads", "seed")}
    content = {**settings, **resolved, "threads_found": torch.get_num_threads(), **asdict(told)}
    content["versions"]["torch"] = torch.__version__
    (arguments.out / "result.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
