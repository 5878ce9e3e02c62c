"""The drawings: a small VQA benchmark made here, for machines without a hub. A test bench; it says nothing of photographs.

A scene is drawn from a record, so every answer is known: one group of like shapes of one colour (how many?), a few other
shapes, and one odd thing (what pattern is on it, what colour is its small part?). Scenes are numbered; scene, split and
answers depend on the seed alone. Answers are spread evenly, so that guessing gets no further than chance.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from memlora_mlx.conversations.splits import Split
from memlora_mlx.distill.examples import TrainingExample
from memlora_mlx.distill.vqa_dataset import QuestionKind, vqa_example, write_benchmark
from memlora_mlx.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

T = TypeVar("T")

VERSION = 1  # of scenes and drawing: figures of two versions are not comparable
IMAGE_PIXELS = 224  # pixels
COUNT = 300  # scenes
SUPERSAMPLING = 2  # drawn so many times larger, then made smaller: smooth edges
CELLS = 4  # a side; each thing has a cell of its own, so nothing overlaps

COLOURS = {
    "red": (214, 39, 40),
    "orange": (255, 140, 0),
    "yellow": (250, 218, 40),
    "green": (44, 150, 60),
    "blue": (31, 90, 200),
    "purple": (128, 50, 160),
    "pink": (245, 130, 190),
    "brown": (125, 75, 40),
}
BACKGROUNDS = {
    "white": (255, 255, 255),
    "grey": (226, 226, 226),
    "cream": (250, 243, 224),
    "pale blue": (222, 236, 250),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
PATTERNS = ("plain", "striped", "dotted", "checked")
OBJECTS_WITH_PARTS = {
    "house": "door",
    "fish": "eye",
    "cup": "handle",
    "boat": "flag",
    "kite": "tail",
}  # and its small part
MAX_COUNT = 8  # of the shapes that are counted


@dataclass(frozen=True, slots=True)
class PlacedShape:
    """A shape in its cell."""

    shape: str
    colour: str
    cell: int  # 0 to 15, row by row
    radius: int  # pixels
    shift: tuple[int, int]  # pixels, from the middle of the cell


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a drawing shows."""

    number: int
    split: Split
    background: str
    counted: str  # the shape of the group
    group: tuple[PlacedShape, ...]
    others: tuple[PlacedShape, ...]
    odd: PlacedShape
    part: str
    part_colour: str
    pattern: str

    @property
    def caption(self) -> str:
        """What a captioner would write, who does not know the questions."""
        return f"a drawing of some {_plural(self.counted)}, other shapes and a {self.odd.shape} on a {self.background} ground"


def benchmark_scenes(count: int = COUNT, seed: int = 0) -> list[Scene]:
    """So many scenes, no two alike: of each five one tests, one validates and three train."""
    random = Random(f"memlora drawings {VERSION} {seed}")
    roles: tuple[Split, ...] = ("train", "train", "train", "validation", "test")
    splits = _spread(roles, count, random)
    counts = _spread(range(1, MAX_COUNT + 1), count, random)
    parts = _spread(tuple(COLOURS), count, random)
    patterns = _spread(PATTERNS, count, random)
    chosen = zip(splits, counts, parts, patterns, strict=True)
    return [_scene(number, *choice, random) for number, choice in enumerate(chosen)]


def draw(scene: Scene) -> Image:
    """The drawing, RGB, 224 x 224 pixels."""
    from PIL import Image, ImageDraw

    image = Image.new(
        "RGB", (IMAGE_PIXELS * SUPERSAMPLING, IMAGE_PIXELS * SUPERSAMPLING), BACKGROUNDS[scene.background]
    )
    pen = ImageDraw.Draw(image)
    for placed in (*scene.group, *scene.others):
        _shape(pen, placed)
    _odd(image, scene)
    return image.resize((IMAGE_PIXELS, IMAGE_PIXELS), Image.Resampling.LANCZOS)


def scene_questions(scene: Scene) -> Iterator[tuple[QuestionKind, str, str, str]]:
    """Kind, question, one-word answer and reason, one of each kind."""
    odd, count = scene.odd.shape, len(scene.group)
    looks = "has no pattern" if scene.pattern == "plain" else f"is {scene.pattern}"
    yield (
        "unusual",
        "One thing is unlike all the others. Is it plain, striped, dotted or checked?",
        scene.pattern,
        f"The odd thing is the {odd}, and it {looks}.",
    )
    yield (
        "colour",
        f"What colour is the {scene.part} of the {odd}?",
        scene.part_colour,
        f"The {scene.part} of the {odd} is {scene.part_colour}.",
    )
    what = scene.counted if count == 1 else _plural(scene.counted)
    seen = f"There is one {what}." if count == 1 else f"There are {count} {what}."
    yield "count", f"How many {_plural(scene.counted)} are there? Answer in digits.", str(count), seen


def rows_of(scene: Scene, image: str) -> list[TrainingExample]:
    """The rows of a scene, whose drawing is the file `image`."""
    name = f"drawing-{scene.number:04}"
    return [
        vqa_example(*about, image=image, teacher="drawings", conversation=name, turn="1", split=scene.split)
        for about in scene_questions(scene)
    ]


def build(
    folder: Path, *, count: int = COUNT, seed: int = 0, on_progress: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Write the benchmark into a folder (see `distill.vqa`). Returns its manifest.

    Raises:
        UsageError: the folder cannot be written, or holds another benchmark.
    """
    import PIL

    rows: list[TrainingExample] = []
    images: list[dict[str, Any]] = []
    try:
        _own(folder)
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for scene in benchmark_scenes(count, seed):
            out = BytesIO()
            draw(scene).save(out, "PNG")
            digest = hashlib.sha256(out.getvalue()).hexdigest()
            file = f"images/{digest}.png"
            (folder / file).write_bytes(out.getvalue())
            rows += rows_of(scene, file)
            images.append(
                {"file": file, "sha256": digest, "split": scene.split, "caption": scene.caption, "scene": asdict(scene)}
            )
            if on_progress:
                on_progress(len(images))
        described = {
            "benchmark": "drawings",
            "version": VERSION,
            "seed": seed,
            "scenes": count,
            "scenes_sha256": scenes_digest(count, seed),
            "pillow": PIL.__version__,
            "note": "made by a program, as a test bench; it says nothing about photographs",
        }
        return write_benchmark(folder, rows, images, described)
    except OSError as error:
        raise UsageError(
            f"cannot write {folder} ({error.strerror or error}); choose another place with --out"
        ) from error


def scenes_digest(count: int = COUNT, seed: int = 0) -> str:
    """SHA-256 of the scenes' records: the same on every machine, whatever the version of Pillow."""
    return hashlib.sha256(json.dumps([asdict(scene) for scene in benchmark_scenes(count, seed)]).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------ inside


def _own(folder: Path) -> None:
    """Take away an earlier build's images; whatever else is there is not ours to overwrite."""
    if not (folder / "manifest.json").is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty and holds no benchmark; choose another place with --out")
        return
    try:
        name = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["benchmark"]
    except (ValueError, KeyError, TypeError):
        name = None
    if name != "drawings":
        raise UsageError(f"{folder} holds another benchmark; choose another place with --out")
    (folder / "manifest.json").unlink()  # first: without it nobody takes a half-written folder for a benchmark
    for image in (folder / "images").glob("*.png"):
        image.unlink()


def _spread(values: Sequence[T], count: int, random: Random) -> list[T]:
    """So many of the values, each as often as the others, in no order."""
    made = [values[at % len(values)] for at in range(count)]
    random.shuffle(made)
    return made


def _scene(number: int, split: Split, count: int, part_colour: str, pattern: str, random: Random) -> Scene:
    cells = random.sample(range(CELLS * CELLS), CELLS * CELLS)
    counted, *other_shapes = random.sample(SHAPES, len(SHAPES))
    body, group_colour, *other_colours = random.sample([name for name in COLOURS if name != part_colour], 7)

    def placed(shape: str, colour: str, least: int, most: int) -> PlacedShape:
        radius = random.randint(least, most)
        room = IMAGE_PIXELS // CELLS // 2 - 2 - radius
        shift = (random.randint(-room, room), random.randint(-room, room))
        return PlacedShape(shape, colour, cells.pop(), radius, shift)

    odd = placed(random.choice(tuple(OBJECTS_WITH_PARTS)), body, 24, 25)
    group = tuple(placed(counted, group_colour, 12, 19) for _ in range(count))
    others = tuple(
        placed(random.choice(other_shapes), random.choice(other_colours), 12, 19) for _ in range(random.randint(2, 6))
    )
    background = random.choice(tuple(BACKGROUNDS))
    return Scene(
        number, split, background, counted, group, others, odd, OBJECTS_WITH_PARTS[odd.shape], part_colour, pattern
    )


def _plural(shape: str) -> str:
    return "crosses" if shape == "cross" else f"{shape}s"


def _centre(placed: PlacedShape) -> tuple[float, float]:
    """In pixels of the large drawing."""
    size = IMAGE_PIXELS // CELLS
    column, row = placed.cell % CELLS, placed.cell // CELLS
    return (column * size + size / 2 + placed.shift[0]) * SUPERSAMPLING, (
        row * size + size / 2 + placed.shift[1]
    ) * SUPERSAMPLING


def _shape(pen: ImageDraw, placed: PlacedShape) -> None:
    (x, y), r, colour = _centre(placed), placed.radius * SUPERSAMPLING, COLOURS[placed.colour]
    match placed.shape:
        case "circle":
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        case "ring":
            pen.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=max(2, round(r * 0.4)))
        case "square":
            side = r * 0.85
            pen.rectangle((x - side, y - side, x + side, y + side), fill=colour)
        case "triangle":
            pen.polygon(_around(x, y, r, 3), fill=colour)
        case "star":
            points = [
                point
                for pair in zip(_around(x, y, r, 5), _around(x, y, r * 0.42, 5, 36), strict=True)
                for point in pair
            ]
            pen.polygon(points, fill=colour)
        case "cross":
            arm = r * 0.33
            pen.rectangle((x - arm, y - r, x + arm, y + r), fill=colour)
            pen.rectangle((x - r, y - arm, x + r, y + arm), fill=colour)


def _around(x: float, y: float, r: float, corners: int, turned: float = 0.0) -> list[tuple[float, float]]:
    """Corners of a regular polygon, the first at the top; `turned` in degrees."""
    angles = [math.radians(turned + 360 * at / corners) for at in range(corners)]
    return [(x + r * math.sin(angle), y - r * math.cos(angle)) for angle in angles]


def _odd(image: Image, scene: Scene) -> None:
    """The odd thing: a body with its pattern, then the small part on or beside it."""
    from PIL import Image as Pixels
    from PIL import ImageDraw

    (x, y), r = _centre(scene.odd), scene.odd.radius * SUPERSAMPLING
    mask = Pixels.new("L", image.size)
    outline = ImageDraw.Draw(mask)
    match scene.odd.shape:
        case "house":
            outline.rectangle((x - 0.8 * r, y - 0.2 * r, x + 0.8 * r, y + r), fill=255)
            outline.polygon([(x - r, y - 0.2 * r), (x, y - r), (x + r, y - 0.2 * r)], fill=255)
            part = [(x - 0.22 * r, y + 0.3 * r), (x + 0.22 * r, y + r)]
        case "fish":
            outline.ellipse((x - r, y - 0.6 * r, x + 0.55 * r, y + 0.6 * r), fill=255)
            outline.polygon([(x + 0.4 * r, y), (x + r, y - 0.5 * r), (x + r, y + 0.5 * r)], fill=255)
            part = [(x - 0.75 * r, y - 0.35 * r), (x - 0.35 * r, y + 0.05 * r)]
        case "cup":
            outline.polygon(
                [(x - r, y - 0.7 * r), (x + 0.5 * r, y - 0.7 * r), (x + 0.3 * r, y + r), (x - 0.8 * r, y + r)], fill=255
            )
            part = [(x + 0.56 * r, y - 0.45 * r), (x + r, y + 0.4 * r)]
        case "boat":
            outline.polygon(
                [(x - r, y + 0.2 * r), (x + r, y + 0.2 * r), (x + 0.6 * r, y + r), (x - 0.6 * r, y + r)], fill=255
            )
            outline.rectangle((x - 0.06 * r, y - r, x + 0.06 * r, y + 0.2 * r), fill=255)
            part = [(x + 0.1 * r, y - r), (x + 0.75 * r, y - 0.45 * r)]
        case _:
            outline.polygon(
                [(x, y - r), (x + 0.7 * r, y - 0.25 * r), (x, y + 0.5 * r), (x - 0.7 * r, y - 0.25 * r)], fill=255
            )
            part = [(x - 0.2 * r, y + 0.55 * r), (x + 0.2 * r, y + r)]
    body = Pixels.new("RGB", image.size, COLOURS[scene.odd.colour])
    _pattern(ImageDraw.Draw(body), scene.pattern, x, y, r)
    image.paste(body, (0, 0), mask)
    ImageDraw.Draw(image).rectangle([*part[0], *part[1]], fill=COLOURS[scene.part_colour])


def _pattern(pen: ImageDraw, pattern: str, x: float, y: float, r: float) -> None:
    step, ink = r / 3, (20, 20, 20)
    for across in range(-4, 5):
        left = x + across * step
        if pattern == "striped":
            pen.rectangle((left, y - r, left + step * 0.4, y + r), fill=ink)
        for down in range(-4, 5):
            top = y + down * step
            if pattern == "dotted":
                pen.ellipse((left, top, left + step * 0.45, top + step * 0.45), fill=ink)
            elif pattern == "checked" and (across + down) % 2 == 0:
                pen.rectangle((left, top, left + step, top + step), fill=ink)
