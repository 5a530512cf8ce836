"""The configuration, section by section: every key, its default and its meaning."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recsys_spark.config.allowed import Database, LocalPath, PlainLine, TrackingUri, Variable
from recsys_spark.config.fusion import Cascade, Segments, Stacked
from recsys_spark.config.section import NotNegative, Positive, PositiveFloat, Section, Share
from recsys_spark.config.sources import Logged
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.redaction import holds_secret, is_secret

RecommenderName = Literal[
    "popularity",
    "trending",
    "segment_popularity",
    "repurchase",
    "item_knn",
    "content_knn",
    "ease",
    "als",
    "mfn",
    "gru",
    "lstm",
    "sasrec",
    "kim_cnn",
    "bert",
    "two_tower",
]
Repeats = Literal["allow", "drop"]
TwoCounts = Annotated[tuple[Positive, ...], Field(min_length=2, max_length=2)]
TwoShares = Annotated[tuple[Share, ...], Field(min_length=2, max_length=2)]
EVENT_WEIGHTS = {"purchase": 1.0, "add_to_cart": 0.5, "click": 0.2, "view": 0.1, "search": 0.0}


class Split(Section):
    """How events are divided into train, valid and test."""

    strategy: Literal["temporal", "leave_one_out"] = "temporal"
    """`temporal`: by time; `leave_one_out`: a user's last event is test, the one before it valid."""
    test_start: date | None = None
    """First day of the test window (temporal); the window ends at the run's date."""
    test_days: Positive | None = None
    """Length of the test window counted back from the run's date, where `test_start` is not given (default 14)."""
    valid_days: Positive = 14
    """Length of the valid window, which ends where the test window starts (temporal)."""
    backtests: Annotated[int, Field(ge=0, le=24)] = 0
    """Rolling origins besides the run's own (temporal): each has datasets with an earlier valid window."""
    backtest_step_days: Positive | None = None
    """Days from one origin to the one before it; by default `valid_days`, so that their windows do not overlap."""

    @model_validator(mode="after")
    def _one_way(self) -> Split:
        if self.test_start is not None and self.test_days is not None:
            raise ValueError("give test_start or test_days, not both")
        if self.strategy == "leave_one_out" and (self.test_start or self.test_days):
            raise ValueError("test_start and test_days belong to the temporal strategy; leave_one_out takes neither")
        if self.strategy == "leave_one_out" and self.backtests:
            raise ValueError("backtests belong to the temporal strategy; leave_one_out has no earlier origin")
        if self.backtest_step_days is not None and not self.backtests:
            raise ValueError("backtest_step_days is given without backtests; set backtests to their number")
        return self


class Evaluation(Section):
    """What is measured on the test window."""

    k: Annotated[tuple[Positive, ...], Field(min_length=1)] = (10, 20)
    """List lengths at which the metrics are computed."""
    repeats: Literal["allow", "drop", "both"] = "both"
    """May items that the user had a target event with before be recommended: allow, drop, or measure both."""
    target_events: tuple[str, ...] = ("purchase",)
    """Event types that make an item relevant."""
    cold: Literal["exclude", "miss"] = "exclude"
    """Items unknown before the window: left out of relevance, or kept as misses."""
    refit: bool = False
    """Fit the parameters of the reported models on train and valid instead of train alone."""
    bootstrap: Annotated[int, Field(ge=0, le=10000)] = 1000
    """Poisson-bootstrap replicates behind intervals and p-values; 0 measures without them."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """Share of replicates that an interval covers."""
    user_activity: TwoCounts | None = None
    """Events before the test window from which a user is light (fewer: new), and heavy; by default the tertiles of the
    test users."""
    item_age_days: TwoCounts = (30, 180)
    """Days since an item's first event, at the start of the test window, that divide items into three ages."""
    popularity_shares: TwoShares = (0.5, 0.8)
    """Most popular first, items up to this share of the target events before the test window are head, up to the second
    one mid, the others tail."""
    similarity: Literal["text", "sequence", "category"] = "text"
    """What makes the items of a list alike when its diversity is measured: the cosine of their vectors from text or
    from histories, or the same category; where no item has such a vector, the category."""
    logged: Logged | None = None
    """Logged exposures with propensities, for off-policy estimates."""
    only: bool = False
    """Fit and measure, and publish nothing: no `publish` fit, no registered model, no recommendations."""

    @field_validator("k")
    @classmethod
    def _each_once(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(lengths)) != len(lengths):
            raise ValueError("names a length twice")
        return lengths

    @field_validator("user_activity", "item_age_days", "popularity_shares")
    @classmethod
    def _rising(cls, edges: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if edges is not None and edges[0] >= edges[1]:
            raise ValueError("its second number must be larger than its first")
        return edges

    @field_validator("target_events")
    @classmethod
    def _known_events(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or not set(names) <= set(EVENT_TYPES):
            raise ValueError(f"must name one or more of {list(EVENT_TYPES)}")
        return names

    @property
    def modes(self) -> tuple[Repeats, ...]:
        """The ways of treating repeats that are measured."""
        return ("allow", "drop") if self.repeats == "both" else (self.repeats,)


class Fusion(Section):
    """How the recommenders' scores become one list."""

    method: Literal["average", "weighted", "cascade", "stacked"] = "weighted"
    """`average`: mean of z-scores; `weighted`: weights and normalisers searched on the valid window; `cascade`: that
    over what cheap recommenders retrieve; `stacked`: trees over the components' best items, trained on the valid
    window, where they are better than the weighted sum."""
    k: Positive = 20
    """Length of the published lists."""
    use: Literal["champion", "challenger"] = "champion"
    """Whose lists are published: the champion's, or the challenger's while there is no champion; or always those of the
    challenger that the run makes."""
    repeats: Repeats = "allow"
    """May the published lists hold items that the user had a target event with before."""
    optimise_k: Positive = 10
    """The K of the NDCG@K that the search of weights maximises."""
    search_users: Annotated[int, Field(gt=0, le=20000)] = 1000
    """Seeded valid users on which weights are searched."""
    search_candidates: Annotated[int, Field(ge=200, le=1000)] = 200
    """Top items of each component that take part in the search; with `search_users` at most a million, since the
    driver holds the table."""
    min_gain: Annotated[float, Field(ge=0)] = 0.0005
    """NDCG that a further component must add to be taken into the fusion."""
    explain_items: Annotated[int, Field(ge=0, le=50)] = 5
    """Items of a history, those met last, that are left out one at a time to find which one a network's score rests
    on: each costs an encoding of the history of every user for whom a network gives a reason. 0 names the item most
    alike."""
    segments: Segments | None = None
    """Segments of users with weights of their own under `weighted`; by default all users share the weights."""
    cascade: Cascade = Cascade()
    """How `cascade` retrieves."""
    stacked: Stacked = Stacked()
    """How `stacked` is trained."""
    stack_days: Positive | None = None
    """First days of the valid window whose target events make the labels that `stacked` learns from (temporal); by
    default the whole window."""

    @model_validator(mode="after")
    def _fits_the_driver(self) -> Fusion:
        if self.search_users * self.search_candidates > 1_000_000:
            raise ValueError("search_users x search_candidates must be at most 1,000,000: the driver holds the table")
        return self


class Datasets(Section):
    """The Petastorm datasets that training reads."""

    max_length: Annotated[int, Field(gt=1)] = 50
    """Positions of a sequence row; longer histories are cut into windows, the most recent first."""
    max_windows: Positive = 20
    """Windows kept of one user's history: the most recent ones."""
    row_groups: Positive = 8
    """Row groups of equal size in each dataset: at least the number of training processes, and a multiple of it."""
    event_weights: dict[str, NotNegative] = EVENT_WEIGHTS
    """Weight of an event of each type in the user-item matrix; types that are not named keep these."""
    half_life_days: PositiveFloat | None = None
    """Days after which an event weighs half as much in the matrix, counted back from the fit's cut; by default weights
    do not decay."""
    session_gap_minutes: Positive = 30
    """A longer gap between two events of a user starts a new session."""
    negatives: Annotated[int, Field(ge=0, le=1000)] = 0
    """Sampled negatives of each sequence row: items that the user has no event with in the fit's folds."""
    negative_power: Annotated[float, Field(ge=0, le=2)] = 0.75
    """Negatives are drawn in proportion to this power of the items' counts; 0 draws uniformly."""

    @field_validator("event_weights", mode="before")
    @classmethod
    def _over_the_defaults(cls, given: object) -> object:
        return {**EVENT_WEIGHTS, **given} if isinstance(given, dict) else given

    @field_validator("event_weights")
    @classmethod
    def _of_known_types(cls, weights: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(weights) - set(EVENT_TYPES))
        if unknown:
            raise ValueError(f"unknown event types {unknown}; known are {list(EVENT_TYPES)}")
        return weights


class Training(Section):
    """How neural recommenders are launched."""

    num_processes: Positive = 1
    """Processes of TorchDistributor; each takes one Spark task slot."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Launches after a failed one; each resumes from the last complete checkpoint."""
    checkpoint_seconds: PositiveFloat = 60.0
    """Seconds after which a checkpoint is written within an epoch; rarer where writing it takes more than a twentieth
    of the time. After each epoch one is written in any case."""
    valid_users: Positive = 2000
    """Seeded valid users on whom early stopping measures NDCG@10."""
    gpu: Literal["auto", "off", "required"] = "auto"
    """Train on GPUs where there is one for each process, never, or refuse to train without."""
    precision: Literal["float32", "bf16"] = "float32"
    """`bf16`: matrix products in bfloat16 (on the CPU those of the loss alone, on a GPU all but those of a GRU or an
    LSTM), parameters and sums in float32."""
    sync: Literal["every_step", "local"] = "every_step"
    """`every_step`: processes sum their gradients at each step, and any number of them trains the same model; `local`:
    each steps alone, and they are averaged every `local_steps`, with less to communicate and another model."""
    local_steps: Positive = 8
    """Steps between two averages under `sync: local`; while the learning rate rises, they are averaged at each."""
    outer_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """SlowMo's momentum of the averages under `sync: local`; 0 is post-local SGD."""
    outer_learning_rate: PositiveFloat = 1.0
    """SlowMo's step along the averaged change under `sync: local`."""
    cache_dir: LocalPath | None = None
    """Local folder of each host into which training processes copy the part of a dataset that they read; by default
    they do so, in the folder for temporary files, where the workspace stands on a network's file system."""


class Scoring(Section):
    """The pass that scores users over the catalogue."""

    block_mb: Positive = 256
    """Memory that one task may use for a block of scores; the number of users in a block follows from it."""
    tasks: Positive | None = None
    """Tasks of the pass; by default two for each core of the cluster."""


class Tables(Section):
    """How tables are published."""

    catalog: Database | None = None
    """A metastore database (it must exist or be creatable) in which a view of each table is kept."""
    buckets: Positive | None = None
    """User buckets of clean events: each is a file a day, and fits the memory of a task. By default one for each 64 MB
    of text (a million rows), at least two for each task slot; past four times that everything is written anew."""
    keep_versions: Positive = 5
    """Committed versions of each stage that are kept; versions that a kept one was made from are kept too."""


class Tracking(Section):
    """MLflow."""

    uri: TrackingUri | None = None
    """Tracking and registry server; by default `sqlite:///<workspace>/mlflow.db`."""
    uri_env: Variable | None = None
    """The environment variable that holds that address instead, where it has a password:
    `postgresql://user:password@host/mlflow`."""
    experiment: PlainLine = "recsys_spark"
    """The experiment's name."""

    @model_validator(mode="after")
    def _one_address(self) -> Tracking:
        if self.uri is not None and self.uri_env is not None:
            raise ValueError("give uri or uri_env, not both")
        return self


class Spark(Section):
    """The Spark session, where spark-submit has not set it up already."""

    master: str | None = None
    """Spark master; by default what spark-submit says, else `local[*]`."""
    driver_memory: str = "4g"
    """Memory of the driver's JVM when a job is started by plain Python."""
    shuffle_partitions: Positive | None = None
    """Shuffle partitions; by default two for each task slot of a local master, else Spark's own default."""
    conf: dict[str, str] = {}
    """Further Spark settings; everybody may see them, on the driver's command line and on Spark's pages."""
    conf_env: dict[str, Variable] = {}
    """Settings whose values stand in environment variables, such as
    `{spark.hadoop.fs.s3a.secret.key: S3_SECRET_KEY}`: secrets."""

    @field_validator("conf", "conf_env")
    @classmethod
    def _settings(cls, settings: dict[str, str]) -> dict[str, str]:
        for name in settings:
            if not name.startswith("spark.") or not name.isprintable() or "=" in name or " " in name:
                raise ValueError(f"{name!r} is no setting of Spark; their names begin with spark.")
        return settings

    @field_validator("conf")
    @classmethod
    def _no_secrets(cls, conf: dict[str, str]) -> dict[str, str]:
        for name, value in conf.items():
            if is_secret(name) or holds_secret(value):
                raise ValueError(
                    f"{name} would be a secret that everybody can read; put it into an environment variable and name "
                    "that in spark.conf_env"
                )
        return conf
