"""What a GPU needs of the engine's step: one graph to compile, and no wait for the device inside.

Without a GPU the second is tested on meta tensors, a device that has no numbers. The recorded graph itself is
tested where there is a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from distill.engine.captured import CapturedStep
from distill.engine.engine import Engine
from distill.losses.sobolev import Losses, Objective
from distill.losses.targets import Targets
from distill.networks.nets import AtariCNN, NetSpec

MakeNet = Callable[..., AtariCNN]
MakeBatch = Callable[..., tuple[Tensor, Tensor, Targets]]
OBJECTIVES: list[dict[str, Any]] = [
    {},
    {"blur": 1.5},
    {"match": "cosine", "space": "log_probs"},
    {"divergence": "reverse_kl", "space": "probs"},
    {"divergence": "ce", "temperature": 0.5, "blur": 0.8},
    {"divergence": "mse"},
]


def gradients(net: nn.Module) -> list[Tensor]:
    found = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad(set_to_none=True)
    return found


def as_stored(targets: Targets) -> Targets:
    """Derivatives as int8 codes with scales, as a dataset has them."""
    codes = (targets.vjp * 1e3).clamp(-127, 127).to(torch.int8)
    return Targets(targets.v, codes, torch.full(codes.shape[:-1], 1e-3, dtype=targets.vjp.dtype))


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("setting", OBJECTIVES[:4])
def test_the_step_compiles_whole(
    make_net: MakeNet, make_batch: MakeBatch, setting: dict[str, Any], activation: str
) -> None:
    net, (x, logits, targets), objective = make_net(activation=activation), make_batch(), Objective(**setting)
    engine, weight = Engine(net.path(), torch.float64), torch.tensor(0.3, dtype=torch.float64)
    want = engine.step(x, logits, as_stored(targets), weight, objective)
    expected = gradients(net)
    compiled = torch.compile(engine.step, fullgraph=True, backend="aot_eager")
    got = compiled(x, logits, as_stored(targets), weight, objective)
    torch.testing.assert_close(got.total, want.total)
    for mine, reference in zip(gradients(net), expected, strict=True):
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("weight", [0.3, 0.0])
def test_weight_may_be_a_tensor(make_net: MakeNet, make_batch: MakeBatch, weight: float) -> None:
    net, (x, logits, targets) = make_net(), make_batch()
    engine = Engine(net.path(), torch.float64)
    want = engine.step(x, logits, targets, weight, Objective())
    expected = gradients(net)
    got = engine.step(x, logits, targets, torch.tensor(weight, dtype=torch.float64), Objective())
    torch.testing.assert_close(got.total, want.total)
    for mine, reference in zip(gradients(net), expected, strict=True):
        torch.testing.assert_close(mine, reference)


class Elsewhere(TorchDispatchMode):
    """Meta tensors have no numbers, so none can be fetched from them; here none may be sent to them either."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        inputs, outputs = (
            {part.device.type for part in tree_leaves(parts) if isinstance(part, Tensor)}
            for parts in ((args, kwargs), out)
        )
        assert "cpu" not in inputs | outputs, f"{function} computes on the host"
        return out


def step_elsewhere(
    objective: Objective, activation: str, dtype: torch.dtype, before: Callable[[Tensor], object] = lambda x: None
) -> tuple[Losses, AtariCNN]:
    net = AtariCNN(NetSpec(((16, 8, 4), (32, 4, 2)), (256,), activation), 6).to("meta")
    engine = Engine(net.path(), dtype)
    with torch.device("meta"):
        codes = torch.empty(8, 2, 4, 84, 84, dtype=torch.int8)
        targets = Targets(torch.empty(8, 2, 6), codes, torch.empty(8, 2, 4, 84))
        obs = torch.empty(8, 4, 84, 84, dtype=torch.uint8)
        logits, weight = torch.empty(8, 6), torch.empty(())
    engine.step(obs, logits, targets, weight, objective)  # what is sent once is sent before a graph is recorded
    net.zero_grad(set_to_none=True)
    with Elsewhere():
        before(obs)
        return engine.step(obs, logits, targets, weight, objective), net


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["relu", "softplus"])
@pytest.mark.parametrize("setting", OBJECTIVES)
def test_the_step_never_waits_for_the_device(setting: dict[str, Any], activation: str, dtype: torch.dtype) -> None:
    losses, net = step_elsewhere(Objective(**setting), activation, dtype)
    assert losses.total.is_meta
    assert all(p.grad is not None and p.grad.is_meta for p in net.parameters())


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: float(x.sum()),
        lambda x: x.cpu(),
        lambda x: x.nonzero(),
        lambda x: torch.ones(3).to(x.device),
        lambda x: x + torch.ones(()),
    ],
)
def test_a_wait_is_noticed(wait: Callable[[Tensor], object]) -> None:
    with pytest.raises(
        (AssertionError, RuntimeError, NotImplementedError),
        match=r"on the host|[Mm]eta tensor|nonzero",
    ):
        step_elsewhere(Objective(), "relu", torch.float32, before=wait)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("setting", OBJECTIVES)
def test_a_recorded_step_is_the_step(
    make_net: MakeNet, make_batch: MakeBatch, setting: dict[str, Any], dtype: torch.dtype
) -> None:
    net, objective = make_net(dtype=torch.float32).cuda(), Objective(**setting)
    engine = Engine(net.path(), dtype)
    captured = CapturedStep(engine, net.parameters())
    rtol, atol = (1e-3, 1e-5) if dtype == torch.float32 else (1e-2, 1e-3)  # bf16 has 8 bits, and sums in no fixed order
    for round_ in range(3):
        x, logits, targets = make_batch(batch=8, dtype=torch.float32)
        x, logits = (x * (1 + round_) / 3).cuda(), logits.roll(round_).cuda()
        stored = as_stored(targets)
        assert stored.scale is not None
        stored = Targets(stored.v.cuda(), stored.vjp.roll(round_).cuda(), stored.scale.cuda())
        want = engine.step(x, logits, stored, 0.1 * round_, objective)
        expected = gradients(net)
        got = captured(x, logits, stored, 0.1 * round_, objective)
        torch.testing.assert_close(got.total, want.total, rtol=1e-4, atol=1e-5)
        for mine, reference in zip(gradients(net), expected, strict=True):
            torch.testing.assert_close(mine, reference, rtol=rtol, atol=atol * float(reference.abs().max() + 1))
        with torch.no_grad():  # the graph must read the weights anew
            for parameter in net.parameters():
                parameter.add_(0.01)


@pytest.mark.gpu
def test_the_engine_on_a_gpu_is_the_engine_on_a_cpu(make_net: MakeNet, make_batch: MakeBatch) -> None:
    net, (x, logits, targets) = make_net(), make_batch()
    Engine(net.path(), torch.float64).step(x, logits, targets, 0.3, Objective())
    expected = gradients(net)
    net.cuda()
    on_gpu = Targets(targets.v.cuda(), targets.vjp.cuda())
    Engine(net.path(), torch.float64).step(x.cuda(), logits.cuda(), on_gpu, 0.3, Objective())
    for mine, reference in zip(gradients(net), expected, strict=True):
        torch.testing.assert_close(mine.cpu(), reference)
