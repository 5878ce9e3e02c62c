"""The resident process, for benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memlora_mlx.settings import load_settings

SECONDS_TO_END = 60


@contextmanager
def resident_process(home: Path) -> Iterator[dict[str, str]]:
    """Run `memlora serve` in an empty data folder, with the models of this machine, and print its first line.

    Gives the environment of programs that are to use it. The process ends with the block.
    """
    (home / "models").symlink_to(load_settings().models_folder)
    environ = {**os.environ, "MEMLORA_HOME": str(home)}
    command = [sys.executable, "-m", "memlora_mlx", "serve"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        print(process.stderr.readline().strip())
        try:
            yield environ
        finally:
            process.terminate()
            process.wait(SECONDS_TO_END)
