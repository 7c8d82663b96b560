from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from distill.finetune.critic import CriticWarmup
from distill.finetune.policy import StudentPolicy
from distill.finetune.ppo import TaughtRollouts
from tests.finetune.test_ppo import make

GAMMA = 0.9


def rollouts(policy: StudentPolicy, steps: int, lanes: int) -> list[TaughtRollouts]:
    """Two whose rewards are what makes every return a linear function of the features."""
    rng = np.random.default_rng(0)
    obs = rng.integers(256, size=(2 * steps, lanes, 4, 84, 84), dtype=np.uint8)
    starts = (rng.random((2 * steps + 1, lanes)) < 0.3).astype(np.float32)
    features = policy.value_features(torch.from_numpy(obs.reshape(-1, 4, 84, 84))).reshape(2 * steps, lanes, -1)
    value = (features @ torch.linspace(-1, 1, features.shape[-1]) + 0.5).numpy()
    after = np.concatenate([value[1:], np.zeros((1, lanes), np.float32)]) * (1 - starts[1:])
    rewards = value - GAMMA * after
    made = [
        SimpleNamespace(observations=obs[part], rewards=rewards[part], episode_starts=starts[:-1][part],
                        obs_shape=(4, 84, 84))
        for part in (slice(0, steps), slice(steps, None))
    ]  # fmt: skip
    made[1].last = starts[-1].astype(bool)
    return made  # type: ignore[return-value]


def test_the_head_is_the_exact_solution() -> None:
    model, net = make()
    assert net.value is not None
    first, second = rollouts(model.policy, 30, 4)
    second.last[:] = True  # type: ignore[attr-defined]  # all returns are known
    kept = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    warmup = CriticWarmup(model.policy, 240, GAMMA)
    assert not warmup.add(first)
    assert warmup.add(second)
    before, fitted, known = warmup.fit(second.last)  # type: ignore[attr-defined]
    assert before < 0.5
    assert fitted > 0.99
    assert known == 240
    torch.testing.assert_close(net.value.weight[0], torch.linspace(-1, 1, 32), rtol=0, atol=0.02)
    torch.testing.assert_close(net.value.bias, torch.tensor([0.5]), rtol=0, atol=0.02)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, kept[name]) == (not name.startswith("value")), name


def test_a_head_that_knows_more_stays() -> None:
    model, net = make()
    first, second = rollouts(model.policy, 30, 4)
    assert net.value is not None
    with torch.no_grad():
        net.value.weight.copy_(torch.linspace(-1, 1, 32)[None])
        net.value.bias.fill_(0.5)
    first.rewards = first.rewards + 0.3 * np.random.default_rng(1).normal(size=first.rewards.shape).astype(np.float32)
    warmup = CriticWarmup(model.policy, 240, GAMMA)
    warmup.add(first)
    warmup.add(second)
    before, fitted, _ = warmup.fit(second.last)  # type: ignore[attr-defined]
    assert before > fitted
    assert torch.equal(net.value.weight, torch.linspace(-1, 1, 32)[None])


def test_returns_that_no_feature_tells_leave_their_mean() -> None:
    """Few games, many features: what fits them explains other games worse than nothing."""
    model, net = make()
    first, second = rollouts(model.policy, 12, 4)
    rng = np.random.default_rng(2)
    for part in (first, second):
        part.rewards = (3 + rng.normal(size=part.rewards.shape)).astype(np.float32)
        part.episode_starts = np.ones_like(part.episode_starts)
    warmup = CriticWarmup(model.policy, 96, GAMMA)
    warmup.add(first)
    warmup.add(second)
    before, fitted, known = warmup.fit(np.ones(4, bool))
    assert known == 96
    assert before < -1
    assert -0.2 < fitted < 0.1
    values = net.logits_and_value(torch.from_numpy(first.observations[:, 0]) / 255)[1]
    assert values is not None
    assert (values - 3).abs().max() < 0.5
