"""What a training process is told: plain data that Spark can carry to executors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

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
    num_processes: int = 1
    """Processes that train together."""
    use_gpu: bool = False
    """Train on the process's CUDA device, with nccl between processes."""

    @property
    def fingerprint(self) -> str:
        """sha256 of everything that the trained parameters depend on: not of paths, processes or devices."""
        values = asdict(self)
        for place in ("dataset", "work", "num_processes", "use_gpu"):
            del values[place]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
