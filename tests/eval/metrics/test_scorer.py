"""The metrics give what the reference packages give, take any text, and say with what they were computed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memlora_mlx.errors import ExtraMissing
from memlora_mlx.eval.metrics import scorer as metrics
from memlora_mlx.eval.metrics.scorer import Scorer, Scores
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models.embedding import Embedder
from memlora_mlx.models.safetensors_files import load_arrays
from memlora_mlx.settings import load_settings

import mlx.core as mx  # isort: skip

nltk = pytest.importorskip("nltk", reason="the extra `bench` is not installed")
pytest.importorskip("rouge_score", reason="the extra `bench` is not installed")

# Prediction and gold; then, from the packages themselves: rouge-score 0.1.2 (stemmed, F), NLTK 3.10.4's METEOR without
# synonyms and with WordNet 3.0's.
REFERENCE: list[tuple[str, object, float, float, float]] = [
    ("7 May 2023", "7 May 2023", 1.0, 0.981481, 0.981481),
    ("On May 7, 2023, she went to the clinic.", "7 May 2023", 0.5, 0.138889, 0.138889),
    ("She adopted two kittens", "two kittens and a puppy", 0.444444, 0.382653, 0.382653),
    ("the kid", "the child", 0.5, 0.25, 0.9375),
    ("Running in the mornings!", "She runs every morning", 0.5, 0.125, 0.125),
    ("She bought a big house near the sea", "a large home by the ocean", 0.285714, 0.16129, 0.412186),
    ("Paris", "London", 0.0, 0.0, 0.0),
    ("3", 3, 1.0, 0.5, 0.5),
    ("It is not mentioned in the memories.", "Pottery, camping, painting", 0.0, 0.0, 0.0),
    ("painting, camping and pottery", "Pottery, camping, painting", 0.857143, 0.0, 0.0),
    ("Sí, en Málaga, 2021", "In Málaga, in 2021", 0.6, 0.25, 0.25),
    ("no no no no", "No, she did not.", 0.25, 0.0, 0.0),
]
PAIRS = [(prediction, gold) for prediction, gold, *_ in REFERENCE]

# Tokens of prediction and gold, and F1 of bert-score 0.3.13's own `greedy_cos_idf` on `token_vectors`: its source was
# run on numpy in torch's place, with the weights that its idf=False gives ([CLS] and [SEP] 0, others 1).
BERT_SCORE = [
    (5, 4, 0.522719),
    (3, 9, 0.607012),
    (12, 12, 0.643456),
    (8, 3, 0.719975),
    (2, 5, 0.0),
    (4, 2, 0.0),
]

# With what a model may write: half surrogate pairs, controls, a word whose stemming once recursed without end.
ODD = ["", " \n", "\ud83d", "\x00", "\u200b", "[SEP]", ".,!?", "y" * 5000, "word " * 600, "İ ß ﬁ", "日本語", "👍🏽"]
ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.sampled_from(ODD)


def token_vectors() -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    random = np.random.RandomState(7)
    for said, wanted, f1 in BERT_SCORE:
        yield random.randn(said, 6) + 0.3, random.randn(wanted, 6) + 0.3, f1


def mem0_f1(prediction: object, reference: object) -> float:
    """Mem0's definition, word by word (its evaluation's `calculate_metrics`)."""

    def tokens(text: object) -> set[str]:
        lowered = str(text).lower()
        return set(lowered.replace(".", " ").replace(",", " ").replace("!", " ").replace("?", " ").split())

    said, wanted = tokens(str(prediction).strip()), tokens(str(reference).strip())
    if not said or not wanted:
        return 0.0
    precision, recall = len(said & wanted) / len(said), len(said & wanted) / len(wanted)
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


class Encoder:
    """A stand-in that keeps count: vectors by the letters of a text, a state for each of its words."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        vectors = np.array([[text.count(letter) + 0.1 for letter in "aeiou"] for text in texts]).reshape(-1, 5)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def token_states(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.concatenate([self.embed(["a"]), self.embed(text.split()), self.embed(["e"])]) for text in texts]


def scorer(encoder: Encoder) -> Scorer:
    return Scorer(encoder.embed, encoder.token_states, sentence_model="letters", token_model="words")


@pytest.fixture
def without_synonyms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "synonyms", lambda: (metrics._NoSynonyms(), "no synonyms"))


# ---------------------------------------------------------------------- against the references


@pytest.mark.parametrize(("prediction", "gold", "rouge", "bare", "synonymous"), REFERENCE)
def test_rouge_and_meteor_equal_the_packages(
    prediction: str, gold: object, rouge: float, bare: float, synonymous: float, without_synonyms: None
) -> None:
    assert metrics.rouge_1(prediction, gold) == pytest.approx(rouge, abs=1e-6)
    assert metrics.meteor(prediction, gold) == pytest.approx(bare, abs=1e-6)


def test_meteor_with_wordnet_equals_nltk() -> None:
    if not metrics.synonyms()[1].startswith("wordnet 3.0 "):
        pytest.skip("there is no WordNet 3.0 on this machine")
    for prediction, gold, _, _, synonymous in REFERENCE:
        assert metrics.meteor(prediction, gold) == pytest.approx(synonymous, abs=1e-6)


def test_greedy_matching_equals_bert_score() -> None:
    for prediction, gold, f1 in token_vectors():
        assert metrics.bert_score_f1(prediction, gold) == pytest.approx(f1, abs=1e-6)
        assert metrics.bert_score_f1(7 * prediction, gold / 3) == pytest.approx(f1, abs=1e-6)  # only angles count


@settings(deadline=None)
@given(ANY_TEXT, ANY_TEXT | st.integers() | st.floats())
@example("May 7, 2023!", "7 May, 2023?")
@example("0", 0)
def test_token_f1_is_mem0s(prediction: str, gold: object) -> None:
    assert metrics.token_f1(prediction, gold) == pytest.approx(mem0_f1(prediction, gold))


def test_exact_match_ignores_case_and_outer_blanks_only() -> None:
    assert metrics.exact_match(" Rome\n", "rome") == 1.0
    assert metrics.exact_match("2022", 2022) == 1.0
    assert metrics.exact_match("Rome.", "Rome") == 0.0
    assert metrics.exact_match("", "") == 0.0


# ---------------------------------------------------------------------- the scorer


def test_scores_keep_the_order_of_the_pairs_in_any_batch(
    monkeypatch: pytest.MonkeyPatch, without_synonyms: None
) -> None:
    together = scorer(Encoder()).score(PAIRS)
    assert together == [scorer(Encoder()).score([pair])[0] for pair in PAIRS]
    monkeypatch.setattr(metrics, "_PAIRS", 5)
    assert scorer(Encoder()).score(PAIRS) == together
    assert [scores.rouge_1 for scores in together] == pytest.approx([row[2] for row in REFERENCE], abs=1e-6)
    assert together[0].sentence_bert == pytest.approx(1.0) and together[0].bert_score == pytest.approx(1.0)


def test_a_text_that_stands_in_many_pairs_is_embedded_once() -> None:
    encoder = Encoder()
    scorer(encoder).score([("cat", "a cat"), ("a cat", "cat"), ("dog", " cat "), ("dog", "")])
    assert encoder.calls[0] == ["cat", "a cat", "dog"]


def test_l_is_the_plain_mean_of_its_four_parts() -> None:
    scores = Scores(rouge_1=0.1, meteor=0.2, bert_score=0.8, sentence_bert=0.5, token_f1=0.9, exact=1.0)
    assert scores.composite == pytest.approx(40.0)


@pytest.mark.parametrize("empty", ["", " ", "\n\t"])
def test_an_empty_answer_scores_nothing(empty: str) -> None:
    encoder = Encoder()
    assert scorer(encoder).score([(empty, "a dog"), ("a dog", empty), (empty, empty)]) == [metrics.ZERO_SCORES] * 3
    assert encoder.calls == [] and scorer(encoder).score([]) == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT | st.integers() | st.floats()), max_size=4))
def test_any_text_is_scored(pairs: list[tuple[str, object]]) -> None:
    for scores in scorer(Encoder()).score(pairs):
        for part in (scores.rouge_1, scores.meteor, scores.token_f1, scores.exact):
            assert 0 <= part <= 1
        assert -1e-6 <= scores.composite <= 100 + 1e-6


def test_the_origin_names_packages_models_and_synonyms(without_synonyms: None) -> None:
    origin = scorer(Encoder()).origin
    assert origin["meteor"].startswith("nltk 3.") and origin["meteor"].endswith(", no synonyms")
    assert origin["rouge_1"].startswith("rouge-score 0.1.")
    assert origin["sentence_bert"] == "letters" and origin["bert_score"].startswith("words; ")


def test_the_packages_wait_until_a_score_is_wanted() -> None:
    script = "import sys, memlora_mlx.eval.metrics.scorer; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"nltk", "rouge_score", "mlx", "tokenizers"} == set()


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    metrics._rouge.cache_clear()
    with pytest.raises(ExtraMissing, match=r"pip install 'memlora-mlx\[bench\]'"):
        scorer(Encoder())


# ---------------------------------------------------------------------- WordNet


def wordnet_folder(folder: Path) -> Path:
    """A WordNet of one noun and one verb synset, with the files that Debian installs and no others."""
    folder.mkdir()
    head = "  1 WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved.  \n"
    for part in ("noun", "verb", "adj", "adv"):
        (folder / f"{part}.exc").write_text("children child\n" if part == "noun" else "")
        (folder / f"data.{part}").write_text(head)
        (folder / f"index.{part}").write_text(head)
    (folder / "cntlist.rev").write_text("")
    for part, kind, number, words in (("noun", "n", 18, ("kid", "child")), ("verb", "v", 40, ("buy", "purchase"))):
        listed = " ".join(f"{word} 0" for word in words)
        frames = " 00" if kind == "v" else ""
        (folder / f"data.{part}").write_text(
            f"{head}{len(head):08d} {number} {kind} {len(words):02x} {listed} 000{frames} | what it is  \n"
        )
        lines = [f"{word} {kind} 1 0 1 0 {len(head):08d}  \n" for word in sorted(words)]
        (folder / f"index.{part}").write_text(head + "".join(lines))
    return folder


@pytest.fixture
def no_nltk_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """NLTK as where its data was never downloaded, and WordNet looked for anew."""
    missing = nltk.corpus.util.LazyCorpusLoader("no-such-wordnet", nltk.corpus.WordNetCorpusReader, None)
    monkeypatch.setattr(nltk.corpus, "wordnet", missing)
    monkeypatch.setattr(nltk.data, "path", list(nltk.data.path))
    metrics.synonyms.cache_clear()
    yield
    metrics.synonyms.cache_clear()


def test_the_systems_wordnet_is_read_without_nltks_extra_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_nltk_data: None
) -> None:
    monkeypatch.setattr(metrics, "WORDNET_FOLDERS", (tmp_path / "none", wordnet_folder(tmp_path / "wordnet")))
    assert metrics.synonyms()[1] == "wordnet 3.0 (system)"
    assert metrics.meteor("the kid", "the child") == pytest.approx(0.9375)
    assert metrics.meteor("they buy", "they purchase") == pytest.approx(0.25)  # NLTK looks up the stem, "purchas"


def test_a_half_installed_wordnet_counts_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_nltk_data: None
) -> None:
    folder = wordnet_folder(tmp_path / "wordnet")
    (folder / "index.verb").write_text("buy v 1\n")
    monkeypatch.setattr(metrics, "WORDNET_FOLDERS", (folder,))
    assert metrics.synonyms()[1] == "no synonyms"
    assert metrics.meteor("the kid", "the child") == pytest.approx(0.25)


# ---------------------------------------------------------------------- encoders on MLX


def test_token_states_are_what_sentence_vectors_are_the_mean_of(tiny_embedder: Path) -> None:
    embedder = Embedder(tiny_embedder)
    texts = ["Ann moved to Rome last week", "tea", "seven green apples " * 30]
    states = embedder.token_states(texts)
    assert [len(state) for state in states] == [6, 1, 90] and states[0].dtype == np.float32
    means = np.stack([state.mean(axis=0) for state in states])
    assert np.abs(means / np.linalg.norm(means, axis=1, keepdims=True) - embedder.embed(texts)).max() < 1e-5
    assert embedder.token_states([]) == []


def roberta_folder(folder: Path, bert: Path) -> Path:
    """The same encoder as RoBERTa writes it down: names prefixed, positions beginning after the padding's number."""
    folder.mkdir(parents=True)
    config = json.loads((bert / "config.json").read_text())
    config |= {"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 130}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes((bert / "tokenizer.json").read_bytes())
    arrays = {f"roberta.{name}": array for name, array in load_arrays(bert / "model.safetensors").items()}
    positions = "roberta.embeddings.position_embeddings.weight"
    arrays[positions] = mx.concatenate([mx.ones((2, 32)) * 99, arrays[positions]])
    mx.save_safetensors(str(folder / "model.safetensors"), arrays)
    files = [{"path": path.name, "bytes": path.stat().st_size} for path in folder.iterdir()]
    (folder / "memlora.json").write_text(json.dumps({"files": files}))
    return folder


def test_roberta_is_read_and_can_be_left_at_any_layer(tmp_path: Path, tiny_embedder: Path) -> None:
    bert, roberta = Embedder(tiny_embedder), Embedder(roberta_folder(tmp_path / "roberta", tiny_embedder))
    texts = ["Ann moved to Rome", "tea", "apples " * 500]
    assert roberta.max_length == bert.max_length == 128
    for layers in (None, 1):
        for a, b in zip(
            bert.token_states(texts, layers=layers), roberta.token_states(texts, layers=layers), strict=True
        ):
            assert np.abs(a - b).max() < 1e-6
    assert np.abs(bert.token_states(texts, layers=1)[0] - bert.token_states(texts)[0]).max() > 0.01
    assert np.abs(bert.token_states(texts, layers=17)[0] - bert.token_states(texts)[0]).max() == 0


def test_a_workspace_scores_with_its_embedder_until_roberta_is_pulled(
    tiny_home: Path, tiny_embedder: Path, tmp_path: Path
) -> None:
    pairs = [("Ann moved to Rome last week", "Ann moved to Oslo last week"), ("I like tea", "I like tea")]
    for pulled in (False, True):
        if pulled:
            roberta_folder(tmp_path / "models" / "FacebookAI--roberta-large", tiny_embedder)
        with Workspace(load_settings(), models_folder=tmp_path / "models") as workspace:
            made = metrics.workspace_scorer(workspace)
            different, same = made.score(pairs)
        assert 0 < different.bert_score < same.bert_score == pytest.approx(1.0, abs=1e-5)
        assert different.sentence_bert < same.sentence_bert == pytest.approx(1.0, abs=1e-5)
        assert made.origin["bert_score"].startswith("roberta-large, layer 17;") == pulled
        assert str(tiny_embedder) in made.origin["sentence_bert"]


@pytest.mark.starter
def test_minilm_ranks_answers_and_takes_any_text(starter_models: Path) -> None:
    embedder = Embedder(starter_models / "all-minilm-l6-v2")
    made = Scorer(embedder.embed, embedder.token_states, sentence_model="minilm", token_model="minilm")
    gold = "a red bicycle"
    right, near, wrong = made.score([("a red bicycle", gold), ("the red bike", gold), ("on Tuesday", gold)])
    assert right.bert_score > near.bert_score > wrong.bert_score
    assert right.sentence_bert > near.sentence_bert > wrong.sentence_bert
    # [CLS], a, red, bicycle, [SEP]
    assert embedder.token_states([gold])[0].shape == (5, 384)
    assert embedder.token_states([""])[0].shape == (2, 384)

    short = [text for text in ODD if len(text) < 100]
    odd = made.score([*((text, gold) for text in short), *(("the red bike", text) for text in short)])
    assert all(np.isfinite(scores.composite) for scores in odd)
