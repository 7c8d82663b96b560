"""The peer of ``proximal.py``: proximal policy distillation by a checkout of ``sb3_distill``, as its example does it.

``proximal.py`` starts it and reads what it writes: the student's weights by our names, and the seconds it took.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import ale_py
import gymnasium
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack, VecNormalize

from distill.students.extractor import ACTIVATIONS, StudentExtractor

# Not in a function: the processes of SubprocVecEnv import this file, and need both.
gymnasium.register_envs(ale_py)
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
ACTIVATIONS["relu"] = torch.nn.ReLU


def distil(order: dict[str, Any]) -> dict[str, Any]:
    """Teacher, games and student are made within the time; imports are not."""
    sys.path.insert(0, order["checkout"])
    # Not above: the processes of SubprocVecEnv import this file, within the time.
    from sb3_distill import ProximalPolicyDistillation  # type: ignore[import-not-found]

    from teachers.ppo import linear

    settings = dict(order["settings"])
    if order["falls"]:
        settings |= {name: linear(settings[name]) for name in ("learning_rate", "clip_range")}
    clipped = order["rewards"] == "clipped"
    began, cpu = time.perf_counter(), processor_seconds()
    env: Any = make_atari_env(
        order["env"], order["lanes"], seed=order["seed"], vec_env_cls=SubprocVecEnv,
        wrapper_kwargs={"clip_reward": clipped, "terminal_on_life_loss": True},
    )  # fmt: skip
    env = VecFrameStack(env if clipped else VecNormalize(env, norm_obs=False), 4)
    teacher = PPO.load(order["teacher"], device=order["device"])
    spec = order["spec"]
    network = {"features_extractor_class": StudentExtractor, "features_extractor_kwargs": {"spec": spec}}
    student = ProximalPolicyDistillation(
        "CnnPolicy", env, policy_kwargs=network | {"net_arch": []}, seed=order["seed"], device=order["device"],
        **settings,
    )  # fmt: skip
    student.set_teacher(teacher, distill_lambda=order["weight"])
    student.learn(order["states"])
    seconds = time.perf_counter() - began
    policy = student.policy
    weights = {f"features.{name}": tensor for name, tensor in policy.features_extractor.body.state_dict().items()}
    weights |= {f"policy.{name}": tensor for name, tensor in policy.action_net.state_dict().items()}
    torch.save({name: tensor.cpu() for name, tensor in weights.items()}, order["weights"])
    env.close()
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # only then its games' time is known
    return {"seconds": seconds, "cpu": processor_seconds() - cpu, "states": student.num_timesteps}


def processor_seconds() -> float:
    """Of this process and of those it started that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("order", help="what to do, as JSON")
    order = json.loads(parser.parse_args().order)
    Path(order["out"]).write_text(json.dumps(distil(order)))


if __name__ == "__main__":
    multiprocessing.set_forkserver_preload(["stable_baselines3", "ale_py"])  # or every process imports PyTorch anew
    main()
