"""memlora: a long-term memory for chat assistants that lives on one Mac."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memlora_mlx.memory.api import Memory
    from memlora_mlx.memory.async_api import AsyncMemory

    __version__: str

__all__ = ["AsyncMemory", "Memory", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Memory":  # on first use, so that importing the package loads no model library
        from memlora_mlx.memory.api import Memory

        return Memory
    if name == "AsyncMemory":
        from memlora_mlx.memory.async_api import AsyncMemory

        return AsyncMemory
    if name == "__version__":  # looking it up takes longer than `memlora --help` has time for
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("memlora-mlx")
        except PackageNotFoundError:  # a checkout that was never installed
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
