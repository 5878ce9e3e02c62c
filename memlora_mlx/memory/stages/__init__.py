"""The stages of the memory: what each is asked, what it may answer, and how the answer is read.

The extraction and update prompts are the paper's short ones, word for word: trained
experts expect them, so no prompt is edited unless its expert is trained again. The generation prompt is ours.

A stage writes under a grammar, so its answer always parses, and an update can only touch the memories it was offered.
A *verbatim* grammar is for students that do not follow these prompts untrained: facts are then whole sentences of the
exchange, and nothing that is stored may be changed or removed.

Each stage has a file of its own with its prompt, its grammar and its parser; other rooms use the names below.
"""

from memlora_mlx.memory.stages.extraction import (
    EXTRACTION_TOKENS,
    MAX_FACTS,
    PART_CHARACTERS,
    SHORTEST_PART_CHARACTERS,
    extraction_answer,
    extraction_characters,
    extraction_chat,
    extraction_grammar,
    parse_facts,
    split_exchange,
    with_reply,
    without_repeats,
)
from memlora_mlx.memory.stages.generation import (
    ANSWER_TOKENS,
    PromptMemory,
    answer_chat,
    chat_turn_with_memories,
)
from memlora_mlx.memory.stages.prompts import FittedPrompt, fit_prompt
from memlora_mlx.memory.stages.text import MAX_TEXT, answer_text, clean_line, format_day
from memlora_mlx.memory.stages.update import (
    UPDATE_TOKENS,
    InvalidUpdate,
    UpdateAnswer,
    UpdateEntry,
    UpdateOperation,
    parse_update,
    parse_update_chat,
    update_answer,
    update_chat,
    update_grammar,
)
from memlora_mlx.memory.stages.vqa import (
    MAX_ANSWER_WORD,
    VISUAL_ANSWER_TOKENS,
    parse_visual_answer,
    visual_answer_grammar,
    visual_question_chat,
    with_visual_answer,
)
from memlora_mlx.memory.stages.zero_shot import zero_shot_chat

__all__ = [
    "ANSWER_TOKENS",
    "EXTRACTION_TOKENS",
    "MAX_ANSWER_WORD",
    "MAX_FACTS",
    "MAX_TEXT",
    "PART_CHARACTERS",
    "SHORTEST_PART_CHARACTERS",
    "UPDATE_TOKENS",
    "VISUAL_ANSWER_TOKENS",
    "FittedPrompt",
    "InvalidUpdate",
    "PromptMemory",
    "UpdateAnswer",
    "UpdateEntry",
    "UpdateOperation",
    "answer_chat",
    "answer_text",
    "chat_turn_with_memories",
    "clean_line",
    "extraction_answer",
    "extraction_characters",
    "extraction_chat",
    "extraction_grammar",
    "fit_prompt",
    "format_day",
    "parse_facts",
    "parse_update",
    "parse_update_chat",
    "parse_visual_answer",
    "split_exchange",
    "update_answer",
    "update_chat",
    "update_grammar",
    "visual_answer_grammar",
    "visual_question_chat",
    "with_reply",
    "with_visual_answer",
    "without_repeats",
    "zero_shot_chat",
]
