"""Everything that knows MLX. Importing anything of this room prepares MLX first: BLAS, and no compiler at run time."""

import os
import sys

from memlora_mlx.models import blas

blas.preload_openblas()
if sys.platform == "linux":
    # Off Metal, mx.compile calls the machine's C++ compiler at run time: seconds for each new kernel, and a failure
    # where there is none.
    os.environ.setdefault("MLX_DISABLE_COMPILE", "1")
