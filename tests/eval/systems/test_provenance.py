"""Where evidence was lost, told from what was written."""

from __future__ import annotations

import pytest

from memlora_mlx.eval.systems.provenance import Provenance, failure_stage, recall


@pytest.fixture
def written() -> Provenance:
    made = Provenance()
    made.record_write("ADD", "a", "Ann lives in Rome", ["D1:1"])
    made.record_write("ADD", "b", "Bob has a red bicycle", ["D1:2"])
    made.record_write("ADD", "c", "Ann drinks tea", ["D1:3"])
    made.record_write("UPDATE", "a", "since June she is at home by the sea", ["D2:1"])  # nothing of Rome is left
    made.record_write("UPDATE", "c", "Ann drinks tea with milk", ["D2:2"])  # the old words stand in the new ones
    made.record_write("DELETE", "b", None, ["D2:3"])
    return made


def test_a_memory_comes_from_every_turn_whose_words_stand_in_it(written: Provenance) -> None:
    assert written.refs_of("a") == ("D2:1",)
    assert written.refs_of("b") == ()
    assert written.refs_of("c") == ("D1:3", "D2:2")
    assert written.still_stored == {"D2:1", "D1:3", "D2:2"}
    assert Provenance.from_json(written.as_json()).still_stored == written.still_stored


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (("D1:4",), "not extracted"),
        (("D1:1",), "updated away"),
        (("D1:2",), "updated away"),
        (("D1:3",), "answered wrongly"),
        (("D2:1",), "not retrieved"),
        (("D1:3", "D2:1"), "not retrieved"),
        (("D1:3", "D1:4"), "not extracted"),
        (("D9:9",), None),
        ((), None),
    ],
)
def test_the_first_stage_that_one_turn_did_not_pass(
    written: Provenance, evidence: tuple[str, ...], expected: str | None
) -> None:
    known = {"D1:1", "D1:2", "D1:3", "D1:4", "D2:1", "D2:2", "D2:3"}
    found = failure_stage(
        evidence, known=known, given=written.ever_stored, standing=written.still_stored, retrieved={"D1:3", "D2:2"}
    )
    assert found == expected


def test_recall_is_the_share_of_the_turns_that_were_read() -> None:
    known = {"D1:1", "D1:2"}
    assert recall(("D1:1", "D1:2", "D9:9"), known=known, retrieved={"D1:2"}) == 0.5
    assert recall(("D9:9",), known=known, retrieved={"D9:9"}) is None
