"""Pictures in the store: kept once, found by their hash, erased with the last memory, carried by an export."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image as Pixels
from test_export_import import ANNA, SPACE, embed

from memlora_mlx.errors import StoreError, UsageError
from memlora_mlx.memory.changes import Add, Delete, Update
from memlora_mlx.memory.store.erasure import erase_everything
from memlora_mlx.memory.store.export_import import export_lines, import_lines
from memlora_mlx.memory.store.history import undo_change
from memlora_mlx.memory.store.images import GRACE_SECONDS, UNDO_DAYS
from memlora_mlx.memory.store.integrity import check_store, repair_store
from memlora_mlx.memory.store.schema import MIGRATIONS
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Exchange, Image, Message

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def png(colour: str = "red") -> bytes:
    out = BytesIO()
    Pixels.new("RGB", (12, 8), colour).save(out, "PNG")
    return out.getvalue()


def data_url(colour: str = "red") -> str:
    return "data:image/png;base64," + base64.b64encode(png(colour)).decode()


def stored_image(store: Store, colour: str = "red") -> Image:
    return Image(f"{colour}.png", None, store.images.add(png(colour), colour))


def add(store: Store, image: Image, memory_id: str) -> None:
    store.commit(ANNA, [Add("a car", embed(["a car"])[0], image=image, id=memory_id)])


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in (folder / "images").rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", SPACE, clock=lambda: NOW) as store:
        yield store


def test_a_picture_is_kept_once_and_found_by_its_hash(store: Store) -> None:
    image = stored_image(store)
    assert stored_image(store) == image and image.sha256
    assert files(store.folder) == [f"images/{image.sha256[:2]}/{image.sha256}.{end}" for end in ("png", "thumb.jpg")]
    add(store, image, "1")
    memory = store.get("1")
    path = store.images.path(image.sha256)
    assert memory and memory.image == image and path
    with Pixels.open(path) as opened:
        assert opened.getpixel((3, 3)) == (255, 0, 0)
    assert path.parent.stat().st_mode & 0o077 == 0


def test_the_last_memory_takes_its_picture_along_and_undo_brings_back_the_words(store: Store) -> None:
    image = stored_image(store)
    add(store, image, "1")
    add(store, image, "2")
    store.delete("1")
    assert store.images.path(image.sha256)
    store.delete("2")
    assert files(store.folder) == []
    undo_change(store, embed)
    memory = store.get("2")
    assert memory and memory.image == image and store.images.path(image.sha256) is None
    stored_image(store)  # the same picture comes again: the link heals
    assert store.images.path(image.sha256)


def test_undoing_an_addition_and_forgetting_everybody_erase_the_picture(store: Store) -> None:
    add(store, stored_image(store), "1")
    undo_change(store, embed)
    assert files(store.folder) == []
    add(store, stored_image(store), "2")
    store.delete_all(ANNA)
    assert files(store.folder) == []
    add(store, stored_image(store), "3")
    erase_everything(store)
    assert files(store.folder) == []


def test_what_the_student_deleted_can_be_brought_back_with_its_picture_for_a_while(tmp_path: Path) -> None:
    now = [NOW]
    with Store(tmp_path, SPACE, clock=lambda: now[0]) as store:
        image = stored_image(store)
        exchange = Exchange("x", ANNA, (Message("user", "my car", image=image),), None, "c", 0)
        store.commit(ANNA, [Add("a car", embed(["a car"])[0], image=image, id="1")], exchange=exchange)
        store.commit(ANNA, [Delete("1")], actor="model")
        assert check_store(store) == [] and store.images.path(image.sha256)
        undo_change(store, embed)
        memory = store.get("1")
        assert memory and memory.image == image and store.images.path(image.sha256)
        store.commit(ANNA, [Delete("1")], actor="model")
        now[0] += timedelta(days=UNDO_DAYS, seconds=1)
        assert check_store(store) == [] and files(tmp_path) == []


def test_forgetting_somebody_erases_also_what_the_student_deleted(store: Store) -> None:
    image = stored_image(store)
    exchange = Exchange("x", ANNA, (Message("user", "my car", image=image),), None, "c", 0)
    store.commit(ANNA, [Add("a car", embed(["a car"])[0], image=image, id="1")], exchange=exchange)
    store.commit(ANNA, [Delete("1")], actor="model")
    assert store.images.path(image.sha256)
    store.delete_all(ANNA)
    assert files(store.folder) == []


def test_a_changed_memory_takes_the_image_of_its_new_words_if_it_has_none(store: Store) -> None:
    store.commit(ANNA, [Add("a car", embed(["a car"])[0], id="1")])
    image = stored_image(store)
    store.commit(ANNA, [Update("1", "a red car", embed(["a red car"])[0], image=image)])
    store.commit(ANNA, [Update("1", "a fast car", embed(["a fast car"])[0], image=stored_image(store, "blue"))])
    memory = store.get("1")
    assert memory and memory.image == image and len(files(store.folder)) == 4  # the blue one is on its way still
    undo_change(store, embed)
    undo_change(store, embed)
    memory = store.get("1")
    assert memory and memory.image is None and store.images.path(image.sha256) is None


def test_an_exchange_that_nothing_is_remembered_of_leaves_no_picture(store: Store) -> None:
    message = Message("user", "look", image=Image(data_url()))
    exchange = store.images.store_exchange_images(Exchange("x", ANNA, (message,), None, "c", 0), None, pytest.fail)
    image = exchange.messages[0].image
    assert image and image.sha256 and len(image.source) < 40 and files(store.folder)
    store.commit(ANNA, [], exchange=exchange)
    assert store.exchange("x").messages[0].image == image and files(store.folder) == []


def test_a_crash_between_file_and_commit_leaves_an_orphan_that_the_checkup_collects(store: Store) -> None:
    image = stored_image(store, "blue")
    (scrap := store.folder / "images" / image.sha256[:2] / "x.part").write_bytes(b"half")  # type: ignore[index]
    add(store, stored_image(store), "1")
    assert check_store(store) == [] and len(files(store.folder)) == 5, "it may be on its way into the store"
    old = time.time() - GRACE_SECONDS - 5
    for path in (*store.images.files(), *(store.folder / "images").rglob("*.thumb.jpg"), scrap):
        os.utime(path, (old, old))
    assert check_store(store) == [] and len(files(store.folder)) == 2
    assert store.images.path(image.sha256) is None


def test_a_picture_that_another_process_is_keeping_survives_the_deletion_of_its_last_memory(store: Store) -> None:
    add(store, stored_image(store), "1")
    other = Store(store.folder, SPACE)
    image = stored_image(other)  # and is reading the exchange
    store.delete("1")
    add(other, image, "2")
    assert store.images.path(image.sha256) and check_store(store) == []


def test_damaged_pictures_are_told_and_removed(store: Store) -> None:
    image = stored_image(store)
    add(store, image, "1")
    path = store.images.path(image.sha256)
    assert path
    path.write_bytes(b"not what it was")
    os.utime(path, (1, 1))
    assert "1 pictures are damaged" in check_store(store)[0]
    assert "removed 1 damaged pictures" in " ".join(repair_store(store, embed))
    assert check_store(store) == [] and store.get("1")


def test_links_out_of_the_store_are_never_followed(store: Store, tmp_path: Path) -> None:
    image = stored_image(store)
    add(store, image, "1")
    (secret := tmp_path / "secret.png").write_bytes(png("blue"))
    path = store.images.path(image.sha256)
    assert path
    path.unlink()
    path.symlink_to(secret)
    assert store.images.path(image.sha256) is None and "damaged" in check_store(store)[0]
    store.delete("1")
    assert secret.read_bytes() == png("blue")
    folder = store.folder / "images"
    for part in list(folder.rglob("*"))[::-1]:
        part.unlink() if part.is_symlink() or part.is_file() else part.rmdir()
    folder.rmdir()
    folder.symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(UsageError, match="link that leads outside the store"):
        stored_image(store)
    erase_everything(store)
    assert secret.exists()


def test_paths_are_looked_for_in_the_conversations_folder_only(store: Store, tmp_path: Path) -> None:
    talk = tmp_path / "talk"
    (talk / "pictures").mkdir(parents=True)
    (talk / "pictures" / "a b.png").write_bytes(png())
    (tmp_path / "outside.png").write_bytes(png())
    (talk / "link.png").symlink_to(tmp_path / "outside.png")
    inside = talk / "pictures" / "a b.png"
    for source in ("pictures/a b.png", str(inside), inside.as_uri()):
        assert store.images.store_image(Image(source), talk) == Image(source, None, store.images.add(png(), "x"))
    for source in ("../outside.png", str(tmp_path / "outside.png"), "link.png", "file:///etc/hostname", "/etc/passwd"):
        with pytest.raises(UsageError, match="outside the conversation's folder"):
            store.images.store_image(Image(source), talk)
    for source, says in (
        ("pictures", "is a folder"),
        ("none.png", "there is no picture"),
        ("ftp://host/a.png", "not a supported image address"),
        ("file://[host/a.png", "not a supported image address"),
        ("a\0b", "no path"),
        ("x" * 5000, "."),
        ("data:image/png;base64,!!!", "not base64"),
        ("data:image/png", "cut off"),
        ("data:text/plain,hello", "not a picture"),
    ):
        with pytest.raises(UsageError, match=says):
            store.images.store_image(Image(source), talk)
    web = Image("https://example.org/cat.jpg", "a cat")
    assert store.images.store_image(web, talk) == web and store.images.store_image(Image("http://["), talk) == Image(
        "http://["
    )
    assert store.images.store_image(Image("boat.png"), None) == Image("boat.png"), "without a folder it is a reference"


def test_one_bad_picture_does_not_cost_the_exchange(store: Store, tmp_path: Path) -> None:
    problems: list[str] = []
    messages = (
        Message("user", "one", image=Image("../x.png", "a caption")),
        Message("user", "two", image=Image("data:image/png;base64," + "A" * 5000)),
    )
    exchange = Exchange("x", ANNA, messages, None, "c", 0)
    after = store.images.store_exchange_images(exchange, tmp_path, problems.append)
    assert len(problems) == 2 and after.messages[0] == messages[0]
    assert after.messages[1].image == Image("data:"), "bytes that are no picture are no reference either"


def test_an_export_carries_the_pictures(store: Store, tmp_path: Path) -> None:
    image = stored_image(store)
    add(store, image, "1")
    lines = [json.dumps(line) for line in export_lines(store)]
    assert json.loads(lines[0])["version"] == 2
    with Store(tmp_path / "two", SPACE) as two:
        assert import_lines(two, lines, embed).added == 1
        assert two.images.path(image.sha256) and two.get("1").image == image  # type: ignore[union-attr]
        assert list(export_lines(two)) == list(export_lines(store)) and check_store(two) == []
        two.delete("1")
        assert files(two.folder) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": base64.b64encode(png("blue")).decode()}, "line 3: data .* SHA-256"),
        ({"data": "%%"}, "line 3: data must be base64"),
        ({"sha256": "../../x"}, "line 3: sha256 must have 64"),
    ],
)
def test_hostile_pictures_in_an_export_are_refused_and_nothing_stays(
    store: Store, tmp_path: Path, change: dict[str, str], says: str
) -> None:
    add(store, stored_image(store), "1")
    lines = list(export_lines(store))
    number = next(at for at, line in enumerate(lines) if line.get("kind") == "picture")
    lines[number] = {**lines[number], **change}
    with Store(tmp_path / "two", SPACE) as two:
        with pytest.raises(StoreError, match=says):
            import_lines(two, lines, embed)
        assert files(two.folder) == [] and two.count() == 0
        with pytest.raises(StoreError, match="line 5"):
            import_lines(two, [*export_lines(store), "{}"], embed)
        assert files(two.folder) == []


def test_a_store_from_before_pictures_opens_and_keeps_what_it_had(tmp_path: Path) -> None:
    """Written by the tables of version 1, as an earlier memlora made them."""
    path = tmp_path / "memories.db"
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        for statement in MIGRATIONS[0]:
            old.execute(statement)
        old.execute("INSERT INTO meta VALUES ('space', ?), ('store', 's'), ('revision', '1')",
                    [json.dumps({"name": SPACE.name, "dim": SPACE.dim})])  # fmt: skip
        old.execute("INSERT INTO owners (id, user_id) VALUES (1, 'ben')")
        old.execute("INSERT INTO images (id, source, caption) VALUES (1, 'https://example.org/a.jpg', 'a cat')")
        old.execute(
            "INSERT INTO memories (public_id, owner, text, sha256, stored_at, image, revision)"
            " VALUES ('1', 1, 'a', 'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb',"
            " '2024-01-01T00:00:00.000000+00:00', 1, 1)"
        )
        old.execute("INSERT INTO embeddings VALUES (1, ?)", [embed(["a"])[0].tobytes()])
        old.execute("PRAGMA user_version = 1")
    with Store(tmp_path, SPACE) as store:
        assert check_store(store) == []
        memory = store.get("1")
        assert memory and memory.image == Image("https://example.org/a.jpg", "a cat")
        add(store, stored_image(store), "2")
        assert store.images.path(store.get("2").image.sha256)  # type: ignore[union-attr]
    with contextlib.closing(sqlite3.connect(path)) as now:
        assert now.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
