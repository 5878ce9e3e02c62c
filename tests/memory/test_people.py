"""An owner is more than a display name: two conversations' Anns are two, and nobody is the user by being called so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_home import store_contents

from memlora_mlx.conversations import read_conversations
from memlora_mlx.conversations.model import ReadOptions
from memlora_mlx.errors import StoreError
from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.people import exchanges_of_owners
from memlora_mlx.memory.store.history import undo_change
from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.memory.store.people import list_people, merge_people, rename_person, split_person
from memlora_mlx.memory.store.sources import list_sources
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Scope

Command = Callable[..., tuple[int, str, str]]


def talk(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return talk(
        tmp_path / "first.txt", "Ann: I moved to Rome.", "Bob: Lovely!", "Ann: I like tea.", "Bob: I like dogs."
    )


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return talk(tmp_path / "second.txt", "Ann: I moved to Oslo.", "me: Oh?", "Ann: I like rowing.", "me: I hate tea.")


def newest(store: Store, user_id: str) -> str:
    query = "SELECT key FROM exchanges x JOIN owners o ON o.id = x.owner WHERE user_id = ? ORDER BY x.id DESC LIMIT 1"
    with store.snapshot() as connection:
        return str(connection.execute(query, [user_id]).fetchone()["key"])


def owners(home: Path) -> set[str]:
    return {row[1] for row in store_contents(home)["exchanges"]}


def test_a_second_ann_and_a_speaker_called_me_get_owners_of_their_own(
    tiny_home: Path, first: Path, second: Path, run_memlora: Command
) -> None:
    with Memory() as memory:
        memory.add("I like coffee", user_id="me", infer=False)
    assert run_memlora("ingest", first)[0] == 0 and owners(tiny_home) == {"me", "Ann", "Bob"}
    before = store_contents(tiny_home)
    assert run_memlora("ingest", second)[0] == 0
    assert owners(tiny_home) == {"me", "Ann", "Bob", "Ann (second)", "me (second)"}
    after = store_contents(tiny_home)
    for table in ("memories", "exchanges"):
        mine = [row for row in after[table] if row[1] in ("me", "Ann", "Bob")]
        assert mine == before[table], "nothing of the others was touched"
    again = store_contents(tiny_home)
    assert run_memlora("ingest", first, second)[0] == 0 and store_contents(tiny_home) == again, (
        "read again, nobody is new"
    )


def test_another_conversation_of_the_same_name_has_other_people(
    tiny_home: Path, tmp_path: Path, run_memlora: Command
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = talk(tmp_path / "a" / "chat.txt", "Ann: I moved to Rome.", "Bob: Lovely!")
    other = talk(tmp_path / "b" / "chat.txt", "Ann: Forget Rome.", "Bob: I hate dogs.")
    longer = talk(
        tmp_path / "b" / "export.txt", "Ann: I moved to Rome.", "Bob: Lovely!", "Ann: I like tea.", "Bob: Me too."
    )
    assert run_memlora("ingest", one)[0] == 0 and run_memlora("ingest", other)[0] == 0
    assert owners(tiny_home) == {"Ann", "Bob", "Ann (chat)", "Bob (chat)"}
    assert run_memlora("ingest", longer)[0] == 0
    assert owners(tiny_home) == {"Ann", "Bob", "Ann (chat)", "Bob (chat)"}, "a longer export is known by its words"


def test_only_the_user_says_who_the_user_is(tiny_home: Path, second: Path) -> None:
    with Memory() as memory:
        [conversation] = read_conversations(second)
        store = memory.workspace.store
        made = exchanges_of_owners(store, conversation, user="me", own_names=["ann"])
        assert {exchange.owner.user_id for exchange in made} == {"me", "me (second)"}
        [told] = read_conversations(second, ReadOptions(own_names=frozenset({"Ann"})))
        assert "me" in {exchange.owner.user_id for exchange in exchanges_of_owners(store, told, user="me")}


def test_people_are_merged_renamed_and_split_and_undo_still_works(
    tiny_home: Path, first: Path, second: Path, run_memlora: Command
) -> None:
    assert run_memlora("ingest", first, second)[0] == 0
    with Memory() as memory:
        store, embed = memory.workspace.store, memory.workspace.engine.embed
        memory.add("Ann owns a boat", user_id="Ann (second)", infer=False)
        [kept] = [m for m in store.list(Scope("Ann (second)")) if m.text == "Ann owns a boat"]
        memory.update(kept.id, "Ann owns a ship")
        assert check_store(store) == []
        before = {person.user_id: person.memories for person in list_people(store)}
        merge_people(store, "Ann (second)", "Ann")
        assert check_store(store) == []
        now = {person.user_id: person.memories for person in list_people(store)}
        assert "Ann (second)" not in now and now["Ann"] == before["Ann"] + before["Ann (second)"]
        assert next(hit.text for hit in memory.find("ship", scopes=[Scope("Ann")])) == "Ann owns a ship"
        undo_change(store, embed, memory_id=kept.id)
        found = store.get(kept.id)
        assert found and (found.text, found.owner) == ("Ann owns a boat", Scope("Ann"))
    second.write_text(second.read_text() + "Ann: I will sail to Bergen.\nme: Good luck.\n")
    assert run_memlora("ingest", second)[0] == 0
    with Memory() as memory:
        store = memory.workspace.store
        said = [message.text for message in store.exchange(newest(store, "Ann")).messages]
        assert said == ["I will sail to Bergen.", "Good luck."], "what is new of a merged person is the other's"
        assert "Ann (second)" not in {person.user_id for person in list_people(store)}, "the merge is remembered"
        split_person(store, "Ann", "second", "Ann from Oslo")
        assert check_store(store) == []
        people = {person.user_id: person for person in list_people(store)}
        assert people["Ann from Oslo"].sources == ("second",) and "second" not in people["Ann"].sources
        rename_person(store, "Bob", "Robert")
        with pytest.raises(StoreError, match="somebody already"):
            rename_person(store, "Robert", "Ann")
        with pytest.raises(StoreError, match="nobody called"):
            merge_people(store, "Nobody", "Ann")
        assert check_store(store) == []
    code, out, _ = run_memlora("people", "list")
    assert code == 0 and "Robert" in out and "Ann from Oslo  from second" in out


def test_a_rerun_mends_a_source_whose_end_was_not_marked(tiny_home: Path, first: Path, run_memlora: Command) -> None:
    assert run_memlora("ingest", first)[0] == 0
    with Memory() as memory:
        store = memory.workspace.store
        with store.transaction() as transaction:
            transaction.connection.execute("UPDATE sources SET finished_at = NULL")
    assert run_memlora("ingest", first)[0] == 0
    with Memory() as memory:
        assert all(source.finished_at for source in list_sources(memory.workspace.store))
