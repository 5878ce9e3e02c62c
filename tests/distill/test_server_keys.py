"""A key goes to the host that it was set for."""

from __future__ import annotations

import asyncio

import pytest
from servers import error_response, local_server

from memlora_mlx.distill.server_keys import NO_KEY, server_keys
from memlora_mlx.distill.teacher_client import Teacher
from memlora_mlx.errors import TeacherFailed, UsageError

OPENAI, GPU, OTHER = "https://api.openai.com/v1", "http://gpu:8000/v1", "http://other:8000/v1"


def test_the_environments_key_is_for_openai_or_the_server_named_beside_it() -> None:
    environ = {"OPENAI_API_KEY": "secret"}
    assert server_keys([OPENAI, GPU], None, environ) == {OPENAI: "secret", GPU: NO_KEY}
    assert server_keys([OPENAI, GPU], None, {**environ, "OPENAI_BASE_URL": GPU}) == {OPENAI: NO_KEY, GPU: "secret"}
    for sly in ("http://api.openai.com.evil/v1", "http://api.openai.com@evil/v1", "http://evil/api.openai.com/v1"):
        assert server_keys([sly], None, environ) == {sly: NO_KEY}
    assert server_keys([GPU], None, {}) == {GPU: NO_KEY}


def test_a_key_that_is_given_is_for_one_host() -> None:
    assert server_keys([GPU], "secret", {"OPENAI_API_KEY": "other"}) == {GPU: "secret"}
    assert server_keys([GPU, f"{GPU}/"], "a=b", {}) == {GPU: "a=b", f"{GPU}/": "a=b"}
    assert server_keys([GPU, OTHER], "other:8000=secret", {}) == {GPU: NO_KEY, OTHER: "secret"}
    with pytest.raises(UsageError, match="several hosts"):
        server_keys([GPU, OTHER], "secret", {})


def ask(teacher: Teacher) -> str:
    async def once() -> str:
        async with teacher:
            return (await teacher.ask((("user", "hello"),))).text

    return asyncio.run(once())


def test_only_the_named_server_gets_the_key_and_a_redirect_does_not_carry_it_elsewhere() -> None:
    with local_server(lambda _: "hi") as thief:
        location = f"{thief.url}/chat/completions"
        with local_server(lambda _: (307, {"Location": location}, b"")) as server:
            keys = server_keys([server.url], "secret", {})
            assert ask(Teacher([server.url], "big", api_key=keys)) == "hi"
        assert server.asked[0]["key"] == "Bearer secret"
        assert thief.asked and "secret" not in str(thief.asked)
        assert (
            ask(Teacher([thief.url], "big", api_key=server_keys([thief.url], None, {"OPENAI_API_KEY": "secret"})))
            == "hi"
        )
        assert "secret" not in str(thief.asked)


def test_a_server_that_wants_a_key_is_told_of() -> None:
    with (
        local_server(lambda _: error_response(401, "no key")) as server,
        pytest.raises(TeacherFailed, match="--api-key"),
    ):
        ask(Teacher([server.url], "big"))
