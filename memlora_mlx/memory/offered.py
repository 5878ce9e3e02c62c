"""Which of the hits of a search a chat's reply is given, and which of those it used."""

from __future__ import annotations

import re
from collections.abc import Sequence

from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.retrieval.lexical import content_words
from memlora_mlx.records import Hit

# Of the cosine below which the embedder finds nothing about a question (`least_cosine`): the score of a hit is the mean of two
# cosines and the share of words. With all-minilm-l6-v2 this is 0.2; "Who is the president of Brazil?" and "Hello there!" have 0.17.
LEAST_SHARE = 0.58
SHARE_OF_BEST = 0.5  # of the best score, that a hit must have to be offered beside it
CLOSE_SHARE = 0.7  # the same for a student that every other line misleads
_ASKER = re.compile(r"(?<!\w)(?:I|me|my|mine|myself|we|us|our|ours)(?!\w)", re.IGNORECASE)
_USER = re.compile(r"(?<!\w)user(?:['’]s)?(?!\w)", re.IGNORECASE)


def without_talk(hits: Sequence[Hit]) -> list[Hit]:
    """The hits without the replies and the questions of earlier chats, which hold no fact that the user told."""
    return [hit for hit in hits if not _is_talk(hit)]


def near_enough(hits: Sequence[Hit], options: PipelineOptions, share: float = SHARE_OF_BEST) -> list[Hit]:
    """The hits that have to do with the message: near enough by themselves, and beside the best one.

    All of them, where it is not known how near the embedder puts texts that have nothing in common.
    """
    if options.least_cosine is None or not hits:
        return list(hits)
    best = max(hit.score for hit in hits)
    return [hit for hit in hits if hit.score >= max(LEAST_SHARE * options.least_cosine, share * best)]


def about_asked_person(question: str, hits: Sequence[Hit]) -> list[Hit]:
    """The hits about the person that the question is about, if there are any: the user, or somebody with a name in it."""
    if _ASKER.search(question):
        fitting = [hit for hit in hits if _is_about_user(hit)]
    else:
        names = [word for word in re.findall(r"[^\W\d_][\w-]+", question)[1:] if word[0].isupper()]
        fitting = [hit for hit in hits if any(name in hit.text for name in names)]
    return fitting or list(hits)


def cited(question: str, reply: str, hits: Sequence[Hit]) -> tuple[Hit, ...]:
    """The hits from which the reply took words that the question does not have; those with the most of them."""
    new = content_words(reply) - content_words(question)
    shared = [(len(new & _words(hit)), hit) for hit in hits]
    most = max((count for count, _ in shared), default=0)
    return tuple(hit for count, hit in shared if count and 2 * count >= most)


def _words(hit: Hit) -> frozenset[str]:
    said = content_words(hit.message.text) if hit.message is not None and hit.message.role == "user" else frozenset()
    return content_words(hit.text) | said


def _is_talk(hit: Hit) -> bool:
    message = hit.message
    if hit.memory is not None or message is None or message.source != "chat":
        return False
    return message.role == "assistant" or not message.text.strip() or message.text.rstrip().endswith("?")


def _is_about_user(hit: Hit) -> bool:
    if hit.memory is not None:
        return bool(_USER.search(hit.memory.text) or _ASKER.search(hit.memory.text))
    return hit.message is not None and hit.message.role == "user" and bool(_ASKER.search(hit.message.text))
