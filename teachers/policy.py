"""SB3's ``CnnPolicy``, made faster on a CPU; the weights, the loss and the saved zip stay SB3's."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticCnnPolicy
from stable_baselines3.common.torch_layers import NatureCNN
from torch import Tensor, nn

from distill.engine.engine import Engine
from distill.networks.layers.layer import known


class FastCnnPolicy(ActorCriticCnnPolicy):
    """``CnnPolicy`` whose passes from pixels to features are the engine's (docs/performance.md).

    It reads bytes instead of floats and folds the first layer. On another device than the CPU, and with layers that the
    engine does not know, it is ``CnnPolicy``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self.normalize_images
        layers = self.layers()
        # The engine ends before the last activation: it shares its parameters with the extractor.
        path = nn.Sequential(*list(layers)[:-1])
        self._engine = Engine(path) if known(path) else None
        self._last = layers[-1] if known(path) else nn.Identity()

    def layers(self) -> nn.Sequential:
        """All that is between pixels and features, shared by actor and critic; empty where there is no such path."""
        extractor = self.features_extractor
        return nn.Sequential(*extractor.cnn, *extractor.linear) if isinstance(extractor, NatureCNN) else nn.Sequential()

    def extract_features(self, obs: Any, features_extractor: Any = None) -> Any:
        """uint8 (B, 4, 84, 84) to float (B, features)."""
        if self._engine is None or obs.device.type != "cpu" or obs.dtype != torch.uint8:
            return super().extract_features(obs, features_extractor)
        if not torch.is_grad_enabled():
            return self._last(self._engine.forward(obs).logits)
        weights = list(self.features_extractor.parameters())
        weight = next((one for one in weights if one.requires_grad), weights[0])  # the first layers may be frozen
        return self._last(_Features.apply(obs, weight, self._engine))  # type: ignore[no-untyped-call]


class _Features(torch.autograd.Function):
    """The engine's passes as one operation of autograd's; ``weight``, any that learns, makes it differentiable."""

    @staticmethod
    def forward(ctx: Any, obs: Tensor, weight: Tensor, engine: Engine) -> Tensor:
        ctx.engine, ctx.tape = engine, engine.forward(obs)
        return ctx.tape.logits  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        ctx.engine.backward(ctx.tape, gradient)
        return None, None, None


def make_ppo(env: Any, *, device: torch.device, **settings: Any) -> PPO:
    """SB3's PPO with the faster policy; its zips name SB3's own, so that SB3 alone can load them."""
    model = PPO(FastCnnPolicy, env, device=device, **settings)
    model.policy_class = ActorCriticCnnPolicy
    return model


def fuse_optimizer(model: PPO) -> None:
    """Let Adam update all weights in one pass. Call after a checkpoint is loaded, which carries its own settings."""
    for group in model.policy.optimizer.param_groups:
        group["fused"] = True
