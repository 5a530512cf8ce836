"""What a training process is told: plain data that Spark can carry to executors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from recsys_spark.models.composition import Composition


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """One training run. Two specs with the same fingerprint train the same model."""

    composition: Composition
    """What is trained."""
    dataset: str
    """Directory `datasets/<fit>` with vocabulary.parquet, sequences and, where `validate`, valid."""
    dataset_version: str
    """Version of the dataset, so that no checkpoint of another one is resumed."""
    work: str
    """Directory of checkpoints and of the curve, shared by all processes."""
    seed: int
    """Seed of everything that draws."""
    epochs: int
    """Most epochs; exactly so many where not `validate`."""
    validate: bool
    """Measure valid NDCG@10 after each epoch, stop early, keep the best epoch."""
    valid_repeats: Literal["allow", "drop"] = "allow"
    """May lists hold what the user had a target event with before, when valid NDCG@10 is measured."""
    target_types: tuple[int, ...] = ()
    """Codes of the event types that make an item relevant, where `valid_repeats` is drop."""
    patience: int
    """Epochs without a better valid NDCG@10 after which training stops."""
    batch_size: int
    """Sequences in a step, over all processes."""
    learning_rate: float
    """Adam's peak learning rate."""
    weight_decay: float
    """Decoupled weight decay of the dense parameters and of the item rows that take part in a step."""
    warmup_steps: int
    """Steps over which the learning rate rises to its peak."""
    grad_clip: float
    """Largest norm of the gradient."""
    negatives: int
    """Negatives shared by a step, or of each position."""
    negatives_power: float
    """Negatives are drawn in proportion to this power of the items' counts."""
    id_start: Literal["random", "histories"] = "random"
    """Where the table by id starts: drawn, or at the content's vectors of the items."""
    average_epochs: float = 0.0
    """Epochs over which the parameters are averaged; 0 keeps those of the last step."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the learning rate goes on from its peak: as it is, or down to zero at the end of `schedule_epochs`."""
    schedule_epochs: int = 0
    """Epochs over which the learning rate falls; 0 for `epochs`. A fit that trains the best epoch's number of epochs
    names here what the search for it had."""
    content: str | None = None
    """Path of the file of the items' content, where the composition reads it."""
    content_version: str = ""
    """What the content file was made from, so that no checkpoint of other content is resumed."""
    start: str | None = None
    """Path of the file of the parameters that training starts from; None draws all of them."""
    start_version: str = ""
    """sha256 of that file, so that no checkpoint of another start is resumed."""
    code_version: str = ""
    """What the code was, so that no checkpoint of other code is resumed."""
    precision: Literal["float32", "bf16"] = "float32"
    """`bf16`: matrix products in bfloat16, parameters and sums in float32."""
    sync: Literal["every_step", "local"] = "every_step"
    """`every_step`: gradients are summed at each step; `local`: processes step alone and are averaged now and then."""
    local_steps: int = 8
    """Steps between two averages, where `sync` is local."""
    outer_momentum: float = 0.5
    """SlowMo's momentum of the averages, where `sync` is local; 0 is post-local SGD."""
    outer_learning_rate: float = 1.0
    """SlowMo's step along the averaged change, where `sync` is local."""
    num_processes: int = 1
    """Processes that train together."""
    use_gpu: bool = False
    """Train on the process's CUDA device, with nccl between processes."""
    checkpoint_seconds: float = 60.0
    """Seconds after which a checkpoint is written within an epoch; its cost stays below a twentieth of the time."""
    cache_dir: str | None = None
    """Local folder into which a process copies the part of the dataset that it reads."""
    threads: int | None = None
    """Threads of the process; by default its share of the host's cores."""
    stop_file: str | None = None
    """A path: training ends after the first epoch at whose end there is a file."""
    launch: str = ""
    """Name of the launch that started the process: it ends where another launch took over its work directory."""

    @property
    def fingerprint(self) -> str:
        """sha256 of everything that the trained parameters depend on.

        Not of paths and devices, nor of the number of processes where gradients are summed at every step.
        """
        values = asdict(self)
        places = ["dataset", "content", "start", "work", "use_gpu", "checkpoint_seconds", "cache_dir", "launch"]
        places += ["threads", "stop_file"]
        for place in (*places, *(["num_processes"] if self.sync == "every_step" else [])):
            del values[place]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
