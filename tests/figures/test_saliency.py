from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from distill.dataset.reader import Dataset
from distill.envs.games import game_info
from distill.figures.saliency import choose_states, saliency
from distill.networks.nets import AtariCNN, NetSpec, to_unit
from teachers.load import load_teacher

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(pong_data: Path) -> Dataset:
    return Dataset(pong_data, jacobian=False)


def test_choose_states_spreads_over_the_held_out_stretch(dataset: Dataset) -> None:
    held = np.arange(100, 600)
    chosen = choose_states(dataset, held)
    assert [(index - 100) // 100 for index in chosen] == [0, 1, 2, 3, 4]
    assert choose_states(dataset, held[:3]).tolist() == held[:3].tolist()


def test_choose_states_prefers_new_actions_in_lively_states(dataset: Dataset) -> None:
    held = np.arange(600)
    chosen = choose_states(dataset, held)
    changed = (dataset.frames[dataset.pos] != dataset.frames[dataset.pos - 1]).mean((1, 2))
    assert (changed[chosen] >= np.median(changed)).all()
    best = dataset.logits.argmax(-1)
    lively = [set(best[s][changed[s] >= np.median(changed)]) for s in np.array_split(held, 5)]
    assert len(set(best[chosen])) >= min(5, min(len(actions) for actions in lively))


def test_maps_are_derivatives_of_the_teachers_best_action(dataset: Dataset) -> None:
    teacher = load_teacher("pong").net
    student = AtariCNN(NetSpec(((4, 8, 4),), (16,)), 6)
    index = np.array([50, 300, 550])
    result = saliency(dataset, index, teacher, {"student": student, "copy": teacher}, CPU)

    x = to_unit(torch.from_numpy(dataset.stacks(index))).requires_grad_()
    logits = student(x)
    best = torch.from_numpy(dataset.logits[index]).argmax(-1)
    (wanted,) = torch.autograd.grad((logits.gather(1, best[:, None])[:, 0] - logits.mean(1)).sum(), x)
    logits = teacher(x)
    (target,) = torch.autograd.grad((logits.gather(1, best[:, None])[:, 0] - logits.mean(1)).sum(), x)
    cosine = torch.cosine_similarity(wanted.flatten(1), target.flatten(1))
    np.testing.assert_allclose(result.cosines["student"], cosine.numpy(), atol=1e-5)
    np.testing.assert_allclose(result.cosines["copy"], 1.0, atol=1e-6)

    for gradient, shown in zip(wanted, result.students["student"], strict=True):
        smooth = cv2.GaussianBlur(gradient[-1].abs().numpy(), (0, 0), 1.5)
        assert np.corrcoef(smooth.ravel(), shown.ravel())[0, 1] > 0.98
        assert shown.min() >= 0
        assert shown.max() == 1
    assert result.teacher is not None
    np.testing.assert_array_equal(result.teacher, result.students["copy"])
    meanings = game_info("pong").actions
    assert result.actions == [meanings[action] for action in best]
    np.testing.assert_array_equal(result.frames, dataset.stacks(index)[:, -1])
    policy = torch.from_numpy(dataset.logits[index]).softmax(-1).max(-1).values
    np.testing.assert_allclose(result.probabilities, policy.numpy(), rtol=1e-5)


def test_without_a_teacher_there_are_no_cosines(dataset: Dataset) -> None:
    student = AtariCNN(NetSpec(((4, 8, 4),), (16,)), 6)
    result = saliency(dataset, np.array([5]), None, {"student": student}, CPU)
    assert result.teacher is None
    assert result.cosines == {}
    assert result.students["student"].shape == (1, 84, 84)
