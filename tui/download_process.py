"""Download a model in a separate process, which reports its progress in lines `phase<TAB>done<TAB>total`.

    python -m memlora_mlx.tui.download_process NAME FOLDER

Ctrl-C stops it. Partial files are saved, and the next download continues from them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from memlora_mlx.errors import MemloraError


def main(name: str, folder: str) -> int:
    from memlora_mlx.models.downloads import pull

    def report(phase: str, done: int, total: int) -> None:
        print(f"{phase}\t{done}\t{total}", flush=True)

    try:
        pull(name, Path(folder), report=report)
    except MemloraError as error:
        print(f"memlora: {error}", flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
