"""Facts call the speakers by their names."""

import pytest

from memlora_mlx.memory.speaker_names import with_speaker_names
from memlora_mlx.records import Exchange, Message, Scope


def exchange(*turns: tuple[str, str | None, str]) -> Exchange:
    messages = tuple(Message(role, text, speaker) for role, speaker, text in turns)  # type: ignore[arg-type]
    return Exchange("key", Scope("melanie"), messages, None, "chat", 0)


FRIENDS = exchange(
    ("user", "Melanie Smith", "I'm off to swim with Marla and the kids."),
    ("assistant", "Caroline", "Enjoy! I fly to Carolina."),
)
ALONE = exchange(("user", None, "My cat is called Miso."), ("assistant", None, "I see."))


@pytest.mark.parametrize(
    "written, right",
    [
        ("Melani is off to swim with the kids", "Melanie is off to swim with the kids"),
        ("User's children swim", "Melanie's children swim"),
        ("The user swims with Melani's children", "Melanie swims with Melanie's children"),
        ("Caroline flies to Carolina", "Caroline flies to Carolina"),
        ("Marla is off to swim", "Marla is off to swim"),
        ("User-friendly pools are Melanie's favourite", "User-friendly pools are Melanie's favourite"),
        ("Users like the pool", "Users like the pool"),
    ],
)
def test_a_speaker_with_a_name_is_called_by_it(written: str, right: str) -> None:
    assert with_speaker_names(written, FRIENDS) == right


def test_a_speaker_without_a_name_stays_the_user() -> None:
    assert with_speaker_names("User's cat is called Miso", ALONE) == "User's cat is called Miso"
