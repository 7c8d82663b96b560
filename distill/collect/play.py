"""All games of a collection, in two halves that are played side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from distill.collect.actor import Actor, Policy
from distill.collect.rollout import Recording, Rollout, joined
from distill.collect.scribe import Notes
from distill.config import Config
from distill.crew import Crew, halves
from distill.dataset.writer import DatasetWriter
from distill.envs.ale_vec import AtariVec
from distill.envs.presets import get_preset


class Play:
    """Plays for one stream of shards; in context, since it holds emulators.

    What it records depends on the seed and the number of lanes, not on how the threads take turns.

    Args:
        config: settings of the collection.
        writer: where the shards go; a run that continues plays other games than the runs before.
        make_actor: who acts; called for each half.
        crew: its threads.
    """

    def __init__(self, config: Config, writer: DatasetWriter, make_actor: Callable[[], Actor], crew: Crew) -> None:
        c = config.collect
        # Lane i is seeded with seed + i, so runs of one writer stride by the number of lanes.
        seed = config.seed * 10_007 % 2**30 + len(writer.shards) * c.num_envs
        parts = halves(c.num_envs)
        self._crew, self._stack = crew, contextlib.ExitStack()
        preset = get_preset(writer.identity.preset)

        def start(half: int) -> Rollout:
            lanes = parts[half]
            env = self._stack.enter_context(AtariVec(config.env, len(lanes), preset, sticky=c.sticky))
            first = writer.next_episode + half
            return Rollout(env, make_actor(), seed + lanes.start, first, len(parts), crew.check)

        self._halves = crew.map(start, range(len(parts)))

    @property
    def players(self) -> list[Policy]:
        """Whose actions are played, half by half."""
        return [half.actor.policy for half in self._halves]

    @property
    def next_episode(self) -> int:
        """A number above those of all games so far."""
        return max(half.next_episode for half in self._halves)

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
