"""RecTools' SASRec with its softmax over the catalogue: run by bench/training/run.py with a Python that has RecTools.

Everything that is not said here is RecTools' default. A row is a user's last `--length` + 1 items, of which each
but the first is a target, so that many positions are trained.
"""

from __future__ import annotations

import copy
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pytorch_lightning as lightning  # noqa: E402
import rectools  # noqa: E402
import torch  # noqa: E402
from rectools.dataset import Dataset  # noqa: E402
from rectools.models import SASRecModel  # noqa: E402

from bench.training.data import LIST_LENGTH, Lists, read_histories, split_last, write_lists  # noqa: E402
from bench.training.engine import Told, arguments_of, tell  # noqa: E402


class Epochs(lightning.Callback):
    """Seconds of each epoch, from before its first batch to after its last update, and the parameters after it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.states: list[dict[str, Any]] = []

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """The clock starts."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """The clock stops; what follows is not timed."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self._started)
        self.states.append(copy.deepcopy(module.torch_model.state_dict()))


def main() -> int:
    arguments = arguments_of(__doc__, batch_size=128)
    lightning.seed_everything(arguments.seed)
    split = split_last(read_histories(arguments.data))

    def trainer() -> lightning.Trainer:
        return lightning.Trainer(
            max_epochs=arguments.epochs,
            accelerator="gpu" if arguments.device == "cuda" else "cpu",
            devices=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=False,
            callbacks=[Epochs()],
        )

    model = SASRecModel(
        n_blocks=arguments.layers,
        n_factors=arguments.dim,
        session_max_len=arguments.length,
        batch_size=arguments.batch_size,
        loss="softmax",
        epochs=arguments.epochs,
        get_trainer_func=trainer,
        recommend_torch_device=arguments.device,
    )
    dataset = Dataset.construct(interactions(split.train))
    model.fit(dataset)
    epochs = next(callback for callback in model.fit_trainer.callbacks if isinstance(callback, Epochs))
    for epoch, state in enumerate(epochs.states, start=1):
        model.torch_model.load_state_dict(state)
        listed = model.recommend(list(split.train), dataset, k=LIST_LENGTH, filter_viewed=True)
        grouped = listed.sort_values("rank").groupby("user_id")["item_id"].apply(list)
        lists = np.array([row + [0] * (LIST_LENGTH - len(row)) for row in grouped])
        write_lists(arguments.out, epoch, list(grouped.index), lists)
    positions = sum(min(len(items), arguments.length + 1) - 1 for items in split.train.values())
    tell(arguments, Told(positions, epochs.seconds, "full_softmax", {"rectools": rectools.__version__}))
    return 0


def interactions(train: Lists) -> pd.DataFrame:
    """RecTools' table of interactions; the places in a history serve as times."""
    lengths = [len(items) for items in train.values()]
    return pd.DataFrame(
        {
            "user_id": np.repeat(list(train), lengths),
            "item_id": np.concatenate(list(train.values())),
            "weight": 1,
            "datetime": pd.Timestamp("2014-01-01") + pd.to_timedelta(np.concatenate([range(n) for n in lengths]), "h"),
        }
    )


if __name__ == "__main__":
    sys.exit(main())
