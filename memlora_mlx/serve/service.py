"""`memlora serve` as a service of the user's session: a launchd agent on macOS, a systemd user unit on Linux.

This module loads nothing slow, because `memlora doctor` asks it.
"""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.files import atomic_write

LABEL = "org.memlora.serve"  # of the launchd agent
UNIT = "memlora.service"
LOG_FILE = "serve.log"  # in the data folder


@dataclass(frozen=True, slots=True)
class Service:
    """The service of one platform: its file, and the commands that start and end it."""

    path: Path
    content: str
    start: tuple[tuple[str, ...], ...]
    stop: tuple[tuple[str, ...], ...]

    @property
    def is_installed(self) -> bool:
        return self.path.is_file()

    def install(self) -> list[str]:
        """Write the file and start the service, or start it anew. Returns what could not be done, a line each.

        Raises:
            MemloraError: the file cannot be written.
        """
        if self.is_installed:
            _run(self.stop)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self.path, self.content)
        except OSError as error:
            raise MemloraError(f"cannot write {self.path}: {error.strerror}; check its permissions") from error
        return _run(self.start)

    def uninstall(self) -> list[str]:
        """End the service and remove its file. Returns what could not be done."""
        problems = _run(self.stop)
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise MemloraError(f"cannot remove {self.path}: {error.strerror}; check its permissions") from error
        return problems


def service(
    data_folder: Path, arguments: Sequence[str] = (), *, home: Path | None = None, platform: str = sys.platform
) -> Service:
    """The service that runs `memlora serve` with these arguments for this data folder.

    Args:
        home: the user's home folder.

    Raises:
        UsageError: an argument or a path has a control character, which the service's file cannot hold.
    """
    home = home or Path.home()
    command = [sys.executable, "-m", "memlora_mlx", "serve", *arguments]
    if not all(word.isprintable() for word in (*command, str(data_folder))):
        raise UsageError("a service's options and paths cannot have control characters; use other ones")
    if platform == "darwin":
        return _launchd_agent(home, data_folder, command)
    return _systemd_unit(home, data_folder, command)


def _launchd_agent(home: Path, data_folder: Path, command: list[str]) -> Service:
    path = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    content = {
        "Label": LABEL,
        "ProgramArguments": command,
        "EnvironmentVariables": {"MEMLORA_HOME": str(data_folder)},
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},  # started again after a crash, and not when it was stopped
        "ThrottleInterval": 30,
        "StandardErrorPath": str(data_folder / LOG_FILE),
        "Umask": 0o077,
    }
    domain = f"gui/{os.getuid()}"
    return Service(
        path,
        plistlib.dumps(content, sort_keys=False).decode(),
        start=(("launchctl", "bootstrap", domain, str(path)),),
        stop=(("launchctl", "bootout", f"{domain}/{LABEL}"),),
    )


def _systemd_unit(home: Path, data_folder: Path, command: list[str]) -> Service:
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    lines = [
        "[Unit]",
        "Description=memlora: the memory of this user's assistants",
        "",
        "[Service]",
        f"ExecStart={' '.join(map(_quoted, command))}",
        f"Environment={_quoted(f'MEMLORA_HOME={data_folder}')}",
        "Restart=on-failure",
        "RestartSec=30",
        "UMask=0077",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    systemctl = ("systemctl", "--user")
    return Service(
        folder / "systemd" / "user" / UNIT,
        "\n".join(lines) + "\n",
        start=((*systemctl, "daemon-reload"), (*systemctl, "enable", UNIT), (*systemctl, "restart", UNIT)),
        stop=((*systemctl, "disable", "--now", UNIT),),
    )


def _quoted(word: str) -> str:
    """A word as systemd reads it: % and $ have a meaning there, and so have quotes and backslashes."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _run(commands: Sequence[Sequence[str]]) -> list[str]:
    problems = []
    for command in commands:
        shown = " ".join(command)
        if shutil.which(command[0]) is None:
            problems.append(f"{command[0]} is not on this machine, so `{shown}` was not run")
            continue
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            problems.append(f"`{shown}` failed: {type(error).__name__}")
            continue
        if done.returncode:
            problems.append(f"`{shown}` failed: {(done.stderr or done.stdout).strip()[:300]}")
    return problems
