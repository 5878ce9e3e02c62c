"""Compare the expert of a training run with the one in use, in a separate process; the last line is the result as JSON.

python -m memlora_mlx.tui.judge_process RUN
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from memlora_mlx.errors import MemloraError


def main(run: str) -> int:
    from memlora_mlx.distill.expert_judging import judge_run
    from memlora_mlx.distill.training_runs import read_run_config
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.models.catalog import entries
    from memlora_mlx.models.loading import load_student
    from memlora_mlx.settings import load_settings

    try:
        config = read_run_config(Path(run))
        with Workspace(load_settings({"student": config.student})) as opened:
            name, home = opened.student_name, opened.settings.home
            student = load_student(opened.student_folder, name if name in entries(home) else None)
            judged = judge_run(Path(run), student, opened.expert_folders.get(config.stage), home)
    except MemloraError as error:
        print(f"memlora: {error}", flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print(json.dumps(judged.as_json() | {"is_better": judged.is_better, "text": judged.as_text()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
