"""Copies of what is in a store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from distill.dataset.opening import open_dataset, pull, push_indexed
from distill.dataset.reader import Dataset
from distill.system import mirror
from distill.system.files import at_home
from distill.system.stores import Store

COPY = "shards/teacher-00001/jacobian.npy"


def damage(path: Path, *, cut: bool) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content[:100] if cut else content)


@pytest.mark.parametrize("cut", [True, False])
def test_a_copy_that_the_disk_damaged_is_fetched_anew(
    bucket: str, pong_copy: Path, tmp_path: Path, *, cut: bool
) -> None:
    url, good = f"{bucket}/pong", (pong_copy / COPY).read_bytes()
    push_indexed(pong_copy, url)
    place = at_home(url)
    Dataset(place)
    damage(place / COPY, cut=cut)
    Dataset(place, verify=True)
    assert (place / COPY).read_bytes() == good
    damage(place / COPY, cut=cut)
    pull(url, tmp_path / "pulled")
    assert (tmp_path / "pulled" / COPY).read_bytes() == good
    damage(place / COPY, cut=cut)
    data = open_dataset(place, window_shards=1, verify=True)
    data.want([1])
    data.jacobian(data.shard_starts[1:2])
    assert (place / COPY).read_bytes() == good


def test_a_card_that_is_there_no_more_is_not_read(bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/teachers/pong-mine.zip"
    for suffix in (".zip", ".md"):
        shutil.copy(f"teachers/pretrained/pong-ppo{suffix}", tmp_path / f"pong-mine{suffix}")
    mirror.push_folder(tmp_path / "pong-mine.zip", url)
    assert at_home(url).with_suffix(".md").exists()
    Store(f"{bucket}/teachers")._fs.rm(f"{bucket}/teachers/pong-mine.md")
    mirror._looked.clear()
    assert at_home(url).exists()
    assert not at_home(url).with_suffix(".md").exists()
