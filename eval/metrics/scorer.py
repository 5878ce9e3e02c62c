"""Answer quality against a gold answer: the four parts of L as Mem0's evaluation takes them, and token F1.

ROUGE-1 and METEOR are the reference packages' own (extra `eval`); BERTScore's greedy matching and the sentence cosine
are computed here over vectors that an encoder on MLX gives. Nothing is ever downloaded.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memlora_mlx.errors import ModelMissing
from memlora_mlx.extras import require
from memlora_mlx.text import well_formed

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace

EmbedFunction = Callable[[Sequence[str]], np.ndarray]  # unit vectors: (texts, dim)
TokenStates = Callable[[Sequence[str]], list[np.ndarray]]  # for each text (tokens, dim), [CLS] and [SEP] among them

# What `bert-score lang=en` takes.
ROBERTA = "FacebookAI/roberta-large"
ROBERTA_LAYERS = 17
# Where packages of WordNet's own files put them: Debian's wordnet-base, Homebrew's wordnet.
WORDNET_FOLDERS = (
    Path("/usr/share/wordnet"),
    Path("/opt/homebrew/opt/wordnet/dict"),
    Path("/usr/local/opt/wordnet/dict"),
)

_PAIRS = 512  # pairs whose token states are held at a time


@dataclass(frozen=True, slots=True)
class Scores:
    """One answer against its gold answer; every part 0 to 1, only the cosines can be below 0."""

    rouge_1: float
    meteor: float
    bert_score: float
    sentence_bert: float
    token_f1: float
    exact: float

    @property
    def composite(self) -> float:
        """L: the plain mean of ROUGE-1, METEOR, BERTScore and the sentence cosine, x100."""
        return 25.0 * (self.rouge_1 + self.meteor + self.bert_score + self.sentence_bert)


ZERO_SCORES = Scores(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def mean_scores(scores: Sequence[Scores]) -> dict[str, float]:
    """L, its parts, token F1 and exact match of several answers, x100.

    Raises:
        ValueError: there are none.
    """
    if not scores:
        raise ValueError("there are no scores to take the mean of")

    def mean(name: str) -> float:
        return 100 * float(np.mean([getattr(score, name) for score in scores]))

    parts = {name: mean(name) for name in ("rouge_1", "meteor", "bert_score", "sentence_bert")}
    return {"f1": mean("token_f1"), "L": sum(parts.values()) / len(parts), **parts, "exact": mean("exact")}


class Scorer:
    """Answers to scores, in batches.

    Args:
        embed: unit vectors of texts, `Engine.embed` say.
        token_states: the encoder's hidden states, `Engine.token_states` say.
        sentence_model: the name of the encoder behind `embed`, for the report.
        token_model: the name and layer of the encoder behind `token_states`, for the report.

    Raises:
        ExtraMissing: the extra `bench` is not installed.
    """

    def __init__(
        self, embed: EmbedFunction, token_states: TokenStates, *, sentence_model: str, token_model: str
    ) -> None:
        _rouge()  # now rather than at the end of an hour's run
        self._embed, self._token_states = embed, token_states
        self._sentence_model, self._token_model = sentence_model, token_model
        self.model_seconds = 0.0  # spent in the encoders so far

    def score(self, pairs: Sequence[tuple[str, object]]) -> list[Scores]:
        """Scores of (prediction, gold) pairs, in their order. A pair with an empty side scores 0 in everything."""
        texts = [(_text(prediction), _text(gold)) for prediction, gold in pairs]
        scores = [ZERO_SCORES] * len(texts)
        filled = [row for row, (prediction, gold) in enumerate(texts) if prediction and gold]
        for start in range(0, len(filled), _PAIRS):
            rows = filled[start : start + _PAIRS]
            distinct = list(dict.fromkeys(text for row in rows for text in texts[row]))
            started = time.perf_counter()
            vectors = dict(zip(distinct, self._embed(distinct), strict=True))
            states = dict(zip(distinct, self._token_states(distinct), strict=True))
            self.model_seconds += time.perf_counter() - started
            for row in rows:
                prediction, gold = texts[row]
                scores[row] = Scores(
                    rouge_1=rouge_1(prediction, gold),
                    meteor=meteor(prediction, gold),
                    bert_score=bert_score_f1(states[prediction], states[gold]),
                    sentence_bert=float(vectors[prediction] @ vectors[gold]),
                    token_f1=token_f1(prediction, gold),
                    exact=exact_match(prediction, gold),
                )
        return scores

    @property
    def origin(self) -> dict[str, str]:
        """What each part was computed with; scores of another origin are not comparable."""
        return {
            "rouge_1": f"rouge-score {version('rouge-score')}, stemmed, F",
            "meteor": f"nltk {version('nltk')}, {synonyms()[1]}",
            "bert_score": f"{self._token_model}; F1, no idf, not rescaled",
            "sentence_bert": self._sentence_model,
            "token_f1": "sets of words, as mem0",
        }


def workspace_scorer(workspace: Workspace) -> Scorer:
    """A scorer on the workspace's engine: BERTScore by roberta-large if it was pulled, all else by the embedder.

    Raises:
        UsageError: the extra `eval` is not installed.
        ModelMissing: there is no embedder.
        ModelBroken: an encoder is half-downloaded or damaged.
    """
    engine, embedder = workspace.engine, workspace.settings.embedder
    workspace.embedder_folder  # noqa: B018 - now rather than at the first answer
    from memlora_mlx.models.downloads import resolve

    try:
        folder = resolve(ROBERTA, workspace.models_folder)
    except ModelMissing:
        token_model = f"{embedder}, last layer"
        return Scorer(engine.embed, engine.token_states, sentence_model=embedder, token_model=token_model)
    from memlora_mlx.models.embedding import Embedder

    encoder = engine.call(lambda: Embedder(folder))

    def token_states(texts: Sequence[str]) -> list[np.ndarray]:
        spaced = [f" {text}" for text in texts]  # so that a first word is the token it is inside a sentence
        return engine.call(lambda: encoder.token_states(spaced, layers=ROBERTA_LAYERS))

    token_model = f"roberta-large, layer {ROBERTA_LAYERS}"
    return Scorer(engine.embed, token_states, sentence_model=embedder, token_model=token_model)


def token_f1(prediction: str, gold: object) -> float:
    """Mem0's F1 over the sets of words: lower case, `. , ! ?` taken for blanks."""
    said, wanted = _words(prediction), _words(gold)
    common = len(said & wanted)
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def exact_match(prediction: str, gold: object) -> float:
    """1.0 where they are the same but for case and outer blanks; an empty prediction never is."""
    said = _text(prediction).lower()
    return float(bool(said) and said == _text(gold).lower())


def rouge_1(prediction: str, gold: object) -> float:
    """ROUGE-1, F-measure, with stemming. Only a-z and 0-9 count, so text in another script scores 0."""
    return float(_rouge().score(_text(gold), _text(prediction))["rouge1"].fmeasure)


def meteor(prediction: str, gold: object) -> float:
    """NLTK's METEOR on blank-separated words; a perfect answer of one word scores 0.5 in it."""
    score = _package("nltk.translate.meteor_score").meteor_score
    return float(score([_text(gold).split()], _text(prediction).split(), wordnet=synonyms()[0]))


def bert_score_f1(prediction: np.ndarray, gold: np.ndarray) -> float:
    """BERTScore's F1 of two texts' token states, as bert-score computes it without idf and rescaling.

    Args:
        prediction, gold: (tokens, dim). The first and the last row are [CLS] and [SEP]: as in bert-score they have no
            weight of their own, but other tokens may be matched with them.
    """
    if len(prediction) <= 2 or len(gold) <= 2:
        return 0.0
    similarity = _unit(prediction) @ _unit(gold).T
    precision = float(similarity[1:-1].max(axis=1).mean())
    recall = float(similarity[:, 1:-1].max(axis=0).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@cache
def synonyms() -> tuple[Any, str]:
    """The WordNet that METEOR looks synonyms up in, and its origin: NLTK's data, else the system's, else none."""
    nltk = _package("nltk")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it knows no other languages
        with suppress(LookupError, OSError):  # not there, or not to be read
            nltk.corpus.wordnet.ensure_loaded()
            return nltk.corpus.wordnet, f"wordnet {nltk.corpus.wordnet.get_version()} (nltk)"
        for folder in WORDNET_FOLDERS:
            if (folder / "data.noun").is_file():
                with suppress(Exception):  # half installed; NLTK has errors of its own
                    wordnet = _wordnet_of(folder)
                    return wordnet, f"wordnet {wordnet.get_version()} (system)"
    return _NoSynonyms(), "no synonyms"


class _NoSynonyms:
    def synsets(self, word: str) -> list[Any]:
        return []


def _wordnet_of(folder: Path) -> Any:
    """NLTK's reader on a bare `dict` folder, which lacks two of the files in NLTK's own copy."""
    nltk = _package("nltk")
    reader: Any = _package("nltk.corpus.reader.wordnet").WordNetCorpusReader

    def open_file(self: Any, name: str) -> Any:
        if name == "lexnames" and not (folder / name).is_file():
            return io.StringIO("".join(f"{number:02d}\tfile{number}\t1\n" for number in range(45)))
        return reader.open(self, name)

    def map_wn(self: Any, version: str = "wordnet") -> None:
        """For other languages; it would read index.sense."""

    bare = type("BareWordNet", (reader,), {"open": open_file, "map_wn": map_wn})
    if str(folder) not in nltk.data.path:
        nltk.data.path.append(str(folder))  # NLTK opens files only below these
    return bare(str(folder), None)


@cache
def _rouge() -> Any:
    return _package("rouge_score.rouge_scorer").RougeScorer(["rouge1"], use_stemmer=True)


def _package(name: str) -> Any:
    require("bench", "scoring")
    return import_module(name)


def _text(value: object) -> str:
    """As models and packages get it: numbers as digits, no half surrogate pairs (no tokenizer takes one)."""
    return well_formed(str(value)).strip()


def _words(value: object) -> set[str]:
    return set(str(value).lower().translate(str.maketrans(".,!?", "    ")).split())


def _unit(states: np.ndarray) -> np.ndarray:
    unit: np.ndarray = states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
    return unit
