"""Programs that a benchmark times, each in a process of its own: what one would write instead, and ours.

A benchmark starts it (``measure.Elsewhere``) with a JSON object on the command line and asks for turns: a line
with a number of calls on standard input is answered by a line of JSON, their seconds and what the last one returned.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ale_py
import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from data import random_batch
from torch import nn

from distill.batches.loader import Loader, batches
from distill.batches.sampler import Sampler
from distill.dataset.reader import Dataset
from distill.engine.step import make_engine, make_step
from distill.envs.ale_vec import AtariVec
from distill.envs.games import env_id
from distill.envs.presets import get_preset
from distill.losses.settings import ObjectiveConfig
from distill.losses.sobolev import Objective, sobolev_loss, states_of_share
from distill.networks.nets import AtariCNN, net_spec, to_unit
from distill.system.device import arithmetic, pick_device
from distill.system.runtime import tune_process

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

# Not in a function: the processes of SubprocVecEnv import this file, and need both.
gymnasium.register_envs(ale_py)
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)

ENV, FRAME_SKIP = "PongNoFrameskip-v4", 4
PPO_LANES, PPO_STEPS = 8, 128
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def autograd(
    student: str, actions: int, batch: int, layout: str, weight: float, device: torch.device
) -> Callable[[], object]:
    """A step's gradient by ``create_graph``; a plain KL step where ``weight`` is 0."""
    memory_format = LAYOUTS[layout]
    net = AtariCNN(net_spec(student), actions).to(device, memory_format=memory_format)
    inputs, objective = random_batch(batch, actions, device), Objective()

    def step() -> None:
        net.zero_grad()
        x = to_unit(inputs.obs).contiguous(memory_format=memory_format)
        sobolev_loss(net, x, inputs.logits, inputs.targets, weight, objective).total.backward()  # type: ignore[no-untyped-call]

    return step


def naive(student: str, batch: int, data: str, device: torch.device) -> Callable[[], object]:
    """An iteration of a plain distillation loop as a tutorial would write it."""
    dataset = Dataset(data, jacobian=False)
    stacks, logits = dataset.stacks(np.arange(len(dataset))), dataset.logits
    net = AtariCNN(net_spec(student), logits.shape[1]).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)

    def loop() -> Iterator[None]:
        while True:
            order = rng.permutation(len(stacks))[: len(stacks) // batch * batch]
            for index in np.split(order, len(stacks) // batch):
                x = torch.from_numpy(stacks[index]).to(device).float() / 255
                target = torch.from_numpy(logits[index]).to(device)
                loss = F.kl_div(net(x).log_softmax(1), target.log_softmax(1), log_target=True, reduction="batchmean")
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(net.parameters(), 10.0)
                optimizer.step()
                yield

    return functools.partial(next, loop())


def engine(
    student: str, actions: int, batch: int, device: torch.device, share: float, fixed: int = 0
) -> Callable[[], object]:
    """Our gradient of the same step, with derivatives on a share of the batch; so many first layers are left alone.

    A share of 0 is plain distillation.
    """
    net = AtariCNN(net_spec(student), actions).to(device)
    net.features[: 2 * fixed].requires_grad_(False)  # with activations between them
    step = make_step(net, make_engine(net, arithmetic(device, "auto")))
    inputs, objective = random_batch(batch, actions, device, share or 1.0), Objective()

    def one() -> None:
        net.zero_grad()
        step(inputs.obs, inputs.logits, inputs.targets, 1.0 if share else 0.0, objective)

    return one


def ours(student: str, batch: int, data: str, device: torch.device, share: float = 0.0) -> Callable[[], object]:
    """An iteration of ``distill train``, with derivatives on a share of the batch; 0 is plain distillation."""
    dataset = Dataset(data, jacobian=share > 0)
    net = AtariCNN(net_spec(student), dataset.logits.shape[1]).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    step = make_step(net, make_engine(net, arithmetic(device, "auto")))
    loader, sampler = Loader(dataset, ObjectiveConfig(), device, 1, None), Sampler(np.arange(len(dataset)), batch, 1)
    carrying = states_of_share(share, batch) if share else 0
    stream = batches(loader, sampler, 0, 10**9, carrying=lambda step: carrying)

    def one() -> None:
        batch = next(stream)
        optimizer.zero_grad()
        step(batch.obs, batch.logits, batch.targets, 1.0 if share else 0.0, Objective())
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()

    return one


def collection(env: str, games: int, teacher: str, states: int, out: str, device: torch.device) -> Callable[[], object]:
    """stable-baselines3's environments, and at every step a forward pass, a sampled action and one autograd J^T v.

    States, logits, v and J^T v (fp16) are saved with ``np.savez``, unlike ours without checksums or fsync.
    """
    from teachers.load import load_teacher

    venv, net = _sb3_env(games, 1, _sb3_class(env)), load_teacher(teacher).net.to(device)
    obs = venv.reset()

    def record() -> None:
        nonlocal obs
        table: dict[str, list[np.ndarray]] = defaultdict(list)
        for _ in range(states // games):
            # Frames are the last axis here, so permuting gives a channels-last batch: the faster layout on a CPU.
            x = torch.from_numpy(obs).to(device).permute(0, 3, 1, 2).float().div_(255).requires_grad_()
            logits = net(x)
            v = torch.randn_like(logits)
            v -= v.mean(1, keepdim=True)
            v /= v.norm(dim=1, keepdim=True)
            (vjp,) = torch.autograd.grad(logits, x, v)
            action = torch.distributions.Categorical(logits=logits.detach()).sample().cpu().numpy()
            table["obs"].append(obs)  # a fresh array every step
            for name, column in (("logits", logits.detach()), ("v", v), ("vjp", vjp.half())):
                table[name].append(column.cpu().numpy())
            obs, reward, done, _ = venv.step(action)
            for name, column in (("action", action), ("reward", reward), ("done", done)):
                table[name].append(column)
        np.savez(Path(out), **{name: np.concatenate(parts) for name, parts in table.items()})

    return record


def evaluation(teacher: str, lanes: int, games: int, device: torch.device) -> Callable[[], object]:
    """Whole games by ``PPO.load`` and ``evaluate_policy``, as stable-baselines3's documentation evaluates an agent.

    Making the environments is part of it. A call plays other games than the one before.
    """
    from stable_baselines3 import PPO
    from stable_baselines3.common.evaluation import evaluate_policy

    from teachers.load import find_teacher

    model = PPO.load(find_teacher(teacher).path, device=device)
    seeds = iter(range(1, 10**6, 1000))

    def play() -> dict[str, list[float]]:
        env = _sb3_env(lanes, next(seeds), None)
        scores, frames = evaluate_policy(model, env, games, deterministic=False, return_episode_rewards=True)
        env.close()
        assert isinstance(scores, list)
        assert isinstance(frames, list)
        # Monitor lies inside the wrappers: it counts whole games, and the emulator's frames.
        return {"scores": [float(score) for score in scores], "steps": [frame // FRAME_SKIP for frame in frames]}

    return play


def environment(env: str, game: str, lanes: int, steps: int, device: torch.device) -> Callable[[], object]:
    """So many steps of all lanes with random actions. ``env``: SubprocVecEnv, or a preset of ours."""
    rng = np.random.default_rng(0)
    if env == "SubprocVecEnv":
        venv = _sb3_env(lanes, 1, _sb3_class(env), env_id(game))
        venv.reset()
        step, count = venv.step, venv.action_space.n  # type: ignore[attr-defined]
    else:
        ours = AtariVec(game, lanes, get_preset(env))
        ours.reset(1)
        step, count = ours.step, ours.num_actions

    def play() -> dict[str, float]:
        """Seconds of all this process's threads."""
        started = time.process_time()
        for actions in rng.integers(count, size=(steps, lanes)):
            step(actions)
        return {"cpu": time.process_time() - started}

    return play


def ppo(env: str, game: str, iterations: int, device: torch.device) -> Callable[[], object]:
    """PPO learns for so many iterations of a rollout and an update, with RL Baselines3 Zoo's settings.

    ``env`` is SB3's DummyVecEnv or SubprocVecEnv, or ``ours``: what ``python -m teachers.train`` learns with.
    """
    from stable_baselines3 import PPO

    from teachers.policy import fuse_optimizer, make_ppo
    from teachers.sb3_vec import AtariVecSB3

    settings: dict[str, Any] = {"learning_rate": 2.5e-4, "clip_range": 0.1, "ent_coef": 0.01, "vf_coef": 0.5}
    settings |= {"n_steps": PPO_STEPS, "batch_size": 256, "n_epochs": 4, "seed": 1, "device": device}
    if env == "ours":
        model = make_ppo(AtariVecSB3(game, PPO_LANES, get_preset("sb3"), seed=1), **settings)
        fuse_optimizer(model)
    else:
        model = PPO("CnnPolicy", _sb3_env(PPO_LANES, 1, _sb3_class(env), env_id(game)), **settings)

    def learn() -> dict[str, float]:
        """Seconds of the updates, the rest went into rollouts; and those of all this process's threads."""
        updates, train, cpu = [], model.train, time.process_time()

        def timed() -> None:
            started = time.perf_counter()
            train()
            updates.append(time.perf_counter() - started)

        model.train = timed  # type: ignore[method-assign]
        model.learn(iterations * PPO_LANES * PPO_STEPS, reset_num_timesteps=False)
        model.train = train  # type: ignore[method-assign]
        return {"updates": sum(updates), "cpu": time.process_time() - cpu}

    return learn


def _sb3_class(name: str) -> type[VecEnv]:
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

    multiprocessing.set_forkserver_preload(["stable_baselines3", "ale_py"])  # or every process imports PyTorch anew
    return {"DummyVecEnv": DummyVecEnv, "SubprocVecEnv": SubprocVecEnv}[name]


def _sb3_env(lanes: int, seed: int, cls: type[VecEnv] | None, env: str = ENV) -> VecEnv:
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    return VecFrameStack(make_atari_env(env, lanes, seed=seed, vec_env_cls=cls), 4)


PROGRAMS: dict[str, Callable[..., Callable[[], object]]] = {
    "autograd": autograd,
    "engine": engine,
    "naive": naive,
    "ours": ours,
    "collection": collection,
    "evaluation": evaluation,
    "environment": environment,
    "ppo": ppo,
}


def main() -> None:
    setup: dict[str, Any] = json.loads(sys.argv[1])
    if setup.pop("tuned", False):
        tune_process()  # the part of it that is not in the environment
    device = pick_device(setup.pop("device"))
    arithmetic(device, "auto")
    program = PROGRAMS[setup.pop("program")](**setup, device=device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for line in sys.stdin:
        calls = int(line)
        if calls > 1:
            program()  # not timed: see measure.Here
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            result = program()
        wait()
        print(json.dumps([time.perf_counter() - start, result]), flush=True)


if __name__ == "__main__":
    main()
