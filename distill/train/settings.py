"""Settings of ``distill train``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from distill.attack.settings import require_levels
from distill.envs.ale_vec import MAX_LANES
from distill.envs.settings import CommonConfig
from distill.errors import UserError
from distill.losses.settings import ObjectiveConfig
from distill.networks.settings import StudentConfig
from distill.records.loggers import check_loggers
from distill.system.ranges import POSITIVE, ZERO_OR_MORE, Range
from distill.system.settings import Section

LANES = Range(f"between 1 and {MAX_LANES}", 1, MAX_LANES)


@dataclass(frozen=True)
class TrainConfig(Section):
    """Fitting the student."""

    data: str = "data/{env}"
    """Dataset folder."""
    out: str = "runs/{env}__{student}__{objective}__{seed}__{time}"
    """Run folder; the same command continues the run there, and other settings are refused."""
    hold_data: Literal["auto", "device", "memory", "disk"] = "auto"
    """The dataset's place: device (its own memory), memory, or disk (mapped); auto: a GPU if it fits, else memory."""
    window_shards: int = 0
    """Shards that are shuffled together, and with hold_data=auto alone held, for data beyond memory; 0: all."""
    parts: int = 1
    """Parts of whole shards that every batch takes as many states of; as many processes can hold one part each."""
    resume: bool = False
    """No longer needed, but that the newest run is continued where `out` has {time}; else that starts a new one."""
    steps: int = 5_000
    """Optimizer steps in total."""
    epochs: float | None = None
    """Passes over the training states; replaces steps where given."""
    last_step: int | None = None
    """End after this step, as a round of a longer training whose schedules go on to `steps`; by default after all."""
    fork_from: str | None = None
    """Run folder to begin from: weights, optimizer and step of its newest checkpoint; all else is this run's own."""
    batch_size: int = 128
    """States per step."""
    learning_rate: float | Literal["auto"] = "auto"
    """Peak learning rate of Adam; auto: 0.001, rising to 0.003 as lambda falls, of plain distillation, too."""
    early_learning_rate: float | None = None
    """Its peak while lambda is large; it moves to `learning_rate` as lambda falls; by default it is that."""
    warmup: int = 200
    """Steps of linear warm-up; a cosine to zero follows."""
    max_grad_norm: float = 0.5
    """Gradients are clipped to this global norm; 0 turns clipping off."""
    adversary: str | None = None
    """Train on attacked states, too, with the teacher's labels of the clean ones: pgd, influence, any attack's name."""
    adversary_eps: float = 2.0
    """Size of that attack, in gray levels."""
    adversary_share: float = 0.5
    """Share of each batch that is attacked, its last states."""
    adversary_steps: int = 3
    """Gradient steps of that attack: pgd."""
    adversary_pixels: int = 10
    """Pixels that it changes: influence, swarm."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW); 0 is plain Adam."""
    states: int | None = None
    """Use only this many training states, whole games in random order; by default all."""
    val_fraction: float = 0.1
    """Share of episodes held out for validation, whole episodes, at least one per writer."""
    val_states: int = 2048
    """At most this many held-out states are scored at each validation."""
    val_every: int = 500
    """Steps between validations."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    log_every: int = 50
    """Steps between TensorBoard points of the training loss."""
    loggers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """Where the figures of training go: tensorboard, or package.module:attribute, a callable that makes a Logger."""
    patience: int = 0
    """Stop after this many validations without a better val/kl; 0 never stops early."""
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    """Arithmetic: auto is tf32 on CUDA and fp32 on CPU."""
    engine: Literal["fast", "autograd"] = "fast"
    """fast: the Sobolev gradient from first-order passes; autograd: double backward, any network."""
    cuda_graph: bool = False
    """Record the fast engine's step as a CUDA graph and replay it: small students on a GPU."""
    verify: bool = True
    """Check the dataset's checksums before training."""

    RANGES: ClassVar[Mapping[str, Range]] = {
        "steps": POSITIVE,
        "last_step": POSITIVE,
        "epochs": POSITIVE,
        "window_shards": ZERO_OR_MORE,
        "parts": POSITIVE,
        "batch_size": POSITIVE,
        "learning_rate": POSITIVE,
        "early_learning_rate": POSITIVE,
        "warmup": ZERO_OR_MORE,
        "max_grad_norm": ZERO_OR_MORE,
        "adversary_eps": Range("between 1 and 255", 1, 255),
        "adversary_share": Range("above 0, and at most 1", 0, 1, without=(0,)),
        "adversary_steps": POSITIVE,
        "adversary_pixels": Range("between 1 and 7056", 1, 7056),
        "weight_decay": ZERO_OR_MORE,
        "patience": ZERO_OR_MORE,
        "states": POSITIVE,
        "val_fraction": Range("between 0 and 1", 0, 1, without=(0, 1)),
        "val_states": POSITIVE,
        "val_every": POSITIVE,
        "checkpoint_every": POSITIVE,
        "log_every": POSITIVE,
    }
    PLACES: ClassVar[tuple[str, ...]] = (
        "data",
        "out",
        "fork_from",
    )
    NEEDS: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("adversary_eps", "adversary_share", "adversary_steps", "adversary_pixels"), "adversary"
    )

    @property
    def length(self) -> str:
        """The setting that says how long it is."""
        return "--train.steps" if self.epochs is None else "--train.epochs"

    def check(self) -> None:
        """Refuse loggers and attacks that are not there."""
        check_loggers(self.loggers)
        if self.adversary is not None:
            from distill.attack.method import ATTACKS  # with PyTorch, which settings do not wait for

            ATTACKS.find(self.adversary)
            require_levels("--train.adversary_eps", [self.adversary_eps])


@dataclass(frozen=True)
class TrainRun(CommonConfig):
    """What ``distill train`` reads."""

    student: StudentConfig = field(default_factory=StudentConfig)
    """The student's network."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """The training objective."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Settings of `distill train`."""

    def check(self) -> None:
        """Refuse two beginnings."""
        super().check()
        if self.student.init is not None and self.train.fork_from is not None:
            raise UserError("--student.init and --train.fork_from both say where to begin; leave one of them out")

    FIRST: ClassVar[tuple[str, ...]] = (
        "env",
        "train.data",
        "train.out",
        "student.name",
        "objective.jacobian_weight",
        "train.steps",
        "train.batch_size",
        "train.learning_rate",
        "seed",
        "device",
    )
