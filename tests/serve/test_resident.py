"""`memlora serve`: its socket, its port, what it refuses, and how it lets go of the models."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
import time
from pathlib import Path

import httpx2
import pytest
from cli_home import environment, run_command
from mcp import Client
from memory_servers import call, resident_of, resident_process

from memlora_mlx.errors import UsageError
from memlora_mlx.serve import connection
from memlora_mlx.serve.backends import LocalBackend
from memlora_mlx.settings import load_settings

TOKEN = "a token of more than sixteen"


@pytest.fixture
def environ(tiny_home: Path, tiny_student: Path, tiny_embedder: Path) -> dict[str, str]:
    return environment(tiny_home, tiny_student, tiny_embedder)


def test_the_socket_is_private_and_a_second_process_is_refused(environ: dict[str, str], tiny_home: Path) -> None:
    with resident_process(environ):
        resident = resident_of(tiny_home)
        assert stat.S_IMODE(Path(resident.socket_path).stat().st_mode) == 0o600
        assert resident.is_alive() and resident.url is None
        code, _, err = run_command(environ, "serve")
        assert code == 1 and "runs already as process" in err
    assert not resident.is_alive() and connection.find(tiny_home) is None


def test_a_socket_that_a_killed_process_left_is_replaced(environ: dict[str, str], tiny_home: Path) -> None:
    with resident_process(environ) as process:
        process.kill()
        process.wait(60)
        assert not resident_of(tiny_home).is_alive()
    with resident_process(environ):
        assert resident_of(tiny_home).is_alive()


def test_a_data_folder_with_a_long_path_still_gets_a_private_socket(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 120)
    place = connection.socket_place(home)
    assert len(str(place).encode()) <= connection.MAX_SOCKET_PATH and place == connection.socket_place(home)
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    place.parent.chmod(0o755)
    with pytest.raises(UsageError, match="not a private folder"):
        connection.socket_place(home)
    place.parent.rmdir()


def test_the_port_refuses_foreign_hosts_origins_and_tokens(
    environ: dict[str, str], tiny_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with resident_process(environ, "--port", "0", "--token-file", tmp_path / "token"):
        url = resident_of(tiny_home).url
        assert url is not None and url.startswith("http://127.0.0.1:")
        right = {"Authorization": f"Bearer {TOKEN}"}
        for headers, code in (
            (right, 200),
            ({**right, "Origin": "http://localhost:3000"}, 200),
            ({**right, "Origin": "https://evil.example"}, 403),
            ({**right, "Origin": "null"}, 403),
            ({**right, "Host": "evil.example"}, 421),
            ({**right, "Host": "127.0.0.1.evil.example"}, 421),
            ({**right, "Sec-Fetch-Site": "cross-site"}, 403),
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": f"Basic {TOKEN}"}, 401),
        ):
            assert httpx2.get(f"{url}/health", headers=headers).status_code == code, headers
        too_large = httpx2.post(f"{url}/call/add", headers=right, content=b"x" * (9 << 20))
        assert too_large.status_code == 413
        unknown = httpx2.post(f"{url}/call/__init__", headers=right, json={})
        assert "there is no operation" in json.loads(unknown.text)["error"]["message"]
        assert httpx2.post(f"{url}/call/add", headers=right, content=b"[1]").status_code == 400


def test_a_network_address_needs_a_token(environ: dict[str, str]) -> None:
    code, _, err = run_command(environ, "serve", "--port", "0", "--host", "0.0.0.0")
    assert code == 2 and "--token-file" in err


def test_mcp_over_streamable_http_has_the_same_tools(environ: dict[str, str], tiny_home: Path) -> None:
    async def session(url: str) -> None:
        async with Client(f"{url}/mcp") as client:
            await call(client, "add_memory", text="Ann likes tea", user_id="ann", infer=False)
            found = await call(client, "search_memories", query="tea")
            assert found["results"][0]["memory"] == "Ann likes tea"

    with resident_process(environ, "--port", "0"):
        url = resident_of(tiny_home).url
        assert url is not None
        asyncio.run(session(url))


def test_idle_models_are_unloaded_and_come_back_with_the_next_call(tiny_home: Path) -> None:
    backend = LocalBackend(load_settings(), idle_seconds=0.2)

    def run(name: str, **arguments: object) -> dict[str, object]:
        return backend.run(name, arguments, lambda done, what: None, threading.Event())

    run("add", messages="Ann likes tea", user_id="ann", infer=False)
    deadline = time.monotonic() + 60
    while backend.is_loaded and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not backend.is_loaded
    assert run("search", query="tea")["results"]
    backend.close()
