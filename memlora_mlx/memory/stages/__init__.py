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
    extraction_characters,
    parse_facts,
)
from memlora_mlx.memory.stages.generation import ANSWER_TOKENS, PromptMemory, answer_chat, chat_turn_with_memories
from memlora_mlx.memory.stages.prompts import ChatMessages, FittedPrompt, fit_prompt
from memlora_mlx.memory.stages.text import MAX_TEXT, clean_text, format_day
from memlora_mlx.memory.stages.update import (
    UPDATE_TOKENS,
    UpdateOperation,
    UpdateAnswer,
    parse_update_chat,
    parse_update,
    update_chat,
    update_grammar,
)
from memlora_mlx.memory.stages.vqa import VISUAL_ANSWER_TOKENS, MAX_ANSWER_WORD, visual_question_chat, visual_answer_grammar, with_visual_answer, parse_visual_answer

__all__ = [
    "ANSWER_TOKENS",
    "EXTRACTION_TOKENS",
    "VISUAL_ANSWER_TOKENS",
    "MAX_FACTS",
    "MAX_TEXT",
    "MAX_ANSWER_WORD",
    "UPDATE_TOKENS",
    "ChatMessages",
    "UpdateOperation",
    "UpdateAnswer",
    "FittedPrompt",
    "PromptMemory",
    "answer_chat",
    "chat_turn_with_memories",
    "clean_text",
    "format_day",
    "extraction_chat",
    "extraction_grammar",
    "extraction_characters",
    "fit_prompt",
    "visual_question_chat",
    "visual_answer_grammar",
    "with_visual_answer",
    "parse_update_chat",
    "parse_facts",
    "parse_visual_answer",
    "parse_update",
    "update_chat",
    "update_grammar",
]
