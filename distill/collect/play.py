"""All games of a collection, in two halves that are played side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from distill.agents.actor import Actor, Policy
from distill.collect.games import Games, Needed
from distill.collect.rollout import Recording, Rollout, joined
from distill.collect.scribe import Notes
from distill.collect.settings import CollectRun
from distill.dataset.writer import DatasetWriter
from distill.envs.ale_vec import AtariVec
from distill.envs.games import game_info
from distill.envs.presets import get_preset
from distill.losses.projection import normals
from distill.system.crew import Crew, halves


class Play:
    """Plays for one stream of shards; in context, since it holds emulators.

    A game depends on the seed, the writer's name and its own number (``Games``); which games are played, and in which
    order their states are recorded, depends on the number of lanes, not on how the threads take turns.

    Args:
        config: settings of the collection.
        writer: where the shards go; a run that continues plays the games that follow.
        make_actor: who acts; called for each half, with the number of its first game.
        crew: its threads.
    """

    def __init__(
        self, config: CollectRun, writer: DatasetWriter, make_actor: Callable[[int], Actor], crew: Crew
    ) -> None:
        c = config.collect
        parts, identity = halves(c.num_envs), writer.identity
        self._crew, self._stack = crew, contextlib.ExitStack()
        preset, actions = get_preset(identity.preset), len(game_info(config.env).actions)
        second = None if identity.same_eyes else get_preset(identity.teacher_preset)
        drawn = identity.k * normals(identity.law, actions, zero_sum=identity.space == "logits")

        def start(half: int) -> Rollout:
            size, first = len(parts[half]), writer.next_episode + half
            needed = Needed(drawn if identity.jacobian == "projected" else 0, identity.jacobian_share)
            games = Games(config.seed, writer.writer, size, first, len(parts), needed)
            env = AtariVec(config.env, size, preset, sticky=c.sticky, next_seed=games.begin, second=second)
            return Rollout(self._stack.enter_context(env), make_actor(first), games, crew.check)

        self._halves = crew.map(start, range(len(parts)))

    @property
    def players(self) -> list[Policy]:
        """Whose actions are played, half by half."""
        return [half.actor.policy for half in self._halves]

    @property
    def next_episode(self) -> int:
        """A number above those of all games so far."""
        return max(half.games.next_episode for half in self._halves)

    @property
    def seconds(self) -> dict[str, float]:
        """How long each part of the play ran, mean of the halves."""
        return {name: sum(h.seconds[name] for h in self._halves) / len(self._halves) for name in ("env", "actor")}

    def record(self, states: int, notes: Sequence[Notes]) -> Recording:
        """Play until ``states`` states are recorded and labelled; each half plays its share and takes its notes."""
        lanes = [half.env.num_envs for half in self._halves]
        later = [states * size // sum(lanes) for size in lanes[1:]]
        shares = [states - sum(later), *later]

        def play(half: int) -> Recording:
            recording = self._halves[half].record(shares[half], notes[half].see)
            notes[half].label()
            return recording

        return joined(self._crew.map(play, [half for half, share in enumerate(shares) if share]))

    def __enter__(self) -> Play:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
