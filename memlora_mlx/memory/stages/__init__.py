"""The stages of the memory: what each is asked, what it may answer, and how the answer is read.

The extraction and update prompts are the paper's short ones, word for word: trained
experts expect them, so none is edited without training its expert anew. The generation prompt is ours.

A stage writes under a grammar, so its answer always parses, and an update can only touch the memories it was offered.
A *grounded* grammar is for students that do not follow these prompts untrained: facts are then whole sentences of the
exchange, and nothing that is stored may be changed or removed.

Each stage has a file of its own with its prompt, its grammar and its parser; other rooms use the names below.
"""

from memlora_mlx.memory.stages.extraction import (
    EXTRACTION_TOKENS,
    MAX_FACTS,
    extraction_chat,
    extraction_grammar,
    extraction_length,
    parse_facts,
)
from memlora_mlx.memory.stages.generation import ANSWER_TOKENS, Recalled, answer_chat, chat_turn
from memlora_mlx.memory.stages.prompts import Chat, Fitted, fit
from memlora_mlx.memory.stages.text import MAX_TEXT, clean_text, day
from memlora_mlx.memory.stages.update import (
    UPDATE_TOKENS,
    Decision,
    Decisions,
    offered,
    parse_update,
    update_chat,
    update_grammar,
)
from memlora_mlx.memory.stages.vqa import LOOK_TOKENS, MAX_WORD, look_chat, look_grammar, look_recalled, parse_look

__all__ = [
    "ANSWER_TOKENS",
    "EXTRACTION_TOKENS",
    "LOOK_TOKENS",
    "MAX_FACTS",
    "MAX_TEXT",
    "MAX_WORD",
    "UPDATE_TOKENS",
    "Chat",
    "Decision",
    "Decisions",
    "Fitted",
    "Recalled",
    "answer_chat",
    "chat_turn",
    "clean_text",
    "day",
    "extraction_chat",
    "extraction_grammar",
    "extraction_length",
    "fit",
    "look_chat",
    "look_grammar",
    "look_recalled",
    "offered",
    "parse_facts",
    "parse_look",
    "parse_update",
    "update_chat",
    "update_grammar",
]
