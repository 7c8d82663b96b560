"""Particle swarm search for the values of a few pixels (arXiv 2006.03243)."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.attack.method import Scene
from distill.attack.victim import log_others

INERTIA, OWN, ALL = 0.7, 1.5, 1.5
"""w, c1 and c2 of v <- w v + c1 r1 (best own - x) + c2 r2 (best of all - x)."""
SIZE = 84


def around(centres: Tensor, patch: int) -> Tensor:
    """Pixels of patches, int64 (B, n * patch^2), row by row of the frame; those over its edge are moved to it.

    Args:
        centres: their middles, int64 (B, n).
        patch: their width, odd.
    """
    offset = torch.arange(patch, device=centres.device) - patch // 2
    rows = (centres // SIZE).unsqueeze(-1).add(offset).clamp(0, SIZE - 1)
    columns = (centres % SIZE).unsqueeze(-1).add(offset).clamp(0, SIZE - 1)
    return (rows.unsqueeze(-1) * SIZE + columns.unsqueeze(-2)).flatten(1)


def apart(scores: Tensor, count: int, patch: int) -> Tensor:
    """Middles, int64 (B, count), of the patches of the highest scores that share no pixel, as long as there are such.

    Neighbours score alike: the highest alone would lie on one another, and be fewer pixels than asked for.

    Args:
        scores: of every pixel as a middle, (B, 84 * 84).
        count: patches.
        patch: their width, odd.
    """
    if patch == 1:
        return scores.topk(count, dim=1).indices
    left, places = scores.clone(), torch.arange(SIZE * SIZE, device=scores.device)
    rows, columns = places // SIZE, places % SIZE
    found = []
    for _ in range(count):
        best = left.argmax(1, keepdim=True)
        near = ((rows - best // SIZE).abs() < patch) & ((columns - best % SIZE).abs() < patch)
        left = left.masked_fill(near, float("-inf"))
        found.append(best)
    return torch.cat(found, 1)


def put(x: Tensor, pixels: Tensor, values: Tensor) -> Tensor:
    """Stacks, uint8 (B, 4, 84, 84), with these values, (B, n), at these pixels, (B, n), of the newest frame.

    A pixel of several patches takes the largest of its values: which is written last is not decided on a GPU.
    """
    changed = x.clone()
    newest = changed[:, -1].flatten(1).float()
    newest = newest.scatter_reduce(1, pixels, values.round().clamp(0, 255), "amax", include_self=False)
    changed[:, -1] = newest.to(torch.uint8).view(-1, SIZE, SIZE)
    return changed


def search_highest(scene: Scene, scores: Tensor) -> Tensor:
    """``search`` over the ``threat.pixels`` pixels, or patches of them, of the highest scores, (B, 84 * 84)."""
    patch = scene.threat.patch
    return search(scene, around(apart(scores, scene.threat.pixels, patch), patch))


def search(scene: Scene, pixels: Tensor) -> Tensor:
    """The best values that a swarm finds for ``pixels``, (B, n) of the newest frame, in stacks as ``put`` gives them.

    The first particle begins at what is there, the others anywhere. A state is done once another action, or the
    target, is the agent's best, and it takes another, or the target, with probability ``threat.confidence``: where
    several actions do the same, it may well take another with that probability at clean pixels.
    """
    x, threat, device = scene.x, scene.threat, scene.x.device
    action, towards = scene.goal()
    batch, count = pixels.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=scene.generator).to(device)

    def success(where: Tensor, of: Tensor) -> Tensor:
        """Log probability of what the attacker wants, (states, particles); where it is done, above 1."""
        particles = where.shape[1]
        seen = put(
            x[of].repeat_interleave(particles, 0), pixels[of].repeat_interleave(particles, 0), where.flatten(0, 1)
        )
        log_policy, of_action = scene.victim.log_policy(seen), action[of].repeat_interleave(particles)
        mine = log_policy.gather(1, of_action.unsqueeze(1)).squeeze(1)
        wanted = mine if towards else log_others(log_policy, of_action)
        done = ((log_policy.argmax(-1) == of_action) == towards) & (wanted.exp() >= threat.confidence)
        return torch.where(done, 1 + wanted.exp(), wanted).view(-1, particles)

    everyone = torch.arange(batch, device=device)
    where = 255 * uniform(batch, threat.particles, count)
    where[:, 0] = x[:, -1].flatten(1).gather(1, pixels).float()
    speed = 128 * (uniform(batch, threat.particles, count) - 0.5)
    own, own_success = where.clone(), success(where, everyone)
    for _ in range(threat.iterations):
        best = own_success.max(1)
        busy = everyone[best.values < 1]
        if not len(busy):
            break
        leader = own[busy, best.indices[busy]].unsqueeze(1)
        pulls = uniform(2, len(busy), threat.particles, count)
        speed[busy] = (
            INERTIA * speed[busy] + OWN * pulls[0] * (own[busy] - where[busy]) + ALL * pulls[1] * (leader - where[busy])
        )
        where[busy] = (where[busy] + speed[busy]).clamp(0, 255)
        found = success(where[busy], busy)
        better = found > own_success[busy]
        own[busy] = torch.where(better.unsqueeze(-1), where[busy], own[busy])
        own_success[busy] = torch.where(better, found, own_success[busy])
    return put(x, pixels, own[everyone, own_success.argmax(1)])
