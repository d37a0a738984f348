"""Every setting of a run: its default, its unit or constraint, its limits. The only such list.

A config file sets what differs from these defaults (`dicm_jax.config_file`). A new setting is one
new line here.
"""

import dataclasses
from typing import Literal

from dicm_jax.config_values import setting
from dicm_jax.data.amazon.config import AmazonConfig
from dicm_jax.data.fuxictr.config import FuxiCTRConfig
from dicm_jax.data.hm.config import HMConfig
from dicm_jax.data.movielens.config import MovieLensConfig
from dicm_jax.data.synthetic.reader import WorldConfig
from dicm_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The log, and what of it is used."""

    kind: Literal["synthetic", "prepared", "hm", "fuxictr", "movielens", "amazon"] = setting(
        "synthetic", "the built-in world, or the reader of the files in path"
    )
    path: str | None = setting(None, "folder of the log; unused by synthetic, else needed")
    verify: bool = setting(True, "prepared: read all files once and compare their checksums")
    feature_tables: str | None = setting(
        None, "prepared: folder of the feature tables; none: where they were then"
    )
    stream: bool = setting(
        False, "prepared: the train split stays on disk and is read block by block, epoch by epoch"
    )
    window_blocks: int = setting(
        16, "stream: blocks (records) of a window, within which groups are mixed", at_least=1
    )
    behaviors: int = setting(50, "newest behaviors kept per group", at_least=1)
    permute_images: bool = setting(False, "control: photos are shuffled across items")
    negatives: int = setting(4, "impressions drawn per click where a log has none", at_least=1)
    validation_days: int = setting(
        0,
        "days before the test period to evaluate on in its place; 0 = the test period",
        at_least=0,
    )
    behavior_fields: tuple[str, ...] = setting(
        (), "item ID fields that behaviors carry too, beside those the reader gives them"
    )
    validation_share: float = setting(
        0.0, "newest share of the train groups, held out as split validation", at_least=0, below=1
    )
    seed: int = setting(0, "of the drawing of impressions and the shuffling of photos", at_least=0)
    world: WorldConfig = dataclasses.field(default_factory=WorldConfig)
    hm: HMConfig = dataclasses.field(default_factory=HMConfig)
    fuxictr: FuxiCTRConfig = dataclasses.field(default_factory=FuxiCTRConfig)
    movielens: MovieLensConfig = dataclasses.field(default_factory=MovieLensConfig)
    amazon: AmazonConfig = dataclasses.field(default_factory=AmazonConfig)


@dataclasses.dataclass(frozen=True)
class FeaturesConfig:
    """The table of frozen content rows."""

    storage: Literal["float32", "bfloat16", "int8"] = setting(
        "int8", "format of the rows at rest; int8 has a scale per row"
    )
    tier: Literal["device", "host"] = setting(
        "device", "memory that holds the rows; host: a batch's rows are sent along with it"
    )
    path: str | None = setting(
        None, "folder of table files, written from the log where it has none; needed by tier=host"
    )
    verify: bool = setting(True, "check the checksums of table files before anything is trained")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The Deep Image CTR Model; the defaults are the paper's."""

    stage: Literal["rank", "prerank"] = setting(
        "rank", "one network; or two towers that meet in an inner product only"
    )
    basic_net: Literal["embedding_mlp", "lr", "din"] = setting(
        "embedding_mlp", "what takes IDs and image vectors together"
    )
    images: Literal["both", "ad", "behavior", "none"] = setting(
        "both", "images that the model sees; with none it is the baseline"
    )
    aggregator: Literal["multi_query", "attentive", "sum", "max", "concat"] = setting(
        "multi_query", "pooling of behavior images; prerank: sum"
    )
    embedding_width: int = setting(
        12, "dims of an ID embedding, and of an image's where the paper's net sees it", at_least=1
    )
    compressor_widths: tuple[int, ...] = setting(
        (256, 64, 12),
        "dims of its layers, at least one hidden; the last is an image embedding's, of which all"
        " beyond embedding_width is for similarity",
        min_length=2,
        at_least=1,
    )
    share_compressor: bool = setting(False, "one compressor for ad and behaviors; paper: two")
    compressor_init: Literal["he", "pca"] = setting(
        "he", "random weights, or the table's whitened principal directions"
    )
    compressor_output_norm: Literal["none", "rms"] = setting(
        "none", "of image vectors; rms scales each to a mean square of one"
    )
    attention_widths: tuple[int, ...] = setting((64, 16), "dims of the hidden layers", at_least=1)
    query_fields: tuple[str, ...] = setting((), "ID fields of the second query; none = one query")
    interaction: Literal["concat", "product", "outer"] = setting(
        "concat",
        "what attention sees beside query and behavior: nothing, their elementwise product,"
        " or all products of their elements",
    )
    normalizer: Literal["none", "softmax"] = setting(
        "none", "of attention weights; paper: none, a plain weighted sum"
    )
    attention_chunk: int = setting(
        256, "impressions attended to at a time; thousands on accelerators", at_least=1
    )
    concat_behaviors: int = setting(
        32, "newest behaviors that the aggregator concat keeps", at_least=1
    )
    match: bool = setting(
        False, "the head also sees ad image times pooled behaviors, element by element"
    )
    similarity: bool = setting(
        False, "the net also sees a soft histogram of cosines of the ad's image and behaviors'"
    )
    match_fields: tuple[str, ...] = setting(
        (), "ID fields of behaviors to compare with the ad's, by inner products, instead of pooling"
    )
    match_init_scale: float = setting(
        0.3,
        "standard deviation of new rows of match_fields; small ones learn no products",
        at_least=0,
    )
    head_widths: tuple[int, ...] = setting((200, 80), "dims of the hidden layers", at_least=1)
    din_widths: tuple[int, ...] = setting(
        (36,),
        "dims of the hidden layers of DIN's attention to behavior IDs",
        min_length=1,
        at_least=1,
    )
    din_interaction: Literal["concat", "product", "outer"] = setting(
        "product", "the same as interaction, for DIN's attention"
    )
    din_normalizer: Literal["none", "softmax"] = setting(
        "none", "of DIN's attention weights; paper: none"
    )
    din_activation: Literal["dice", "prelu", "sigmoid"] = setting(
        "dice", "of DIN's attention and head"
    )
    tower_widths: tuple[int, ...] = setting(
        (200, 10),
        "prerank: dims of both towers' layers; the last is that of their vectors",
        min_length=1,
        at_least=1,
    )
    id_init_scale: float = setting(0.01, "standard deviation of new ID rows", at_least=0)
    compute_dtype: Literal["float32", "bfloat16"] = setting(
        "float32", "of the compressor's matrix products; sums stay in float32"
    )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam; dense for the nets, row-sparse for ID rows."""

    learning_rate: float = setting(1e-3, "per step, before decay", above=0)
    id_learning_rate: float | None = setting(
        None, "per step, of ID rows; None = learning_rate", above=0
    )
    compressor_learning_rate: float | None = setting(
        None, "per step, of compressors; None = learning_rate", above=0
    )
    schedule: Literal["staircase", "cosine"] = setting(
        "staircase", "of all rates; the paper's decay, or half a cosine to zero over all epochs"
    )
    decay_rate: float = setting(
        0.9, "factor on the rates every decay_steps (staircase)", above=0, at_most=1
    )
    decay_steps: int = setting(24_000, "steps", at_least=1)
    b1: float = setting(0.9, "decay of Adam's first moment, in [0, 1)", at_least=0, below=1)
    b2: float = setting(0.999, "decay of Adam's second moment, in [0, 1)", at_least=0, below=1)
    eps: float = setting(1e-8, "added to the root of the second moment", above=0)
    id_regularization: float = setting(
        0.0, "pull of an ID row to zero, over how often the ID occurs; 0 = none", at_least=0
    )


@dataclasses.dataclass(frozen=True)
class ExchangeConfig:
    """How rows and vectors travel between servers and workers."""

    strategy: Literal["ams", "ps_server", "ps_worker"] = setting(
        "ams", "compress at the server; or send raw rows; or bring them with the batch"
    )
    wire: Literal["float32", "bfloat16", "int8"] = setting(
        "float32", "format of image vectors and their gradients on their way"
    )
    id_wire: Literal["float32", "bfloat16", "int8"] = setting(
        "float32", "format of ID rows and their gradients on their way"
    )
    feedback_rows: int = setting(
        262_144,
        "rows a device remembers what rounding took from their gradients (inexact wires)",
        at_least=1,
    )
    dedup_worker: bool = setting(True, "a worker asks for each row once")
    dedup_server: bool = setting(True, "an owner compresses a row once that several workers want")
    capacity_factor: float = setting(
        1.25,
        "places per owner over the most seen in sampled batches; overflow takes more rounds",
        at_least=1,
    )
    chunk: int | None = setting(
        None, "rows compressed at a time; None = 512 on CPUs, 8192 on accelerators", at_least=8
    )


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """The devices and their roles; meshes have the axes worker and server."""

    placement: Literal["colocated", "dedicated"] = setting(
        "colocated", "every device serves and works; or servers and workers are different devices"
    )
    worker: int = setting(
        1, "devices along the axis that repeats tables; dedicated: workers of a server", at_least=1
    )
    server: int | None = setting(
        None, "devices along the axis that splits tables; None = all that remain", at_least=1
    )
    servers_on: Literal["same", "cpu"] = setting(
        "same", "dedicated: servers are devices like the workers, or the hosts' CPUs"
    )
    virtual_devices: int | None = setting(
        None, "virtual CPU devices of each process; None = the devices there are", at_least=1
    )
    join_s: int = setting(
        300, "seconds in which all processes of a run must have come together", at_least=1
    )
    heartbeat_s: int = setting(
        40, "seconds without a sign of life after which a process is lost, and all end", at_least=3
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The course of a run."""

    batch_size: int = setting(1024, "impressions per global batch", at_least=1)
    lanes: int = setting(
        8, "fixed cells a batch is cut in; the number of devices divides it", at_least=1
    )
    groups_per_lane: int | None = setting(
        None, "places for groups in a lane; None = measured on the log", at_least=1
    )
    whole_groups: bool = setting(
        False, "a group that does not fit the rest of a lane starts the next, instead of a split"
    )
    epochs: int = setting(2, "passes over the train split", at_least=1)
    steps: int | None = setting(
        None, "steps to stop after, as if cut short; None = all epochs", at_least=1
    )
    patience: int = setting(
        0,
        "evaluations on the validation split without a better GAUC after which a run stops; it then"
        " takes its best step; 0 = never",
        at_least=0,
    )
    prefetch: int = setting(2, "batches planned ahead of the device", at_least=1)
    log_every: int = setting(20, "steps", at_least=1)
    seed: int = setting(0, "of the first parameters and the order of groups", at_least=0)
    baseline: bool = setting(False, "also train the model without images and report its GAUC")
    hang_after_s: float = setting(
        600.0,
        "seconds that a step or a batch of an evaluation may take before a run ends, as one that"
        " hangs; 0 = any time",
        at_least=0,
    )
    hang_start_after_s: float = setting(
        3600.0,
        "the same for what is done now and then: reading the log, compiling, saving, scoring",
        at_least=0,
    )


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """When and on what the model is evaluated."""

    every: int = setting(0, "steps; 0 = at the end only", at_least=0)
    batch_size: int = setting(4096, "impressions per global batch", at_least=1)
    split: Literal["train", "validation", "test"] = setting("test", "split of the log")


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """What is saved, and when."""

    every: int = setting(0, "steps; 0 = at the end only", at_least=0)
    keep: int = setting(2, "newest checkpoints kept", at_least=1)
    keep_every: int | None = setting(
        None, "steps; checkpoints of their multiples are kept for good; None = none", at_least=1
    )
    verify: bool = setting(True, "compare the checksums of a checkpoint before it is read")
    warm_start: str | None = setting(
        None, "folder of another run or checkpoint, whose trained parts a new run starts from"
    )
    warm_parts: Literal["none", "partial", "full", "pattern"] = setting(
        "partial", "what is taken over: all but ID rows, as in the paper; or they too; or by name"
    )
    warm_patterns: tuple[str, ...] = setting(
        (), "pattern: names of arrays in a checkpoint; * stands for anything"
    )
    warm_optimizer: bool = setting(
        False, "optimizers go on where all of a part is taken over; schedules start afresh"
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run.

    Raises:
      ConfigError: two settings that exclude each other.
    """

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    features: FeaturesConfig = dataclasses.field(default_factory=FeaturesConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    exchange: ExchangeConfig = dataclasses.field(default_factory=ExchangeConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = dataclasses.field(default_factory=EvaluateConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        _check_path(self.data)
        _check_validation_days(self.data)
        _check_stream(self.data, self.evaluate)
        _check_tier(self.data, self.features, self.exchange)
        _check_wires(self.exchange)
        _check_lanes(self.mesh, self.train)
        _check_prerank(self.model)
        _check_match(self.model)
        _check_once(self.model)
        _check_patience(self)
        _check_warm_start(self.checkpoint)


def _check_path(data: DataConfig) -> None:
    if data.kind == "synthetic" and data.path is not None:
        raise ConfigError(
            f"data.path={data.path!r} with data.kind='synthetic': the built-in world reads no "
            "files; set data.kind='hm' or leave data.path out"
        )
    if data.kind != "synthetic" and data.path is None:
        raise ConfigError(
            f"data.kind={data.kind!r} with data.path=None: name the folder that holds the log, "
            "e.g. --config.data.path=data/hm"
        )


def _check_validation_days(data: DataConfig) -> None:
    if data.validation_days and data.kind in ("prepared", "fuxictr", "movielens"):
        raise ConfigError(
            f"data.validation_days={data.validation_days} with data.kind={data.kind!r}: that reader"
            " has no days to move its cut by; hold out with data.validation_share"
        )


def _check_stream(data: DataConfig, evaluate: EvaluateConfig) -> None:
    if not data.stream:
        return
    if data.kind != "prepared":
        raise ConfigError(
            f"data.stream=True with data.kind={data.kind!r}: only the blocks of a prepared set can"
            " be streamed; make one by python -m dicm_jax.prepare and set data.kind='prepared'"
        )
    if data.validation_share:
        raise ConfigError(
            f"data.stream=True with data.validation_share={data.validation_share}: what is held out"
            " of a streamed split is cut when the set is prepared; prepare it with a validation"
            " split, and leave data.validation_share at 0"
        )
    if evaluate.split == "train":
        raise ConfigError(
            "data.stream=True with evaluate.split='train': scores are taken of a whole split in"
            " memory; evaluate on 'validation' or 'test', or set data.stream=false"
        )


def _check_tier(data: DataConfig, features: FeaturesConfig, exchange: ExchangeConfig) -> None:
    if data.kind == "prepared":
        return  # its rows are in files already
    asks = {"features.tier='host'": features.tier == "host"}
    asks |= {"exchange.strategy='ps_worker'": exchange.strategy == "ps_worker"}
    for asked in (name for name, holds in asks.items() if holds):
        if features.path is None:
            raise ConfigError(
                f"{asked} with features.path=None: rows come from table files; name a folder for"
                " them, which is filled from the log where it is empty, e.g."
                " --config.features.path=runs/tables"
            )


def _check_wires(exchange: ExchangeConfig) -> None:
    rounded = [name for name in ("wire", "id_wire") if getattr(exchange, name) != "float32"]
    if rounded and not exchange.dedup_worker:
        raise ConfigError(
            f"exchange.{rounded[0]}={getattr(exchange, rounded[0])!r} with"
            " exchange.dedup_worker=false: what rounding takes is remembered once a row, which"
            " needs lists with each row once; set exchange.dedup_worker=true, or float32"
        )


def _check_lanes(mesh: MeshConfig, train: TrainConfig) -> None:
    devices = mesh.worker * (mesh.server or 1)  # the workers, on either placement
    if train.lanes % devices:
        raise ConfigError(
            f"train.lanes={train.lanes} on a mesh with mesh.worker={mesh.worker} and "
            f"mesh.server={mesh.server}: {train.lanes} lanes cannot be dealt out evenly to "
            f"{devices} devices; set train.lanes to a multiple of {devices}"
        )


def _check_prerank(model: ModelConfig) -> None:
    if model.stage != "prerank":
        return
    for name, wanted, why in (
        ("aggregator", "sum", "a behavior must not meet the ad before the inner product"),
        ("basic_net", "embedding_mlp", "both towers are fully connected layers"),
        ("match", False, "the ad's image must not meet behaviors before the inner product"),
        ("similarity", False, "the ad's image must not meet behaviors before the inner product"),
        (
            "match_fields",
            (),
            "the ad's IDs must not meet those of behaviors before the inner product",
        ),
    ):
        found = getattr(model, name)
        if found != wanted:
            raise ConfigError(
                f"model.{name}={found!r} with model.stage='prerank': {why}; set"
                f" model.{name}={wanted!r}"
            )


def _check_match(model: ModelConfig) -> None:
    if model.match and model.aggregator == "concat":
        raise ConfigError(
            "model.match=True with model.aggregator='concat': behaviors side by side are no one"
            " vector to multiply with the ad's; set model.match=False or another aggregator"
        )


def _check_once(model: ModelConfig) -> None:
    for setting_name in ("query_fields", "match_fields"):
        names = getattr(model, setting_name)
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ConfigError(
                f"model.{setting_name}={names!r}: {twice[0]!r} stands there"
                f" {names.count(twice[0])} times, which adds nothing; leave one"
            )


def _check_patience(config: Config) -> None:
    if not config.train.patience:
        return
    for name, value in (
        ("evaluate.every", config.evaluate.every),
        ("data.validation_share", config.data.validation_share),
    ):
        if not value and (name, config.data.kind) != ("data.validation_share", "prepared"):
            raise ConfigError(  # a prepared set may have a validation split of its own
                f"train.patience={config.train.patience} with {name}={value}: a run is stopped by"
                " evaluations on a validation split; set evaluate.every (steps) and"
                " data.validation_share"
            )


def _check_warm_start(checkpoint: CheckpointConfig) -> None:
    by_pattern = checkpoint.warm_parts == "pattern"
    if by_pattern != bool(checkpoint.warm_patterns):
        raise ConfigError(
            f"checkpoint.warm_parts={checkpoint.warm_parts!r} with"
            f" checkpoint.warm_patterns={checkpoint.warm_patterns!r}: name arrays if and only if"
            " they are taken by name, e.g. checkpoint.warm_parts=pattern"
            " checkpoint.warm_patterns=params.embedders.*"
        )
