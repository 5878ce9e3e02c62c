"""Keeps the memory that MLX takes within bounds while the engine serves.

On Metal MLX keeps freed buffers for the next array of that size. Prompts and batches come in ever new shapes, so without
a limit the kept buffers grow to most of the machine's memory. Weights are wired, as mlx-lm does, so that macOS does not
page them out. MLX's CPU back end keeps no buffers and wires nothing; there the limits are not set.
"""

from __future__ import annotations

from dataclasses import dataclass

STEPS = 256  # forward passes after which kept buffers are freed; mlx-lm frees them after as many tokens
CACHE_SHARE = 8  # by default, kept buffers take at most one part in so many of the memory that Metal recommends
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of MLX's arrays, of freed buffers that it keeps, and the limits; 0 where there is none."""

    active: int
    cached: int
    cache_limit: int = 0
    wired_limit: int = 0

    @property
    def total(self) -> int:
        return self.active + self.cached


class MlxMemory:
    """The limits of one engine, and when it frees what MLX keeps.

    Args:
        cache_limit: MB of freed buffers that MLX may keep; None for an eighth of what Metal recommends for the process.
        wired_limit: MB of wired memory; None for all that Metal recommends, as mlx-lm has it.
    """

    def __init__(self, cache_limit: int | None = None, wired_limit: int | None = None) -> None:
        self._asked = (cache_limit, wired_limit)
        self._cache_limit = self._wired_limit = 0  # bytes
        self._steps = 0
        self._is_set = False

    def set_limits(self) -> None:
        """Set both limits, once; nothing happens without Metal. On the engine's thread, before models are loaded."""
        import mlx.core as mx

        if self._is_set or not mx.metal.is_available():
            return
        self._is_set = True
        recommended = int(mx.device_info()["max_recommended_working_set_size"])
        cache, wired = self._asked
        self._cache_limit = cache * _MB if cache is not None else recommended // CACHE_SHARE
        self._wired_limit = min(wired * _MB, recommended) if wired is not None else recommended
        mx.set_cache_limit(self._cache_limit)
        mx.set_wired_limit(self._wired_limit)

    def after_step(self, *, is_idle: bool) -> None:
        """A forward pass has been run. Frees kept buffers if the engine has nothing more to do, and every `STEPS` passes."""
        import mlx.core as mx

        self._steps += 1
        if is_idle or self._steps >= STEPS:
            self._steps = 0
            mx.clear_cache()

    def use(self) -> MemoryUse:
        """What MLX takes now. From any thread."""
        import mlx.core as mx

        return MemoryUse(int(mx.get_active_memory()), int(mx.get_cache_memory()), self._cache_limit, self._wired_limit)
