"""The loss against a plain reference, and SB3's own ``train`` where nobody teaches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from torch import nn
from torch.distributions import Categorical, kl_divergence

from distill.envs.presets import get_preset
from distill.finetune.policy import StudentPolicy
from distill.finetune.ppo import Samples, TaughtPPO, TaughtRollouts, losses
from distill.networks.nets import AtariCNN, NetSpec
from teachers.sb3_vec import AtariVecSB3
from tests.finetune.conftest import SPEC

SETTINGS: dict[str, Any] = {
    "n_steps": 8, "batch_size": 8, "n_epochs": 2, "clip_range": 0.1, "ent_coef": 0.01, "vf_coef": 0.5, "seed": 2,
    "learning_rate": 0.001, "device": "cpu",
}  # fmt: skip


def make(spec: NetSpec = SPEC, **changes: Any) -> tuple[TaughtPPO, AtariCNN]:
    torch.manual_seed(1)
    net = AtariCNN(spec, 6, value=True)
    with torch.no_grad():
        net.policy.weight.mul_(50)
    env = AtariVecSB3("pong", 2, get_preset("sb3"), seed=0)
    model = TaughtPPO(
        StudentPolicy, env, rollout_buffer_class=TaughtRollouts, policy_kwargs={"net": net}, **SETTINGS | changes
    )
    model.set_logger(Logger(None, []))
    return model, net


def batch(net: AtariCNN, states: int = 16) -> Samples:
    """Played by a policy that is a little off, so that some ratios are clipped."""
    rng = np.random.default_rng(3)
    obs = torch.from_numpy(rng.integers(256, size=(states, 4, 84, 84), dtype=np.uint8))
    with torch.no_grad():
        logits = net(obs / 255)
    actions = Categorical(logits=logits).sample()
    before = Categorical(logits=logits + 0.3 * torch.randn(logits.shape)).log_prob(actions)
    rest = [torch.from_numpy(rng.normal(size=states).astype(np.float32)) for _ in range(3)]
    teacher = torch.from_numpy(rng.normal(size=(states, 6)).astype(np.float32))
    return Samples(obs, actions[:, None].float(), rest[0], before, rest[1], rest[2], teacher)


def reference(net: AtariCNN, b: Samples, clip: float, *, clipped_kl: bool) -> dict[str, torch.Tensor]:
    """As the papers write it, by autograd through the network itself."""
    x = b.observations / 255
    features = net.features(x)
    policy = Categorical(logits=net.policy(features))
    ratio = torch.exp(policy.log_prob(b.actions.flatten()) - b.old_log_prob)
    gain = (b.advantages - b.advantages.mean()) / (b.advantages.std() + 1e-8)
    clipped = torch.clamp(ratio, 1 - clip, 1 + clip)
    assert b.teacher is not None
    assert net.value is not None
    divergence = kl_divergence(Categorical(logits=b.teacher), policy)
    weight = torch.clamp(ratio, 1 - clip, None) if clipped_kl else torch.ones_like(ratio)
    return {
        "policy": -torch.min(ratio * gain, clipped * gain).mean(),
        "value": nn.functional.mse_loss(net.value(features).flatten(), b.returns),
        "entropy": -policy.entropy().mean(),
        "teacher": (weight * divergence).mean(),
    }


@pytest.mark.parametrize("clipped_kl", [False, True])
@pytest.mark.parametrize("spec", [SPEC, NetSpec(((4, 8, 8),), (), "tanh")], ids=["engine", "autograd"])
def test_losses_and_gradient_are_the_references(spec: NetSpec, clipped_kl: bool) -> None:
    model, net = make(spec)
    b = batch(net)
    weights = {"policy": 1.0, "value": 0.5, "entropy": 0.01, "teacher": 0.7}
    gradients = []
    found: list[dict[str, torch.Tensor]] = []
    for made in (losses(model.policy, b, 0.1, clipped_kl=clipped_kl), reference(net, b, 0.1, clipped_kl=clipped_kl)):
        net.zero_grad()
        total = sum((weights[name] * loss for name, loss in made.items()), torch.zeros(()))
        total.backward()
        gradients.append([parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None])
        found.append({name: loss.detach() for name, loss in made.items()})
    assert found[0].keys() == found[1].keys() == weights.keys()
    for name in weights:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-5, atol=1e-6, msg=name)
    assert len(gradients[0]) == len([*net.parameters()])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_without_a_teacher_an_update_is_sb3s_own() -> None:
    after = []
    for train in (TaughtPPO.train, PPO.train):
        model, net = make()
        _total, callback = model._setup_learn(64)
        assert model.env is not None
        assert model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
        np.random.seed(4)
        train(model)
        after.append({name: tensor.clone() for name, tensor in net.state_dict().items()})
        model.env.close()
    fresh = make()[1].state_dict()
    for name, tensor in after[0].items():
        torch.testing.assert_close(tensor, after[1][name], rtol=0, atol=2e-6, msg=name)
        assert not torch.equal(tensor, fresh[name])


def test_labels_stay_with_their_states() -> None:
    """The label of a state is its number in time and lane."""
    model, _ = make()
    _total, callback = model._setup_learn(64)
    assert model.env is not None
    assert model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    buffer = model.rollout_buffer
    sums = buffer.taught_obs().reshape(16, -1).sum(1, dtype=np.int64)
    buffer.labels = np.repeat(sums[:, None], 6, 1).astype(np.float32)
    seen = 0
    for part in buffer.get(4):
        assert isinstance(part, Samples)
        assert part.teacher is not None
        torch.testing.assert_close(part.observations.flatten(1).sum(1).float(), part.teacher[:, 0])
        seen += len(part.teacher)
    assert seen == 16
    model.env.close()
