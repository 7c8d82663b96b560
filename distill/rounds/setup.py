"""From settings to the parts of either form: objective, rate, derivatives, who keeps the states, when it is enough."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from distill.batches.sampler import too_few
from distill.collect.label import Labeller
from distill.collect.order import identify
from distill.collect.settings import CollectConfig, CollectRun
from distill.dataset.shards import committed_shards
from distill.dataset.writer import DatasetWriter
from distill.envs.presets import get_preset
from distill.envs.settings import CommonConfig
from distill.errors import UserError
from distill.imitate.begin import Parts, Run, plain_parts
from distill.imitate.fresh import Fresh
from distill.imitate.keeper import Keeper
from distill.imitate.player import STREAM
from distill.imitate.schedule import learning_rate
from distill.imitate.setup import check_plain, student_preset
from distill.losses.settings import ObjectiveConfig
from distill.losses.sobolev import Objective, states_of_share
from distill.losses.terms import make_terms
from distill.records.dataset import read_writer
from distill.rounds.goal import make_goal
from distill.rounds.settings import RoundsRun
from distill.system.progress import console
from distill.system.settings import changed, fill, part
from distill.train.auto import SHARE, UNTIL
from teachers.protocol import TeacherInfo

OF_ONLINE = ("ring", "learning_starts", "log_every", "checkpoint_every")
"""Settings of the section imitate that the form in rounds has no use for."""


def check_rounds(config: RoundsRun) -> None:
    """Refuse settings that cannot work together, or would be passed over.

    Raises:
        UserError: naming the setting.
    """
    r, o = config.rounds, config.objective
    if r.derivatives and not o.derivatives:
        raise UserError("--rounds.derivatives=true, but --objective.jacobian_weight is 0; give it a weight")
    if not r.derivatives:
        check_plain(config)
    if r.derivatives and r.form == "rounds" and o.jacobian_targets == "stored":
        _check_share(make_objective(o).jacobian_share, config.imitate.batch_size)
    if r.form == "online" and r.keep is None and r.shard_states != type(r).shard_states:
        raise UserError("--rounds.shard_states is of states that are kept; add --rounds.keep, or leave it out")
    if r.form == "rounds" and config.imitate.value != "none":
        raise UserError(
            f"--imitate.value={config.imitate.value} is fitted to the ring of --rounds.form=online; use none"
        )
    if r.form == "rounds" and config.imitate.updates_per_turn != type(config.imitate).updates_per_turn:
        raise UserError("--imitate.updates_per_turn is of --rounds.form=online; use --rounds.steps")


def _check_share(share: float, batch_size: int) -> None:
    """Refuse batches so small that more of each would have to carry derivatives than of the states played."""
    first = states_of_share(share, batch_size)
    if too_few(share * batch_size, first, batch_size, others=share < 1):
        raise UserError(
            f"{share:.0%} of the states carry derivatives, too few for {first} of each batch of {batch_size}; set a "
            "larger --imitate.batch_size, another --objective.jacobian_share, or --objective.jacobian_targets=online"
        )


def check_eyes(config: RoundsRun, teacher: TeacherInfo) -> None:
    """Refuse derivatives by pixels that the student does not see.

    Raises:
        UserError: the teacher sees another preset.
    """
    sees = student_preset(config, teacher)
    if config.rounds.derivatives and not get_preset(teacher.preset).sees_as(sees):
        raise UserError(
            f"teacher {config.teacher} sees preset {teacher.preset} and its student {sees.name}, so its "
            "derivatives are by pixels that the student does not see; leave --rounds.derivatives out"
        )


def make_parts(run: Run, config: RoundsRun) -> Parts:
    """What the settings add to a run that is open.

    Raises:
        UserError: the folder of the states cannot be used, or nothing tells the teacher's score.
    """
    r, parts = config.rounds, plain_parts(config)
    idle = [name for name in changed(config.imitate) if name in OF_ONLINE]
    if r.form == "rounds" and idle:
        console.print(f"not used in rounds: imitate.{', imitate.'.join(idle)} (they are of --rounds.form=online)")
    if not r.derivatives:
        console.print("without derivatives; --rounds.derivatives=true matches them, too")
    else:
        parts.objective = make_objective(config.objective)
        share, until = parts.objective.jacobian_share, parts.objective.jacobian_until
        console.print(f"derivatives on {share:g} of each batch until {until:.0%} of the budget")
        parts.rate = lambda used: _rate(config, parts.objective, used)
        parts.early_rate = r.early_learning_rate
        if r.form == "online":
            o, device = config.objective, run.device
            parts.fresh = Fresh(run.teacher, parts.objective, o.law, o.k or 1, config.seed, device)
    goal = make_goal(r, run)
    parts.enough = goal or parts.enough
    if r.form == "rounds" or r.keep is not None:
        parts.keeper = make_keeper(run, config, parts.objective)
    return parts


def make_objective(o: ObjectiveConfig) -> Objective:
    """With derivatives, but without s, which is measured later; ``auto`` is what training takes for many passes."""
    usual = (1.0, 1.0) if o.own_derivatives else (SHARE, UNTIL)
    share, until = (
        default if value == "auto" else float(value)
        for value, default in zip((o.jacobian_share, o.jacobian_until), usual, strict=True)
    )
    return Objective(
        o.divergence, "logits", o.match, o.jacobian_blur, o.temperature, 1.0,
        o.jacobian_weight, o.jacobian_schedule, until, share, make_terms(o.terms),
    )  # fmt: skip


def _rate(config: RoundsRun, objective: Objective, used: float) -> float:
    """A cosine, from a peak that moves from the early rate to the late one as lambda falls."""
    c, early = config.imitate, config.rounds.early_learning_rate
    late, left = c.learning_rate, lambda_left(objective, used)
    peak = late if early is None else late + (early - late) * left
    return learning_rate(used, peak, c.final_learning_rate)


def lambda_left(objective: Objective, used: float) -> float:
    """What is left of lambda, 1 at the beginning."""
    one = dataclasses.replace(objective, jacobian_weight=1.0)
    return one.weights(round(min(used, 1) * 10**6), 10**6)["jacobian"]


def make_keeper(run: Run, config: RoundsRun, objective: Objective) -> Keeper:
    """Who writes the states to their data set; their derivatives, too, where later training may read these.

    Raises:
        UserError: the folder holds other data.
    """
    r, o = config.rounds, config.objective
    stored = objective.derivatives and (r.form == "online" or o.jacobian_targets == "stored")
    folder = run.folder / "data" if r.keep is None else fill(r.keep, env=config.env)
    others = sorted({*committed_shards(folder)} - {STREAM}) if r.form == "rounds" else []
    if others:
        raise UserError(
            f"{folder} holds states of {', '.join(others)}, and --rounds.form=rounds learns from all that are there; "
            "choose another --rounds.keep"
        )
    kind = CollectConfig(
        jacobian="projected" if stored else "none", jacobian_share=objective.jacobian_share, k=o.k or 1, law=o.law
    )
    common = part(dataclasses.replace(config, preset=run.preset.name), CommonConfig)
    identity = identify(CollectRun(**vars(common), collect=kind), run.teacher)
    refuse_other_run(run, folder)
    behaviour = {"actor": STREAM, "behaviour": "sampled", "sticky": 0.0, "seed": config.seed}
    behaviour |= {"run": run.progress.run} if run.progress.run else {}
    try:
        writer = DatasetWriter(folder, identity, STREAM, behaviour, dict(vars(run.teacher.info)))
    except UserError as error:  # it speaks of another stage's settings
        text = str(error).replace("--collect.out", "--rounds.keep").replace("--collect.writer", "--rounds.keep")
        raise UserError(text) from error
    labeller = Labeller.of(run.teacher, identity, run.device)
    return Keeper(writer, labeller, config.seed, r.shard_states)


def refuse_other_run(run: Run, folder: Path) -> None:
    """Refuse states that another run has kept there. One that was killed may have more of them than it knows.

    Raises:
        UserError: there are some.
    """
    record = folder / "writers" / f"{STREAM}.json"
    if not committed_shards(folder).get(STREAM):
        return
    theirs = read_writer(record).behaviour.get("run", "") if record.is_file() else run.progress.run
    if not run.resumed or theirs != run.progress.run:
        raise UserError(f"{folder} holds the states of another run; choose another --rounds.keep")
