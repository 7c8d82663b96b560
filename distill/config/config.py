"""Every setting of the toolkit: frozen dataclasses, one docstring per field.

The command line (``distill --help``), the YAML files in ``configs/`` and the Python API read the
same classes, so a setting has one name, one type and one default.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from distill.errors import UserError
from distill.system.files import at_home


@dataclass(frozen=True)
class CollectConfig:
    """Recording what the teacher sees, thinks and feels (its derivatives)."""

    out: str = "data/{env}"
    """Dataset folder; continued if it holds the same teacher, preset and derivative law."""
    states: int = 20_000
    """States this writer records in total; the same command continues to this count."""
    num_envs: int = 8
    """Games played side by side."""
    actor: str = "teacher"
    """Who acts: "teacher", or a student's run folder or zip (on-policy, DAgger). The teacher always labels."""
    beta: float = 0.0
    """With a student actor: share of steps on which the teacher acts instead (a mixture)."""
    behaviour: Literal["sampled", "greedy", "epsilon"] = "sampled"
    """How the actor chooses: samples its policy, takes the best action, or epsilon-greedy."""
    epsilon: float = 0.01
    """Share of uniformly random actions when behaviour is epsilon."""
    sticky: float = 0.0
    """Probability that the emulator repeats the last action (Machado et al. 2018: 0.25)."""
    jacobian: Literal["projected", "full", "none"] = "projected"
    """What is stored of the Jacobian: K projections, all A rows, or nothing."""
    k: int = 1
    """Projections per state when jacobian is projected."""
    law: Literal["sphere", "fisher"] = "sphere"
    """Law of the projection v: uniform on the sphere, or the policy's Fisher metric."""
    space: Literal["logits", "log_probs", "probs"] = "logits"
    """Output whose derivative is taken. For zero-sum v, logits and log_probs are the same."""
    codec: Literal["int8", "fp16"] = "int8"
    """Storage of derivatives: int8 (about 1 % error, half the size) or fp16 (0.03 %)."""
    shard_states: int = 4096
    """States per shard; a kill loses at most the shard being played and the one being labelled."""
    writer: str | None = None
    """Name of this stream of shards; by default named after the actor."""


@dataclass(frozen=True)
class StudentConfig:
    """The network that learns."""

    name: str = "mnih2013"
    """mnih2013, nature or nature-half."""
    convs: list[tuple[int, int, int]] | None = None
    """Replaces the named network's convolutions: [[channels, kernel, stride], ...]."""
    hidden: list[int] | None = None
    """Replaces the named network's dense widths."""
    activation: Literal["relu", "tanh", "softplus", "recu"] = "relu"
    """Activation after every layer but the last."""
    init: str | None = None
    """Run folder of a student of the same shape to start from; by default random weights."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised: divergence + jacobian_weight * derivative mismatch / s."""

    divergence: Literal["kl", "reverse_kl", "ce", "mse"] = "kl"
    """Distance of policies: KL(teacher||student), KL(student||teacher), hard actions, logits."""
    temperature: float = 1.0
    """Teacher's logits (and derivatives) are divided by this; below 1 sharpens the policy."""
    jacobian_weight: float = 1.0
    """Lambda: weight of the Sobolev term. 0 is plain distillation."""
    jacobian_schedule: Literal["constant", "linear", "cosine"] = "linear"
    """Lambda over training: constant, or decayed to 0."""
    jacobian_targets: Literal["stored", "online"] = "stored"
    """Use the dataset's derivatives, or ask the teacher for fresh ones at every step."""
    jacobian_blur: float = 0.0
    """Sigma in pixels of a Gaussian low-pass on both derivatives before they are compared."""
    match: Literal["l2", "cosine"] = "l2"
    """Compare derivatives by squared distance, or by direction only."""
    law: Literal["sphere", "fisher"] = "sphere"
    """Law of v for online targets and for full Jacobians (stored projections keep their own)."""
    k: int | None = None
    """Projections per state and step: fresh ones, or drawn from the stored ones; default: all stored, or 1 online."""
    input_noise: float = 0.0
    """Standard deviation, in gray levels (0..255), of Gaussian noise on the pixels; the teacher labels them afresh."""


@dataclass(frozen=True)
class TrainConfig:
    """Fitting the student."""

    data: str = "data/{env}"
    """Dataset folder."""
    out: str = "runs/{env}__{student}__{objective}__{seed}__{time}"
    """Run folder; an existing one is refused unless resume is set."""
    hold_data: Literal["auto", "device", "memory", "disk"] = "auto"
    """The dataset's place: device (its own memory), memory, or disk (mapped); auto: a GPU if it fits, else memory."""
    resume: bool = False
    """Continue the run in `out` from its last checkpoint; a finished run is left as it is."""
    steps: int = 5_000
    """Optimizer steps in total."""
    epochs: float | None = None
    """Passes over the training states; replaces steps where given."""
    batch_size: int = 128
    """States per step."""
    learning_rate: float = 1e-3
    """Peak learning rate of Adam."""
    warmup: int = 200
    """Steps of linear warm-up; a cosine to zero follows."""
    max_grad_norm: float = 10.0
    """Gradients are clipped to this global norm; 0 turns clipping off."""
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


@dataclass(frozen=True)
class ImitateConfig:
    """Learning from the student's own games while it plays them; the teacher labels every state."""

    out: str = "runs/{env}__{student}__imitate__{seed}__{time}"
    """Run folder; an existing one is refused unless resume is set."""
    resume: bool = False
    """Continue the run in `out` from its last checkpoint, with new games; a finished run is left as it is."""
    init: str | None = None
    """Start from this agent's weights, a student's run folder or a zip of the same network; by default random ones."""
    states: int | None = 2_400_000
    """States to play and learn from in all; null: only minutes count."""
    minutes: float | None = None
    """Minutes to go on for, earlier runs in the same folder included; the budget that is used up first ends the run."""
    num_envs: int = 32
    """Games played side by side."""
    steps_per_turn: int = 8
    """Steps of all games in a turn; the student plays them with the weights of the turn's beginning."""
    updates_per_turn: int = 2
    """Optimizer steps in a turn, while it plays."""
    batch_size: int = 128
    """States per optimizer step, drawn from the ring."""
    ring: int = 260_000
    """Newest states to learn from, 7 KB of memory each."""
    learning_starts: int = 5_000
    """Learn once the ring has so many states; at the beginning, and after a run was resumed, since no ring is saved."""
    teacher_share: float = 0.05
    """Share of the games that the teacher plays; it falls from 1 to this ..."""
    teacher_share_until: float = 0.08
    """... over this share of the budget."""
    learning_rate: float = 1e-3
    """Adam's learning rate at the start; a cosine takes it ..."""
    final_learning_rate: float = 2e-5
    """... to this one at the end of the budget."""
    max_grad_norm: float = 10.0
    """Gradients are clipped to this global norm; 0 turns clipping off."""
    log_every: int = 10_000
    """States between two rows of curve.csv and TensorBoard points."""
    checkpoint_every: int = 100_000
    """States between checkpoints."""
    teacher_zip: str | None = None
    """Also write the student as an SB3 PPO zip with a model card, to teach others; only with student.name=nature."""
    value: Literal["none", "teacher", "returns"] = "none"
    """That zip's value head: zero, or fitted at the end to the teacher's values or to discounted clipped rewards."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Playing whole games, and fidelity on held-out states."""

    agents: list[str] = field(default_factory=lambda: ["teacher"])
    """Teachers' names or zips, students' run folders, "teacher" (--teacher, else the students'); NAME=WHAT renames."""
    games: int = 32
    """Whole games per agent."""
    num_envs: int = 32
    """Games played side by side; `games` must be a multiple of it."""
    protocol: Literal["zoo", "zoo-greedy", "machado"] = "zoo"
    """zoo: sampled, no sticky actions; zoo-greedy: best action; machado: sampled, sticky 0.25."""
    data: str | None = None
    """Dataset to measure fidelity on; by default what was measured after training on its held-out games."""
    out: str = "runs/{env}__scores"
    """Folder for scores.json and TensorBoard events; an existing scores.json is refused."""
    resume: bool = False
    """Leave an existing, complete scores.json for the same agents as it is."""
    capture_video: bool = False
    """Also write one game per agent as MP4 (needs the video extra)."""


@dataclass(frozen=True)
class SweepConfig:
    """One student for every combination of some settings."""

    grid: dict[str, list[Any]] = field(default_factory=dict)
    """Dotted settings and their values, as {seed: [1, 2], train.states: [1000, 3000]}; every combination is trained."""
    out: str = "runs/{env}__sweep"
    """Folder for rows.csv and one run folder per combination; the same command, or a larger grid, continues it."""
    data: str | None = None
    """Test dataset: fidelity of every student there, besides that on its held-out games."""
    test_states: int = 8192
    """Whole games of it until they have this many states, the same for all students; fragments are left out."""
    games: int = 0
    """Whole games per student, under evaluate.protocol; by default none."""


@dataclass(frozen=True)
class ReportConfig:
    """One self-contained HTML page about one evaluation."""

    scores: str = "runs/{env}__scores/scores.json"
    """scores.json to report on."""
    out: str = "report/{env}"
    """Folder for index.html and the pictures."""


@dataclass(frozen=True)
class Config:
    """Everything, shared by every stage."""

    env: str = ""
    """Game (pong, PongNoFrameskip-v4 and ALE/Pong-v5 are one); default: the teacher's, data's or agents', or pong."""
    teacher: str = ""
    """Bundled name (pong), path to a stable-baselines3 zip or run folder, hf://org/repo; default: env's bundled."""
    preset: str | None = None
    """What is recorded and students see (docs/presets.md); default: what the teacher sees."""
    teacher_preset: str | None = None
    """What the teacher sees, whatever its papers say; default: what they say, else what is recorded."""
    tau: float = 0.01
    """Q-value teachers: logits = Q / tau (Rusu et al. 2016)."""
    seed: int = 1
    """Seed of games, weights, batches and projections; -1 draws one and prints it."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    collect: CollectConfig = field(default_factory=CollectConfig)
    """Settings of `distill collect`."""
    student: StudentConfig = field(default_factory=StudentConfig)
    """The student's network."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """The training objective."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Settings of `distill train`."""
    imitate: ImitateConfig = field(default_factory=ImitateConfig)
    """Settings of `distill imitate`."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """Settings of `distill evaluate`."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    """Settings of `distill sweep`."""
    report: ReportConfig = field(default_factory=ReportConfig)
    """Settings of `distill report`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, as written to a run's config.yaml."""
        return asdict(self)


def fill(template: str, **values: object) -> Path:
    """Fill ``{env}``, ``{student}``, ``{objective}``, ``{seed}``, ``{time}`` in a folder name.

    Raises:
        UserError: another name in braces, or a brace alone.
    """
    try:
        return at_home(template.format(**values))
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        known = ", ".join(f"{{{name}}}" for name in values)
        raise UserError(f"cannot fill in the folder name {template!r}; in braces it may have only {known}") from error
