"""Moved and noisy pictures against the plain definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from distill.api import Dataset, load_teacher
from studies.atari.perturb import agreement, compare, shifted


def test_a_shift_moves_and_repeats_the_edge() -> None:
    picture = torch.arange(12).view(1, 1, 3, 4)
    assert shifted(picture, 1, 0)[0, 0].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert shifted(picture, -1, 0)[0, 0].tolist() == [[4, 5, 6, 7], [8, 9, 10, 11], [8, 9, 10, 11]]
    assert shifted(picture, 0, 2)[0, 0].tolist() == [[0, 0, 0, 1], [4, 4, 4, 5], [8, 8, 8, 9]]
    assert shifted(picture, 0, -2)[0, 0].tolist() == [[2, 3, 3, 3], [6, 7, 7, 7], [10, 11, 11, 11]]


def test_the_teacher_agrees_with_itself_and_less_with_noise(pong_data: Path) -> None:
    data, teacher = Dataset(pong_data), load_teacher("pong").net
    states = np.arange(0, len(data), 2)[:64]
    clean = compare(teacher, torch.from_numpy(data.stacks(states)), torch.from_numpy(data.logits[states]))
    assert clean == (0.0, pytest.approx(0.0, abs=1e-5))
    found = agreement(teacher, data, states)
    assert 0 < found["noise4_kl"] < found["noise8_kl"] < found["noise16_kl"]
    assert found["shift1_kl"] > 0
    assert found == agreement(teacher, data, states)


def test_disagreement_and_kl_against_numpy() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert float(x.max()) <= 1
            return torch.tensor([[2.0, 1.0], [0.0, 3.0]])

    teacher = np.array([[0.0, 1.0], [0.0, 1.0]])
    error, kl = compare(Fixed(), torch.full((2, 4, 84, 84), 255, dtype=torch.uint8), torch.tensor(teacher))
    log_t, log_s = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (teacher, np.array([[2.0, 1.0], [0.0, 3.0]])))
    assert error == 0.5
    assert kl == pytest.approx(float((np.exp(log_t) * (log_t - log_s)).sum(1).mean()), rel=1e-6)
