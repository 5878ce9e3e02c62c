"""Look the pinned packages up in a list of known faults, with pip-audit, and say what was found. Reached by `make audit`.

A package that the list does not have is named and stops nothing. The exit code is 1 where a fault was found, and where
pip-audit could not ask at all; further arguments are passed to pip-audit.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements" / "install.txt"


def summary(report: dict[str, Any]) -> tuple[list[str], bool]:
    """What pip-audit's report in JSON says, in lines, and whether a package has a known fault."""
    packages = report["dependencies"]
    missing = sorted(package["name"] for package in packages if "skip_reason" in package)
    lines = []
    for package in packages:
        for fault in package.get("vulns", ()):
            names = ", ".join([fault["id"], *fault.get("aliases", ())])
            mended = ", ".join(fault["fix_versions"]) or "no version"
            lines.append(f"{package['name']} {package['version']} has a known fault: {names}; mended in {mended}")
    is_bad = bool(lines)
    looked_up = len(packages) - len(missing)
    lines.append(f"{looked_up} of {len(packages)} packages were looked up; known faults: {len(lines) or 'none'}.")
    if missing:
        lines.append(f"Not looked up, because the list does not know them: {', '.join(missing)}.")
    if not looked_up:
        lines.append("So nothing was audited. Run this where pypi.org can be reached.")
    return lines, is_bad


def main() -> int:
    command = [Path(sys.executable).with_name("pip-audit"), "--disable-pip", "--require-hashes", "--format", "json"]
    options = ["--progress-spinner", "off", "--requirement", str(REQUIREMENTS), *sys.argv[1:]]
    done = subprocess.run([*map(str, command), *options], capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:  # its last line says why there is none
        print(done.stderr.strip(), file=sys.stderr)
        return done.returncode or 1
    lines, is_bad = summary(report)
    print("\n".join(lines))
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main())
