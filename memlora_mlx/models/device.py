"""What MLX runs on here."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys

import mlx.core as mx

from memlora_mlx.models import blas


def describe_device() -> str:
    """The device in words: the chip's name on a Mac, the processor and its cores on a CPU."""
    if on_cpu():
        return f"MLX on the CPU ({processor()}, {os.cpu_count()} cores)"
    info = mx.device_info()
    name = info.get("device_name", "GPU")
    memory = info.get("memory_size", 0)
    return f"MLX on {name}" + (f" ({int(memory) / 2**30:.0f} GiB)" if memory else "")


def on_cpu() -> bool:
    """Whether there is neither Metal nor CUDA."""
    return bool(mx.default_device() == mx.Device(mx.cpu))


def processor() -> str:
    """The processor's name."""
    if sys.platform == "darwin":
        found = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return found.stdout.strip() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def usable_memory() -> int:
    """Bytes this process may take in all: what Metal or CUDA recommends; on a CPU, what is free and what its arrays hold."""
    if not on_cpu():
        info = mx.device_info()
        return int(info.get("max_recommended_working_set_size") or info.get("memory_size") or 0) or 2**63
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024 + int(mx.get_active_memory())
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def blas_status() -> str:
    return blas.status()
