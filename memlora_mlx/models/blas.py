"""OpenBLAS under MLX on Linux, before MLX is first imported.

MLX's Linux wheel links the reference BLAS, whose matrix products are 25 to 60 times slower than OpenBLAS's. A name that
an earlier library published wins the look-up of `cblas_sgemm`, so publishing OpenBLAS's functions first is all it takes.
The OpenBLAS is `scipy-openblas32`, which the NumPy and SciPy teams keep: it holds kernels for many processors and
chooses among them (DYNAMIC_ARCH), and all of its names begin with `scipy_`. macOS has Accelerate and needs none of this.
`MEMLORA_BLAS=reference` leaves MLX as it came.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from memlora_mlx.models import aliases

_DISTRIBUTION, _PREFIX = "scipy-openblas32", "scipy_"
# The BLAS and LAPACK functions that MLX calls, and the same for complex doubles. One that is missing here would be MLX's
# own, slower one.
FUNCTIONS = (
    *("cblas_sgemm", "cblas_dgemm", "cblas_cgemm", "cblas_zgemm"),
    *("sgetrf_", "dgetrf_", "sgetri_", "dgetri_", "strtri_", "dtrtri_", "spotrf_", "dpotrf_"),
    *("sgeqrf_", "dgeqrf_", "sorgqr_", "dorgqr_", "sgesdd_", "dgesdd_", "cgesdd_", "zgesdd_"),
    *("ssyevd_", "dsyevd_", "cheevd_", "zheevd_", "sgeev_", "dgeev_", "cgeev_", "zgeev_"),
)
_AVX512 = "avx512f avx512cd avx512bw avx512dq avx512vl"
# What the kernels of a core (OpenBLAS's name for it, in small letters) need, in the words of /proc/cpuinfo. Cores that
# are not named need no more than every 64-bit processor has.
_NEEDS = {
    **dict.fromkeys(("core2", "atom"), "ssse3"),
    **dict.fromkeys(("penryn", "dunnington"), "sse4_1"),
    "nehalem": "sse4_2",
    **dict.fromkeys(("sandybridge", "bulldozer"), "avx"),
    **dict.fromkeys(("piledriver", "steamroller"), "avx fma"),
    **dict.fromkeys(("haswell", "zen", "excavator"), "avx2 fma"),
    "skylakex": _AVX512,
    **dict.fromkeys(("cooperlake", "sapphirerapids"), f"{_AVX512} avx512_bf16"),
    **dict.fromkeys(("armv8sve", "a64fx", "neoversev1"), "sve"),
    **dict.fromkeys(("neoversen2", "neoversev2"), "sve2"),
    **dict.fromkeys(("armv9sme", "vortexm4"), "sme"),
}

_library: OpenBLAS | None = None
_instead = "not loaded"


class Unfit(Exception):
    """This OpenBLAS must not be used here; the text says why."""


def preload_openblas() -> None:
    """Put OpenBLAS before MLX's own BLAS; on failure leave MLX as it came. `status()` says how it went."""
    global _library, _instead
    if _library:
        return
    if sys.platform != "linux":
        _instead = "the platform's own"
    elif "mlx.core" in sys.modules:
        _instead = "reference BLAS (mlx was imported before memlora_mlx.models)"
    elif os.environ.get("MEMLORA_BLAS") == "reference":
        _instead = "reference BLAS (MEMLORA_BLAS=reference)"
    elif hasattr(ctypes.CDLL(None), FUNCTIONS[0]):
        _instead = "a BLAS that this process loaded before memlora"
    else:
        try:
            library = OpenBLAS(installed())
            library.check(processor_flags())
            aliases.publish(library.functions(), like=library.path)
            _library = library
        except (OSError, PackageNotFoundError, Unfit) as error:
            _instead = f"reference BLAS, 25 to 60 times slower ({error})"


def status() -> str:
    """Which BLAS MLX uses, in words: its version, the core whose kernels it uses, its threads."""
    return str(_library) if _library else _instead


class OpenBLAS:
    """A loaded OpenBLAS that nobody uses yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loaded = ctypes.CDLL(str(path))

    def __str__(self) -> str:
        threads = int(self._function("openblas_get_num_threads")())
        version = self.config.split()[1]
        return f"OpenBLAS {version}, kernels for {self.core}, {threads} thread{'s' if threads > 1 else ''}"

    @property
    def config(self) -> str:
        """How it was built: "OpenBLAS", the version, options, the core, the most threads."""
        return self._text("openblas_get_config")

    @property
    def core(self) -> str:
        """The processor core whose kernels it uses here, for example "Haswell"."""
        return self._text("openblas_get_corename")

    def check(self, flags: frozenset[str]) -> None:
        """Raise Unfit where the kernels need what the processor lacks. `flags`: its abilities; empty where unknown."""
        fits_by_itself = "DYNAMIC_ARCH" in self.config.split()
        lacking = set(_NEEDS.get(self.core.lower(), "").split()) - flags
        if lacking and (flags or not fits_by_itself):
            advice = "; unset OPENBLAS_CORETYPE" if "OPENBLAS_CORETYPE" in os.environ else ""
            raise Unfit(
                f"OpenBLAS's kernels for {self.core} need {', '.join(sorted(lacking))}, which this processor lacks{advice}"
            )

    def functions(self) -> dict[str, int]:
        """Name and address of each of FUNCTIONS. Raises Unfit where one is missing."""
        return {name: ctypes.cast(self._function(name), ctypes.c_void_p).value or 0 for name in FUNCTIONS}

    def _text(self, name: str) -> str:
        function = self._function(name)
        function.restype = ctypes.c_char_p
        return str(function().decode())

    def _function(self, name: str) -> Any:
        try:
            return self._loaded[_PREFIX + name]
        except AttributeError as error:
            raise Unfit(f"{self.path} has no {_PREFIX}{name}") from error


def processor_flags() -> frozenset[str]:
    """What this processor can do, in the kernel's words; empty where the kernel does not say."""
    key = "Features" if platform.machine() == "aarch64" else "flags"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith(key):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


def installed() -> Path:
    """The file of the OpenBLAS that is installed. Raises PackageNotFoundError or OSError where there is none."""
    for file in files(_DISTRIBUTION) or ():
        if file.name.startswith("libscipy_openblas") and ".so" in file.name:
            return Path(str(file.locate()))
    raise OSError(f"{_DISTRIBUTION} holds no library")
