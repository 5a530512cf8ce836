"""RecBole's GRU4Rec and SASRec with their cross-entropy: run by bench/training/run.py with a Python that has RecBole.

Everything that is not said here is RecBole's default. RecBole makes a row of each prefix of a history (its last
`--length` items) and trains the next item alone, so its rows are the positions.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

# RecBole 1.2.1 asks for names that numpy 2 no longer has.
for _name, _kind in {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}.items():
    if not hasattr(np, _name):
        setattr(np, _name, _kind)

import recbole  # noqa: E402
import torch  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402

from bench.training.data import Split, read_histories, split_last, top_items, write_lists  # noqa: E402
from bench.training.engine import Told, arguments_of, tell  # noqa: E402

NAMES = {"gru": "GRU4Rec", "sasrec": "SASRec"}


def main() -> int:
    arguments = arguments_of(__doc__, batch_size=2048)
    split = split_last(read_histories(arguments.data))
    write_interactions(arguments.out / "data", split)
    sizes = {"hidden_size": arguments.dim}
    if arguments.model == "gru":
        sizes |= {"embedding_size": arguments.dim, "num_layers": arguments.layers}
    else:
        sizes |= {"n_layers": arguments.layers, "inner_size": 4 * arguments.dim}
    settings: dict[str, Any] = {
        **sizes,
        "MAX_ITEM_LIST_LENGTH": arguments.length,
        "train_batch_size": arguments.batch_size,
        "train_neg_sample_args": None,
        "loss_type": "CE",
        "use_gpu": arguments.device == "cuda",
        "seed": arguments.seed,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_only"}, "group_by": "user", "order": "TO", "mode": "full"},
        "data_path": str(arguments.out),
        "checkpoint_dir": str(arguments.out / "saved"),
        "show_progress": False,
    }
    os.chdir(arguments.out)  # it writes its logs where it stands
    sys.argv = sys.argv[:1]  # it would read our arguments as its own
    config = Config(model=NAMES[arguments.model], dataset="data", config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, _ = data_preparation(config, create_dataset(config))
    torch.set_num_threads(arguments.threads)
    model = get_model(config["model"])(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    seconds = []
    for epoch in range(arguments.epochs):
        started = time.perf_counter()
        trainer._train_epoch(train, epoch)
        if arguments.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        users, lists = valid_lists(model, valid, split)
        write_lists(arguments.out, epoch + 1, users, lists)
    tell(arguments, Told(len(train.dataset), seconds, "full_softmax", {"recbole": recbole.__version__}))
    return 0


def write_interactions(folder: Path, split: Split) -> None:
    """RecBole's atomic file; the places in a history serve as times, and the last item is the valid one."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "data.inter").open("w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, items in split.train.items():
            for place, item in enumerate([*items, split.valid[user]]):
                file.write(f"{user}\t{item}\t{place}\n")


@torch.no_grad()
def valid_lists(model: Any, valid: Any, split: Split) -> tuple[list[int], np.ndarray]:
    """Users and their lists [U, K] as the file numbers them."""
    model.eval()
    data = valid.dataset
    numbers = np.array([int(token) for token in data.field2id_token["item_id"][1:]])  # the first is padding
    users: list[int] = []
    lists = []
    for batch in valid:
        interaction = batch[0]
        block = [int(token) for token in data.id2token("user_id", interaction["user_id"].cpu().numpy())]
        scores = model.full_sort_predict(interaction.to(model.device))[:, 1:].float().cpu().numpy()
        by_number = np.full((len(block), int(numbers.max())), -np.inf, dtype=np.float32)
        by_number[:, numbers - 1] = scores
        lists.append(top_items(by_number, [split.train[user] for user in block]))
        users += block
    return users, np.concatenate(lists)


if __name__ == "__main__":
    sys.exit(main())
