"""OpenBLAS under MLX on Linux: whose functions MLX calls, what they give, and what happens where they must not be used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest

from memlora_mlx.models import blas

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS has Accelerate")

SUMS = """
import sys
import memlora_mlx.models
import mlx.core as mx, numpy as np
random = np.random.default_rng(3)
a, b = (mx.array(random.standard_normal((70, 70), dtype=np.float32)) for _ in range(2))
cpu = {"stream": mx.cpu}
square = a @ a.T + mx.eye(70)
q, r = mx.linalg.qr(square, **cpu)
np.savez(sys.argv[1], a=a, b=b, product=a @ b, inverse=mx.linalg.inv(square, **cpu) @ square,
    cholesky=mx.linalg.cholesky(square, **cpu), qr=q @ r, eigvalsh=mx.linalg.eigvalsh(square, **cpu),
    svd=mx.linalg.svd(square, compute_uv=False, **cpu))
"""


def python(script: str, *arguments: object, **environment: str) -> str:
    """Standard output of a Python of its own: a process chooses its BLAS once."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def mlx_library(pattern: str) -> Path:
    """A library among those that MLX's wheel for Linux brings."""
    return next(Path(str(file.locate())) for file in files("mlx-cpu") or () if re.match(pattern, file.name))


def names_of_mlx() -> set[str]:
    """The BLAS and LAPACK functions that MLX's library names."""
    text = mlx_library(r"libmlx\.so").read_bytes()
    found = re.findall(rb"(?<=\0)(?:cblas_\w+|[sdcz][a-z0-9]{3,6}_)(?=\0)", text)
    return {name.decode() for name in found}


@pytest.mark.parametrize(("choice", "provider"), [("openblas", "memlora-aliases"), ("reference", "libblas|liblapack")])
def test_the_linker_gives_mlx_the_functions_of_the_chosen_blas(choice: str, provider: str, tmp_path: Path) -> None:
    """The dynamic linker's own record (LD_DEBUG) says which library each call of MLX was bound to."""
    record = {"LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": str(tmp_path / "bindings"), "MEMLORA_BLAS": choice}
    python(SUMS, tmp_path / "sums.npz", **record)
    text = "".join(path.read_text(errors="replace") for path in tmp_path.glob("bindings*"))
    bound = {name: file for file, name in re.findall(r"libmlx\.so \[0\] to (\S+) \[0\]: normal symbol `(\w+)'", text)}
    asked = bound.keys() & names_of_mlx()
    assert {"cblas_sgemm", "sgetrf_", "ssyevd_", "sgesdd_", "spotrf_", "sgeqrf_"} <= asked
    assert {name: file for name, file in bound.items() if name in asked and not re.search(provider, file)} == {}


def test_the_names_stand_for_openblas_and_its_results_are_right(tmp_path: Path) -> None:
    script = (
        "import ctypes; from memlora_mlx.models import blas; library = blas.OpenBLAS(blas.installed())\n"
        "found = {n: ctypes.cast(ctypes.CDLL(None)[n], ctypes.c_void_p).value for n in blas.FUNCTIONS}\n"
        "print(found == library.functions(), len(set(found.values())) == len(found))"
    )
    assert python(script) == "True True"
    python(SUMS, tmp_path / "sums.npz")
    with np.load(tmp_path / "sums.npz") as given:
        sums = {name: given[name].astype(np.float64) for name in given.files}
    square = sums["a"] @ sums["a"].T + np.eye(70)
    expected = {
        "product": sums["a"] @ sums["b"],
        "inverse": np.eye(70),
        "cholesky": np.linalg.cholesky(square),
        "qr": square,
        "eigvalsh": np.linalg.eigvalsh(square),
        "svd": np.linalg.svd(square, compute_uv=False),
    }
    for name, right in expected.items():
        assert np.abs(sums[name] - right).max() <= 1e-4 * np.abs(right).max(), name


def test_every_function_that_mlx_calls_is_openblas() -> None:
    assert names_of_mlx() >= {"cblas_sgemm", "sgetrf_"}, "the search found nothing"
    assert names_of_mlx() <= set(blas.FUNCTIONS)


def test_the_status_names_version_kernels_and_threads_and_the_users_thread_number_counts() -> None:
    says = python("from memlora_mlx.models import blas; print(blas.status())")
    assert re.fullmatch(r"OpenBLAS \d+\.\d+[.\d]*, kernels for \w+, 1 thread", says)


def test_the_user_may_keep_mlxs_own_blas() -> None:
    says = python("from memlora_mlx.models import blas; print(blas.status())", MEMLORA_BLAS="reference")
    assert says == "reference BLAS (MEMLORA_BLAS=reference)"


def test_mlx_imported_first_keeps_its_own_blas_and_the_status_says_so() -> None:
    says = python("import mlx.core; from memlora_mlx.models import blas; print(blas.status())")
    assert says.startswith("reference BLAS (mlx was imported before")


def test_a_blas_that_the_user_loads_first_stays() -> None:
    preload = str(mlx_library("libblas-"))
    says = python("from memlora_mlx.models import blas; print(blas.status())", LD_PRELOAD=preload)
    assert says == "a BLAS that this process loaded before memlora"


@pytest.mark.parametrize(
    ("core", "config", "flags", "reason"),
    [
        ("SkylakeX", "OpenBLAS 0.3 DYNAMIC_ARCH", "fpu sse4_2 avx avx2 fma", "need avx512bw, avx512cd, avx512dq"),
        ("SKYLAKEX", "OpenBLAS 0.3 SKYLAKEX", "fpu sse4_2 avx avx2 fma", "need avx512bw, avx512cd, avx512dq"),
        ("Haswell", "OpenBLAS 0.3 DYNAMIC_ARCH", "fpu sse4_2", "need avx2, fma"),
        ("neoversen2", "OpenBLAS 0.3 DYNAMIC_ARCH", "fp asimd sve", "need sve2"),
        ("SKYLAKEX", "OpenBLAS 0.3 SKYLAKEX", "", "need avx512bw"),  # built for one core, and the kernel says nothing
    ],
)
def test_kernels_that_the_processor_lacks_are_found_before_they_are_used(
    core: str, config: str, flags: str, reason: str
) -> None:
    """MLX then works with its own BLAS. The library is the real one; what it and the processor say is made up."""
    script = (
        "import os, sys; from memlora_mlx.models import blas; del os.environ['MEMLORA_BLAS']\n"
        "blas.OpenBLAS.core, blas.OpenBLAS.config = sys.argv[1:3]\n"
        "blas.processor_flags = lambda: frozenset(sys.argv[3].split())\n"
        "blas.preload_openblas(); print(blas.status())\n"
        "import mlx.core as mx; print((mx.ones((3, 3)) @ mx.ones((3, 3)))[0, 0].item())"
    )
    says, product = python(script, core, config, flags, MEMLORA_BLAS="reference").splitlines()
    assert says.startswith("reference BLAS") and reason in says
    assert product == "3.0"


@pytest.mark.parametrize(
    ("core", "config", "flags"),
    [
        ("Zen", "OpenBLAS 0.3 DYNAMIC_ARCH", "fpu avx2 fma"),
        ("armv8", "OpenBLAS 0.3 DYNAMIC_ARCH", "fp asimd"),
        ("Haswell", "OpenBLAS 0.3 DYNAMIC_ARCH", ""),  # the kernel says nothing; OpenBLAS asked the processor itself
    ],
)
def test_kernels_that_the_processor_has_are_used(
    core: str, config: str, flags: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blas.OpenBLAS, "core", core)
    monkeypatch.setattr(blas.OpenBLAS, "config", config)
    blas.OpenBLAS(blas.installed()).check(frozenset(flags.split()))


def test_this_processor_serves_the_kernels_that_openblas_chose() -> None:
    flags = blas.processor_flags()
    assert flags, "Linux tells a processor's abilities"
    blas.OpenBLAS(blas.installed()).check(flags)
