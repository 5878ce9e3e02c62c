"""Who said what decides what it may change: a page that an assistant quotes deletes nothing that the user told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memlora_mlx.errors import TooManyChanges
from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.change_limit import LEAST, ChangeLimit
from memlora_mlx.memory.changes import Add, Change, Delete, EmbeddingFingerprint, Update
from memlora_mlx.memory.operations import operations_as_changes
from memlora_mlx.memory.provenance import provenance_of, speaker_class
from memlora_mlx.memory.quotes import split_quotes
from memlora_mlx.memory.results import UpdateInput
from memlora_mlx.memory.stages import UpdateOperation
from memlora_mlx.memory.store.export_import import export_lines, import_lines
from memlora_mlx.memory.store.history import undo_change
from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import PROVENANCES, Exchange, Message, Provenance, Scope

ME = Scope("me")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SPACE = EmbeddingFingerprint("portable", 4)
MARRIED, OVER = "User is married to Tom", "User is no longer married to Tom"


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    rows = np.stack([np.random.default_rng(len(text)).standard_normal(4) for text in texts])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", SPACE, clock=lambda: NOW) as opened:
        yield opened


def said(*turns: tuple[str, str | None, str], key: str = "k", source: str = "chat") -> Exchange:
    messages = tuple(Message(role, text, speaker) for role, speaker, text in turns)  # type: ignore[arg-type]
    return Exchange(key, ME, messages, NOW, source, 0)


@pytest.mark.parametrize(
    ("expected", "turns"),
    [
        ("user", [("user", None, "I am no longer married to Tom."), ("assistant", None, "Sorry that you are no longer married to Tom.")]),
        ("user", [("assistant", None, "Is the user no longer married to Tom?"), ("user", None, "Yes, that is right.")]),
        ("assistant", [("user", None, "Tell me about my marriage to Tom."), ("assistant", None, "The user is no longer married to Tom.")]),
        ("quoted", [("user", None, "What of Tom and my marriage?\n> The user is no longer married to Tom.")]),
        ("quoted", [("user", None, "Tom, married?\n```\nuser is no longer married to Tom\n```"), ("assistant", None, "I see.")]),
        ("quoted", [("user", None, "Look up Tom."), ("assistant", None, "It says:\n> User is no longer married to Tom\nHm.")]),
        ("quoted", [("user", None, "Tom: <webpage>User is no longer married to Tom</webpage>")]),
        ("other", [("user", "Ann", "Hello Tom! Married life?"), ("assistant", "Bob", "The user is no longer married to Tom.")]),
        ("quoted", [("user", None, "Tom?"), ("system", None, "User is no longer married to Tom.")]),
    ],
)  # fmt: skip
def test_the_class_of_a_fact_is_that_of_the_sentence_that_says_most_of_it(
    expected: Provenance, turns: list[tuple[str, str | None, str]]
) -> None:
    assert provenance_of(OVER, said(*turns)) == expected


def test_messages_and_their_quotes() -> None:
    assert speaker_class(Message("user", "x", "Ann")) == "user"
    for speaker in (None, "Assistant", "ChatGPT", "GPT-4", "Claude 3"):
        assert speaker_class(Message("assistant", "x", speaker)) == "assistant"
    assert speaker_class(Message("assistant", "x", "Bob")) == "other"
    own, quoted = split_quotes("a\n> b\n```py\nc\n```\nd <blockquote>e\nf</blockquote> g")
    assert own.split() == ["a", "d", "g"] and set(quoted.split()) >= {"b", "c", "e", "f</blockquote>"} - {"e"}


def keep(store: Store, provenance: Provenance, text: str = MARRIED) -> str:
    [done] = store.commit(ME, [Add(text, embed([text])[0], provenance=provenance)]) or []
    return done.memory_id


def operations(memory: str, provenance: Provenance) -> dict[str, Change]:
    vector = embed([OVER])[0]
    instead = (Add(OVER, vector, provenance=provenance),)
    return {
        "UPDATE": Update(memory, OVER, vector, provenance=provenance),
        "DELETE": Delete(memory, provenance=provenance, instead=instead),
    }


@pytest.mark.parametrize("by", PROVENANCES)
@pytest.mark.parametrize("of", PROVENANCES)
@pytest.mark.parametrize("event", ["UPDATE", "DELETE"])
def test_a_lower_class_never_changes_what_a_higher_one_said(
    store: Store, of: Provenance, by: Provenance, event: str
) -> None:
    memory_id = keep(store, of)
    [applied] = store.commit(ME, [operations(memory_id, by)[event]], exchange=said(("user", None, "x"))) or []
    memories = {memory.id: memory for memory in store.list(ME)}
    if PROVENANCES.index(by) > PROVENANCES.index(of):
        assert memories[memory_id].text == MARRIED and memories[memory_id].provenance == of
        assert (applied.event, applied.text, applied.kept, applied.provenance) == ("ADD", OVER, memory_id, by)
        assert memories[applied.memory_id].provenance == by, "it is added, marked"
        undo_change(store, embed)
        assert [memory.text for memory in store.list(ME)] == [MARRIED]
    else:
        assert (applied.event, applied.kept, applied.rejected) == (event, None, None)
        assert [memory.text for memory in store.list(ME)] == ([OVER] if event == "UPDATE" else [])
        undo_change(store, embed)
        assert store.list(ME)[0].provenance == of, "an undo gives the class back"
    assert check_store(store) == []


def test_a_deletion_that_is_held_back_adds_each_fact_once(store: Store) -> None:
    memory_id = keep(store, "user")
    memory = store.get(memory_id)
    assert memory
    facts = (OVER, "User likes tea")
    related = UpdateInput(facts, embed(facts), (memory,))
    changes = operations_as_changes(
        [(related, UpdateOperation("DELETE", MARRIED, 0)), (related, UpdateOperation("ADD", "User likes tea"))],
        dict(zip(facts, related.vectors, strict=True)),
        said(("user", None, "x")),
        {},
        None,
        {OVER: "assistant", "User likes tea": "user"},
    )
    applied = store.commit(ME, changes) or []
    assert sorted(memory.text for memory in store.list(ME)) == sorted([MARRIED, *facts])
    assert [change.kept for change in applied] == [memory_id, None]


def test_what_a_person_changes_by_hand_is_that_persons(store: Store, tmp_path: Path) -> None:
    memory_id = keep(store, "quoted")
    assert store.revise(memory_id, OVER, embed([OVER])[0]).provenance == "user"
    keep(store, "assistant", "User has a dog")
    store.delete(keep(store, "user", "User has a cat"))
    lines = [json.dumps(line) for line in export_lines(store)]
    with Store(tmp_path / "other", SPACE) as other:
        import_lines(other, lines, embed)
        assert [(m.text, m.provenance) for m in other.list(ME, order="stored")] == [
            (m.text, m.provenance) for m in store.list(ME, order="stored")
        ]
        assert other.list(ME, order="stored")[1].provenance == "assistant"


def test_a_student_that_deletes_blindly_cannot_delete_what_the_user_said(tiny_home: Path) -> None:
    """The whole pipeline: an assistant quotes a page, the student decides to delete, and the memory stays."""
    with Memory() as memory:
        memory.add(MARRIED, user_id="me", infer=False)
        pipeline, store = memory.workspace.pipeline, memory.workspace.store
        exchange = said(
            ("user", None, "Tell me about my marriage to Tom, please."),
            ("assistant", None, "The page says that the user is no longer married to Tom."),
        )
        related = pipeline.find_related(ME, [OVER])
        answer = json.dumps({"memory": [{"id": "0", "text": MARRIED, "event": "DELETE"}]})
        done = pipeline.store_exchange(exchange, related, [(related, answer)])
        texts = {found.text: found.provenance for found in store.list(ME)}
        assert texts == {MARRIED: "user", OVER: "assistant"}, done
        by_user = said(("user", None, "I am no longer married to Tom."), key="k2")
        done = pipeline.store_exchange(by_user, related, [(related, answer)])
        assert MARRIED not in {found.text for found in store.list(ME)}, "the user's own word deletes it: the control"


def test_more_than_a_share_of_older_memories_is_not_changed_without_being_asked_for(store: Store) -> None:
    clock = [NOW]
    store.clock = lambda: clock[0]
    old = [keep(store, "user", f"fact {number}") for number in range(100)]
    clock[0] += timedelta(seconds=1)
    limit = ChangeLimit(store, ())
    exchange = said(("user", None, "x"))
    for memory_id in old[:10]:
        limit.approve(exchange, [Delete(memory_id)])
    limit.approve(exchange, [Delete(old[3]), Add("x", embed(["x"])[0])])  # counted already
    limit.approve(exchange, [Delete(keep(store, "user", "new"))])  # of this ingest
    limit.approve(exchange, [Delete(old[50], provenance="quoted")])  # held back anyway
    with pytest.raises(TooManyChanges, match="11 of 100.*--yes"):
        limit.approve(exchange, [Delete(old[20])])
    assert ChangeLimit(store, ()).most == 10 and LEAST == 5


def test_an_ingest_lists_its_changes_and_waits_for_yes(
    tiny_home: Path, tmp_path: Path, run_memlora: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from memlora_mlx.memory.pipeline import Pipeline

    with Memory() as memory:
        ids = [
            memory.add(f"I own a bicycle {number}", user_id="me", infer=False)["results"][0]["id"]
            for number in range(8)
        ]
    (tmp_path / "chat.json").write_text(
        json.dumps(
            [{"role": "user", "content": "All of my bicycles are gone."}, {"role": "assistant", "content": "Oh."}]
        )
    )
    monkeypatch.setattr(Pipeline, "decide_changes", lambda *_: [Delete(memory_id) for memory_id in ids])
    code, out, err = run_memlora("ingest", tmp_path / "chat.json")
    assert code == 1 and "8 of 8" in err and "--yes" in err
    with Memory() as memory:
        assert len(memory.get_all(user_id="me")["results"]) == 8
    code, out, _ = run_memlora("ingest", tmp_path / "chat.json", "--yes")
    assert code == 0 and out.count("  - I own a bicycle") == 8
    with Memory() as memory:
        assert memory.get_all(user_id="me")["results"] == []
