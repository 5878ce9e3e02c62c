"""Distributed training: helpers for the processes that `mlx.launch` starts. Without it there is one process, rank 0."""

from __future__ import annotations

import numpy as np

import memlora_mlx.models  # noqa: F401  prepares MLX
from memlora_mlx.errors import TrainingFailed

import mlx.core as mx  # isort: skip


def rank() -> int:
    """This process's number. The first one, 0, prints and writes."""
    return int(mx.distributed.init().rank())


def world_size() -> int:
    return int(mx.distributed.init().size())


def broadcast(data: bytes) -> bytes:
    """The data of the first process, in all processes. Every process must call it.

    Raises:
        TrainingFailed: a process has ended.
    """
    if world_size() == 1:
        return data
    size = _count(len(data) if rank() == 0 else 0)
    if size == 0:
        return b""
    mine = data if rank() == 0 else bytes(size)
    return np.array(_sum(mx.array(np.frombuffer(mine, np.uint8)))).tobytes()


def any_process(flag: bool) -> bool:
    """Whether the flag is true in any process. Every process must call it.

    Raises:
        TrainingFailed: a process has ended.
    """
    return flag if world_size() == 1 else _count(int(flag)) > 0


def _count(number: int) -> int:
    """The sum over all processes."""
    total, processes = np.array(_sum(mx.array([number, 1]))).tolist()
    if processes != world_size():  # a sum without a process that has ended raises nothing
        raise TrainingFailed(
            "Another process has ended, so this one cannot continue. See that process's error message for the reason."
        )
    return int(total)


def _sum(array: mx.array) -> mx.array:
    total: mx.array = mx.distributed.all_sum(array, stream=mx.cpu)
    return total
