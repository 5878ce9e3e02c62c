"""OpenBLAS under MLX on Linux, before MLX is first imported.

MLX's Linux wheel links the reference BLAS, whose matrix products are 25 to 60 times slower than OpenBLAS's. A library
loaded earlier with RTLD_GLOBAL wins the look-up of `cblas_sgemm`, so loading OpenBLAS first is all it takes. macOS has
Accelerate and needs none of this. `MEMLORA_BLAS=reference` leaves MLX as it came.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

_FORTRAN = "libgfortran.so.5"
_status = "not loaded"


def preload() -> None:
    """Load OpenBLAS for the whole process; on failure leave MLX as it came. `status()` says how it went."""
    global _status
    if sys.platform != "linux":
        _status = "the platform's own"
    elif "mlx.core" in sys.modules and not _status.startswith("OpenBLAS"):
        _status = "reference BLAS (mlx was imported before memlora_mlx.models)"
    elif os.environ.get("MEMLORA_BLAS") == "reference":
        _status = "reference BLAS (MEMLORA_BLAS=reference)"
    elif not _status.startswith("OpenBLAS"):
        try:
            _status = f"OpenBLAS ({_load_openblas().name})"
        except (OSError, PackageNotFoundError, FileNotFoundError) as error:
            _status = f"reference BLAS, 25 to 60 times slower ({error})"


def status() -> str:
    """Which BLAS MLX uses, in words."""
    return _status


def _load_openblas() -> Path:
    library = _installed("cmeel-openblas", "libopenblas.so.0")
    try:
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        if _FORTRAN not in str(error):
            raise
        # A machine without a Fortran run time: MLX's wheel brings one, under a name of its own.
        _lend_fortran()
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return library


def _lend_fortran() -> None:
    """Load MLX's bundled libgfortran under the name that OpenBLAS asks for.

    The loader satisfies a library's needs by the SONAMEs of what is already loaded. The wheel's copy differs from the
    original in its SONAME only (auditwheel adds a hash), so a copy in memory with the name put back fits.
    """
    ctypes.CDLL(str(_installed("mlx-cpu", "libquadmath-")), mode=ctypes.RTLD_GLOBAL)
    bundled = _installed("mlx-cpu", "libgfortran-")
    name = bundled.name.encode() + b"\0"
    image = bundled.read_bytes().replace(name, _FORTRAN.encode().ljust(len(name), b"\0"))
    with os.fdopen(os.memfd_create(_FORTRAN), "wb") as file:
        file.write(image)
        file.flush()
        ctypes.CDLL(f"/proc/self/fd/{file.fileno()}", mode=ctypes.RTLD_GLOBAL)


def _installed(distribution: str, prefix: str) -> Path:
    for file in files(distribution) or ():
        if file.name.startswith(prefix):
            return Path(str(file.locate()))
    raise FileNotFoundError(f"{distribution} holds no {prefix}")
