"""The learning curve of a teacher in training."""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.logger import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from teachers.curve import Curve


def test_a_killed_run_goes_on_without_showing_a_step_twice(tmp_path: Path) -> None:
    for first, told in ((0, (64, 128, 192)), (64, (128, 256))):
        logger = Logger(str(tmp_path), [Curve(tmp_path, first)])
        for step in told:
            logger.record("rollout/ep_rew_mean", step + first)
            logger.record("time/total_timesteps", step, exclude="tensorboard")
            logger.record("note", "a text")
            logger.dump(step)  # and no close: the process is killed
    seen = EventAccumulator(str(tmp_path)).Reload()
    assert seen.Tags()["scalars"] == ["rollout/ep_rew_mean"]
    points = [(point.step, point.value) for point in seen.Scalars("rollout/ep_rew_mean")]
    assert points == [(64, 64.0), (128, 192.0), (256, 320.0)]
