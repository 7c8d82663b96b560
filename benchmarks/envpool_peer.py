"""EnvPool's part of ``environment.py``, in an environment of its own (``make bench-peer``)."""

from __future__ import annotations

import json
import sys
import time

import envpool
import numpy as np


def main() -> None:
    setup = json.loads(sys.argv[1])
    lanes, steps = setup["lanes"], setup["steps"]
    name = setup["game"].title().replace("_", "") + "-v5"
    # As stable-baselines3's wrappers play, as far as EnvPool can: frames, stack, skip, no-ops and FIRE.
    env = envpool.make(
        name, env_type="gymnasium", num_envs=lanes, seed=1, stack_num=4, frame_skip=4, img_height=84, img_width=84,
        gray_scale=True, noop_max=30, use_fire_reset=True, episodic_life=True, reward_clip=False,
    )  # fmt: skip
    env.reset()
    rng = np.random.default_rng(0)
    for line in sys.stdin:
        calls = int(line)
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            for actions in rng.integers(env.action_space.n, size=(steps, lanes)):
                env.step(actions)
        seconds = time.perf_counter() - started
        print(json.dumps([seconds, {"cpu": time.process_time() - cpu}]), flush=True)


if __name__ == "__main__":
    main()
