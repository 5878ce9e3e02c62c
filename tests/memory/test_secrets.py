"""Secrets and private passages are not stored, through whichever door they come in."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_home import environment, run_command
from secret_cases import NEGATIVES, POSITIVES

from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.chat import Chat
from memlora_mlx.memory.secrets import (
    describe_withheld,
    find_secrets,
    screen_exchange,
    screen_text,
    without_private,
)
from memlora_mlx.records import Exchange, Message, Scope
from memlora_mlx.serve.operations import Operations
from memlora_mlx.settings import Settings
from memlora_mlx.tui.widgets.prompt import History

PASSWORD, PRIVATE = "Quibble77frotz", "zanzibar wedding"
SAID = f"My password is {PASSWORD}. I like tea. <private>We plan a {PRIVATE}.</private> I live in Oslo."
UNCLOSED = f"I play chess. <private>We plan a {PRIVATE}."


def found_in(home: Path) -> list[str]:
    """Files below the data folder that hold what must not be stored, as text or in a full-text index."""
    words = (PASSWORD, "zanzibar", "77frotz", "anzibar")
    return [
        f"{path.relative_to(home)}: {word}"
        for path in sorted(home.rglob("*"))
        if path.is_file()
        for word in words
        if word.lower().encode() in path.read_bytes().lower()
    ]


def marked(text: str) -> list[str]:
    return [text[secret.start : secret.end] for secret in find_secrets(text)]


def test_the_labelled_set_is_told_apart() -> None:
    assert len(POSITIVES) >= 100 and len(NEGATIVES) >= 100
    assert [(text, marked(text)) for text, secret in POSITIVES if not any(secret in one for one in marked(text))] == []
    assert [(text, marked(text)) for text in NEGATIVES if marked(text)] == []


@pytest.mark.parametrize("text", [text for text, _ in POSITIVES])
def test_nothing_of_a_secret_is_left_but_a_mark(text: str) -> None:
    [secret] = [secret for said, secret in POSITIVES if said == text][:1]
    screened = screen_text(text)
    assert secret not in screened.text and "[secret removed: " in screened.text
    assert screened.withheld.total() >= 1 and screen_text(text, keep_secrets=True).text == text


def test_the_rest_of_a_secret_that_begins_inside_another_one_goes_too() -> None:
    body = "MIIBVgIBADANBgkqhkiG9w0BAQEFAASCAUAwggE8AgEAAkEA"
    said = f"My password is a-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY----- and I like tea."
    assert screen_text(said).text == "My password is [secret removed: password] and I like tea."


@pytest.mark.parametrize(
    ("text", "kept", "passages"),
    [
        ("plain", "plain", 0),
        ("a <private>b</private> c", "a c", 1),
        ("a <PRIVATE > b </ private> c", "a c", 1),
        ("a <private>b", "a", 1),
        ("<private>b</private>", "", 1),
        ("a <private>b <private>c</private> d</private> e", "a e", 1),
        ("a <private>b</private> c <private>d</private> e", "a c e", 2),
        ("a <private>b <private>c</private> d", "a", 1),
        ("a &lt;private&gt;b&lt;/private&gt; c", "a c", 1),
        ("a </private> b", "a b", 0),
        ("a private matter", "a private matter", 0),
        ("a <private>b\nc\n\nd</private>\ne", "a e", 1),
    ],
)
def test_private_passages_go_whole(text: str, kept: str, passages: int) -> None:
    left, taken = without_private(text)
    assert (left, len(taken)) == (kept, passages)


def exchange(*messages: Message) -> Exchange:
    return Exchange("k", Scope(user_id="ann"), messages, datetime(2023, 5, 8, tzinfo=UTC), "chat", 0)


def test_a_reply_that_repeats_a_secret_or_follows_a_private_passage_is_not_stored() -> None:
    said = exchange(Message("user", f"my password is {PASSWORD}"), Message("assistant", f"Noted: {PASSWORD}!"))
    kept = screen_exchange(said).exchange
    assert kept is not None and PASSWORD not in str(kept.messages)
    private = exchange(Message("user", UNCLOSED), Message("assistant", f"A {PRIVATE}, how nice!"))
    kept = screen_exchange(private).exchange
    assert kept is not None and [message.text for message in kept.messages] == ["I play chess."]
    plain = exchange(Message("user", "I like tea."), Message("assistant", "So do I."))
    assert screen_exchange(plain).exchange is plain


def test_what_was_taken_out_is_told_in_one_line() -> None:
    told = describe_withheld(screen_text(f"{SAID} Card: 4111 1111 1111 1111").withheld)
    assert "2 secrets not stored: 1 password, 1 card number" in told and "1 private passages not stored" in told
    assert describe_withheld({}) == ""


# ------------------------------------------------------------------ the doors


@pytest.mark.parametrize("infer", [True, False])
def test_memory_add_stores_neither(tiny_home: Path, infer: bool) -> None:
    with Memory() as memory:
        added = memory.add(
            [{"role": "user", "content": SAID}, {"role": "assistant", "content": f"{PASSWORD}?"}],
            user_id="ann",
            infer=infer,
        )
        assert added["withheld"] == {"password": 1, "private passage": 1}
        memory.add(UNCLOSED, user_id="ann", infer=infer)
        memory.add(f"<private>{PRIVATE}", user_id="ann", infer=infer)
        [first, *_] = memory.add("Ann likes tea.", user_id="ann", infer=False)["results"]
        memory.update(first["id"], f"Ann likes tea. The password is {PASSWORD} <private>{PRIVATE}</private>")
        assert "[secret removed: password]" in str(memory.get(first["id"]))
        assert memory.search("chess", user_id="ann")["results"]
    assert found_in(tiny_home) == []


def test_mcp_and_the_resident_process_store_neither(tiny_home: Path) -> None:
    with Memory() as memory:
        result = Operations(memory, "me").call("add", {"messages": [SAID, UNCLOSED], "infer": True})
    assert result["withheld"]["private passage"] >= 1 and found_in(tiny_home) == []


def test_ingest_stores_neither_and_tells(
    tiny_home: Path, tmp_path: Path, run_memlora: Callable[..., tuple[int, str, str]]
) -> None:
    file = tmp_path / "talk.json"
    file.write_text(
        json.dumps(
            [
                {"role": "user", "content": SAID},
                {"role": "assistant", "content": "Hm."},
                {"role": "user", "content": UNCLOSED},
            ]
        )
    )
    code, out, _ = run_memlora("ingest", file)
    assert code == 0 and "1 secrets not stored: 1 password" in out and "2 private passages not stored" in out
    assert found_in(tiny_home) == []
    assert run_memlora("ingest", file)[1].count("not stored") == 0
    code, out, _ = run_memlora("ingest", file, "--user", "bob", "--keep-secrets")
    assert code == 0 and {line.rpartition(" ")[2] for line in found_in(tiny_home)} == {PASSWORD, "77frotz"}


def test_the_plain_chat_stores_neither_and_tells(tiny_home: Path, tiny_student: Path, tiny_embedder: Path) -> None:
    environ = environment(tiny_home, tiny_student, tiny_embedder)
    code, _, err = run_command(environ, "chat", "--plain", said=f"{SAID}\n{UNCLOSED}\n")
    assert code == 0 and "1 password" in err and "2 private passages not stored" in err
    assert found_in(tiny_home) == []


def test_later_replies_of_a_chat_do_not_see_what_is_not_stored(tiny_home: Path) -> None:
    with Memory() as memory:
        chat = Chat(memory.workspace.pipeline, "me", limit=3)
        for text in (SAID, UNCLOSED):
            list(chat.reply(text))
        assert PASSWORD not in str(chat.turns) and "zanzibar" not in str(chat.turns) and len(chat.turns) == 4


def test_what_is_typed_is_not_kept_in_the_history_of_the_prompt(tmp_path: Path) -> None:
    history = History(tmp_path / "chat-history.jsonl")
    history.add(SAID)
    history.add(f"<private>{PRIVATE}")
    history.add("I like tea.")
    assert found_in(tmp_path) == [] and history.earlier("") == "I like tea."


def test_training_examples_have_neither(tmp_path: Path) -> None:
    from memlora_mlx.conversations import read_conversations
    from memlora_mlx.conversations.splits import SPLITS
    from memlora_mlx.distill.teacher_prompts import extraction_prompt, select_exchanges

    file = tmp_path / "talk.json"
    file.write_text(json.dumps([{"role": "user", "content": SAID}, {"role": "user", "content": UNCLOSED}]))
    chosen = select_exchanges(read_conversations(file), SPLITS["paper"], user="me")
    prompts = str([extraction_prompt(one) for one in chosen.exchanges])
    assert "I like tea" in prompts and PASSWORD not in prompts and "zanzibar" not in prompts


def test_secrets_are_kept_only_when_that_is_set() -> None:
    assert Settings().keep_secrets is False
