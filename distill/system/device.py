"""Choosing where and in what arithmetic to compute."""

from __future__ import annotations

import torch

from distill.errors import UserError


def pick_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU. Arithmetic is fp32 until ``arithmetic`` says otherwise.

    Raises:
        UserError: the device is unknown or not there.
    """
    # PyTorch lets cuDNN use TF32 by default: labels would differ from the CPU's by 1e-3.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown --device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name} was asked for but PyTorch sees no CUDA device; use --device auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name} does not exist; this machine has {torch.cuda.device_count()} CUDA device(s)")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    return device


def arithmetic(device: torch.device, precision: str) -> torch.dtype:
    """Set TF32 and return the dtype of the engine's passes.

    ``auto`` is TF32 on CUDA and fp32 on a CPU, where bf16 is 10-20 times slower without AVX512-bf16.
    """
    if precision == "bf16" and device.type == "cpu":
        raise UserError("--train.precision=bf16 is for CUDA; on a CPU it is many times slower, use fp32")
    if precision == "tf32" and device.type == "cpu":
        raise UserError("--train.precision=tf32 is for CUDA; on a CPU use fp32")
    if device.type == "cuda":
        tf32 = precision in ("auto", "tf32")
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
    return torch.bfloat16 if precision == "bf16" else torch.float32
