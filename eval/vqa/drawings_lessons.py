"""What the drawings student is taught before it meets the benchmark: scenes of its own, described and asked about.

The scenes have seeds that no benchmark has by default, and one that shows what a scene of the default benchmark shows is
left out. A picture is put together from cells of drawings made for this: shape and colour are the scene's, the exact size
and place are those of the cell. The questions are in words of their own: the benchmark's prompt, its questions and its
reasons are not among them. That is the room that is left to an expert.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.eval.vqa import drawings
from memlora_mlx.eval.vqa.drawings import (
    BACKGROUNDS,
    CELLS,
    COLOURS,
    IMAGE_PIXELS,
    OBJECTS_WITH_PARTS,
    PATTERNS,
    SHAPES,
    PlacedShape,
    Scene,
)

FIRST_SEED = 7_000_000  # of its scenes, as `drawings.scenes` takes it; every block of them has the next one
PIXELS = 112  # of a picture as the student sees it, a side
CELL = PIXELS // CELLS
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")

Pixels = NDArray[np.uint8]  # (PIXELS, PIXELS, 3)


# ------------------------------------------------------------------------------------------------ scenes


@cache
def _of_the_benchmark() -> frozenset[object]:
    return frozenset(map(scene_key, drawings.benchmark_scenes()))


def scene_key(scene: Scene) -> object:
    """What a scene shows and where, whatever its sizes and shifts."""
    shapes = frozenset((one.shape, one.colour, one.cell) for one in (*scene.group, *scene.others))
    odd = (scene.odd.shape, scene.odd.colour, scene.odd.cell, scene.part_colour, scene.pattern)
    return scene.background, shapes, odd


def training_scenes(count: int, block: int) -> list[Scene]:
    """About so many scenes, the same ones for a block; what the default benchmark shows is not among them."""
    return [
        one for one in drawings.benchmark_scenes(count, FIRST_SEED + block) if scene_key(one) not in _of_the_benchmark()
    ]


class CellImages:
    """Drawn cells by what is in them.

    Args:
        sheets: drawings made, each of fifteen shapes and an odd thing.
        on_progress: told how many are drawn.
    """

    def __init__(self, sheets: int, seed: int = 0, on_progress: Callable[[int], None] = lambda done: None) -> None:
        self._random = Random(f"memlora drawings cells {seed}")
        found: dict[object, list[Pixels]] = {}
        for number in range(sheets):
            scene = self._cell_grid(number)
            picture = small(drawings.draw(scene))
            for one in scene.others:
                found.setdefault((scene.background, one.shape, one.colour), []).append(_cell(picture, one.cell))
            found.setdefault(_odd_key(scene), []).append(_cell(picture, scene.odd.cell))
            on_progress(number + 1)
        self._cells = {key: np.stack(some) for key, some in found.items()}

    def picture(self, scene: Scene, random: Random) -> Pixels | None:
        """A picture of what the scene shows; None where no cell was drawn for a part of it."""
        made = np.empty((PIXELS, PIXELS, 3), np.uint8)
        made[:] = BACKGROUNDS[scene.background]
        keys: list[tuple[int, object]] = [(scene.odd.cell, _odd_key(scene))]
        keys += [(one.cell, (scene.background, one.shape, one.colour)) for one in (*scene.group, *scene.others)]
        for cell, key in keys:
            if (some := self._cells.get(key)) is None:
                return None
            _cell(made, cell)[:] = some[random.randrange(len(some))]
        return made

    def _cell_grid(self, number: int) -> Scene:
        """Fifteen shapes of any kind, and the odd things in turn."""
        random, bodies = self._random, list(COLOURS)
        at, odd_names = number, list(OBJECTS_WITH_PARTS)
        at, shape = divmod(at, len(odd_names))
        at, pattern = divmod(at, len(PATTERNS))
        at, background = divmod(at, len(BACKGROUNDS))
        at, body = divmod(at, len(bodies))
        part_colour = [name for name in bodies if name != bodies[body]][at % (len(bodies) - 1)]
        cells = random.sample(range(CELLS * CELLS), CELLS * CELLS)

        def placed(kind: str, colour: str, least: int, most: int) -> PlacedShape:
            radius = random.randint(least, most)
            room = IMAGE_PIXELS // CELLS // 2 - 2 - radius
            return PlacedShape(
                kind, colour, cells.pop(), radius, (random.randint(-room, room), random.randint(-room, room))
            )

        odd = placed(odd_names[shape], bodies[body], 24, 25)
        others = tuple(placed(random.choice(SHAPES), random.choice(bodies), 12, 19) for _ in cells[:])
        name = list(BACKGROUNDS)[background]
        return Scene(
            number,
            "train",
            name,
            "circle",
            (),
            others,
            odd,
            OBJECTS_WITH_PARTS[odd.shape],
            part_colour,
            PATTERNS[pattern],
        )


ALL_ODD = (
    len(OBJECTS_WITH_PARTS) * len(PATTERNS) * len(BACKGROUNDS) * len(COLOURS) * (len(COLOURS) - 1)
)  # sheets for each of them


def small(image: object) -> Pixels:
    """A drawing at the student's size, as its processor makes it."""
    from PIL import Image

    assert isinstance(image, Image.Image)
    return np.asarray(image.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC))


def _cell(picture: Pixels, cell: int) -> Pixels:
    y, x = divmod(cell, CELLS)
    return picture[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL]


def _odd_key(scene: Scene) -> object:
    return scene.background, scene.odd.shape, scene.odd.colour, scene.part_colour, scene.pattern


# ------------------------------------------------------------------------------------------------ lessons


@dataclass(frozen=True, slots=True)
class DrawingsExample:
    """Something to be said about a picture."""

    question: str
    answer: str


def make_example(scene: Scene, random: Random, is_chatty: bool = False) -> DrawingsExample:
    """One question about a scene and what to say; which, and in which words, is random."""
    make = random.choices(list(_KINDS), list(_KINDS.values()))[0]
    question, answer = make(scene, random)
    also = random.choice((_which_odd, _of_body, _of_group, _ground))(scene, random)[1]
    return DrawingsExample(*_dressed(question, answer, also, random, is_chatty))


def _thing(scene: Scene) -> str:
    part = f"{_a(scene.part_colour)} {scene.part}"
    return f"{_a(scene.pattern)} {scene.odd.colour} {scene.odd.shape} with {part}"


def _all(scene: Scene, random: Random) -> tuple[str, str]:
    asked = random.choice(("Describe the drawing.", "What do you see?", "Tell me what is drawn here."))
    count, what = len(scene.group), scene.counted if len(scene.group) == 1 else _plural(scene.counted)
    group = f"{NUMBERS[count]} {scene.group[0].colour} {what}"
    return asked, random.choice((f"{_thing(scene)} and {group}", f"{group} and {_thing(scene)}"))


def _odd(scene: Scene, random: Random) -> tuple[str, str]:
    asked = (
        "Describe the odd thing.",
        "Something here is no plain shape. What is it?",
        f"Tell me of the {scene.odd.shape}.",
    )
    return random.choice(asked), _thing(scene)


def _which_odd(scene: Scene, random: Random) -> tuple[str, str]:
    return random.choice(("Which odd thing is shown?", "What stands among the shapes?")), scene.odd.shape


def _count(scene: Scene, random: Random) -> tuple[str, str]:
    asked = random.choice(("Count the {}.", "How many {} do you see?", "What number of {} is shown?"))
    return asked.format(_plural(scene.counted)), NUMBERS[len(scene.group)]


def _digit(scene: Scene, random: Random) -> tuple[str, str]:
    asked = random.choice(
        ("How many {} do you see? Write digits.", "Count the {}, in digits.", "How many {}, in digits?")
    )
    return asked.format(_plural(scene.counted)), str(len(scene.group))


def _most(scene: Scene, random: Random) -> tuple[str, str]:
    return random.choice(("Which shape is shown again and again?", "Of which shape is the group?")), scene.counted


def _of_group(scene: Scene, random: Random) -> tuple[str, str]:
    asked = random.choice(("Which colour have the {}?", "The {} are of which colour?"))
    return asked.format(_plural(scene.counted)), scene.group[0].colour


def _of_body(scene: Scene, random: Random) -> tuple[str, str]:
    asked = random.choice(("Which colour has the {}?", "The {} is of which colour?", "What colour is the {}?"))
    return asked.format(scene.odd.shape), scene.odd.colour


def _of_part(scene: Scene, random: Random) -> tuple[str, str]:
    asked = random.choice(
        ("What colour has the {odd}'s {part}?", "What colour is the {part}?", "The {part} of the {odd}: which colour?")
    )
    return asked.format(part=scene.part, odd=scene.odd.shape), scene.part_colour


def _of_pattern(scene: Scene, random: Random) -> tuple[str, str]:
    asked = random.choice(("Which pattern has the {}?", "Is the {} plain, striped, dotted or checked?"))
    return asked.format(scene.odd.shape), scene.pattern


def _ground(scene: Scene, random: Random) -> tuple[str, str]:
    return random.choice(("Which colour has the ground?", "What is behind the shapes?")), scene.background


_KINDS: Mapping[Callable[[Scene, Random], tuple[str, str]], float] = {
    _all: 4,
    _odd: 3,
    _which_odd: 1,
    _most: 1,
    _count: 4,
    _digit: 3,
    _of_group: 1.5,
    _of_body: 2,
    _of_part: 1.5,
    _of_pattern: 2,
    _ground: 1,
}

_BEFORE = (
    "Look closely.",
    "Here is a drawing.",
    "Somebody made this picture of shapes.",
    "Take your time and say only what can be seen.",
    "You are shown a drawing with four rows and four columns.",
    "Be brief.",
    "Answer in a word or two.",
    "Do not guess.",
    "The drawing may hold circles, squares, triangles, stars, rings and crosses.",
    "Question:",
)
_AFTER = ("Be brief.", "Answer in one word.", "Only say what you see.", "Thank you.")
_KEYS = ("seen", "said", "result", "colour", "number", "thing", "word", "reply")


def _dressed(question: str, answer: str, also: str, random: Random, is_chatty: bool) -> tuple[str, str]:
    """The question among other words, now and then with a form for its answer, in which something else is said too."""
    before = random.sample(_BEFORE, random.choice((2, 3, 4, 6) if is_chatty else (0, 0, 1)))
    after = [random.choice(_AFTER)] if random.random() < 0.15 else []
    form = random.random()
    if form < 0.3:
        key, other = random.sample(_KEYS, 2)
        hint = random.choice(("Write {}.", "As JSON: {}.", "Form: {}."))
        (before if random.random() < 0.6 else after).append(hint.format(f'{{"{key}": "...", "{other}": "..."}}'))
        answer = f'{{"{key}": "{answer}", "{other}": "{also}"}}'
    elif form < 0.4:
        answer = f"It is {answer}." if " " not in answer else f"I see {answer}."
    return " ".join((*before, question, *after)), answer


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _plural(shape: str) -> str:
    return "crosses" if shape == "cross" else f"{shape}s"


def texts(count: int) -> list[str]:
    """Questions and answers to train a tokenizer on."""
    random = Random("memlora drawings words")
    taught = [make_example(scene, random, at % 7 == 0) for at, scene in enumerate(training_scenes(count, 0))]
    return [text for one in taught for text in (one.question, one.answer)]
