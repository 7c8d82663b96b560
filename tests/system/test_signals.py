"""Ctrl-C and SIGTERM end every stage in good order."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.cli.command import main
from distill.system.signals import StopRequest, Terminated, outcome, raising_on_sigterm


def test_the_first_signal_asks_and_the_second_acts() -> None:
    with raising_on_sigterm(), StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        with pytest.raises(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
        assert isinstance(stop.take(), Terminated)
        assert not stop.asked
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_handlers_are_given_back_without_a_signal() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopRequest() as stop:
        assert not stop.asked
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_other_threads_leave_signals_alone() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with raising_on_sigterm(), StopRequest():
                pass
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []


def test_exit_statuses_are_the_shells() -> None:
    assert outcome(KeyboardInterrupt()) == ("interrupted", 130)
    assert outcome(Terminated()) == ("terminated", 143)


def wait_for(found: Callable[[], object]) -> None:
    for _ in range(600):
        if found():
            return
        time.sleep(0.1)
    raise AssertionError("it did not begin")


def test_sigterm_while_training_saves(start: Callable[..., Any], tmp_path: Path, pong_data: Path) -> None:
    run = tmp_path / "run"
    settings = {"data": pong_data, "out": run, "steps": 2000, "batch_size": 8, "val_states": 8, "val_every": 5}
    words = ["train", "--device=cpu", *(f"--train.{key}={value}" for key, value in settings.items())]
    words += ["--student.convs=[[4,8,4]]", "--student.hidden=[16]"]
    process = start(*words)
    wait_for((run / "checkpoints" / "best.pt").exists)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 143
    assert process.stderr.read_text() == "terminated; the same command continues\n"
    assert "saved. The same command continues." in process.stderr.with_name("stdout").read_text()
    assert (run / "checkpoints" / "last.pt").is_file()


@pytest.mark.parametrize("stage", ["collect", "evaluate"])
def test_sigterm_ends_the_other_stages_with_one_line(start: Callable[..., Any], tmp_path: Path, stage: str) -> None:
    out = tmp_path / "out"
    if stage == "collect":
        words = ["collect", f"--collect.out={out}", "--collect.states=100000", "--collect.num_envs=2"]
        words += ["--collect.shard_states=8"]
    else:
        words = ["evaluate", f"--evaluate.out={out}", "--evaluate.games=64", "--evaluate.num_envs=2"]
    process = start(*words, "--device=cpu")
    wait_for(lambda: out.is_dir() and (stage == "evaluate" or list(out.glob("shards/*/shard.json"))))
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 143
    (line,) = process.stderr.read_text().splitlines()
    assert line.startswith("terminated; the same command ")
    if stage == "collect":
        assert main(["verify", str(out)]) == 0
