"""The steps from a question's hits to its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from memlora_mlx.memory import stages, visual_questions
from memlora_mlx.memory.abstention import NOT_MENTIONED, fits_nothing, is_about_somebody_else
from memlora_mlx.memory.answer_words import answer_grammar
from memlora_mlx.memory.dated_answers import dated_answer
from memlora_mlx.memory.engine import MemoryEngine
from memlora_mlx.memory.evidence import evidence, owner_name
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.results import Answer, CallCost
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.visual_questions import VisualAnswer
from memlora_mlx.records import ChatMessages, Grammar, Hit, Request, Stage


class Answerer:
    """Answers questions from what was found for them, with one engine and the images of one store."""

    def __init__(self, engine: MemoryEngine, store: Store, options: PipelineOptions) -> None:
        self.engine, self.store, self.options = engine, store, options

    def answer_request(
        self, question: str, hits: Sequence[Hit], *, names: bool = False, look: VisualAnswer | None = None
    ) -> tuple[Request, int]:
        """The request for an answer from the hits, best first, and how many of them were left out.

        Those are left out that do not fit the context, are more than the student was trained on, or fit far worse than the best.

        Args:
            names: say whose memory each is, where more than one owner is asked.
            look: what one of their pictures has shown; it stands behind the words of its hit.
        """
        recalled = self.evidence(question, hits, names=names)
        if look is not None:
            recalled = [
                replace(line, text=stages.with_visual_answer(line.text, look.answer, look.reason))
                if look.hit == hit
                else line
                for hit, line in zip(hits, recalled, strict=True)
            ]
        offered = recalled[: self.options.readable([hit.score for hit in hits])]
        request, truncated, kept = self._fitted_request(
            "generation",
            lambda count: stages.answer_chat(question, offered[:count]),
            len(offered),
            stages.ANSWER_TOKENS,
            lambda _: None,
        )
        truncated += len(recalled) - len(offered)
        if self.options.grounded_answers:
            return replace(request, grammar=answer_grammar(question, offered[:kept])), truncated
        return replace(request, stop_repetition=self.options.protocol == "product"), truncated

    def evidence(self, question: str, hits: Sequence[Hit], *, names: bool = False) -> list[stages.PromptMemory]:
        """The hits as the student reads them: what was said, or in the paper's protocol the memories."""
        if self.options.protocol == "product":
            return evidence(question, hits, names=names)
        return [stages.PromptMemory(hit.text, hit.said_at, owner_name(hit.owner) if names else None) for hit in hits]

    def declines(self, question: str, hits: Sequence[Hit]) -> bool:
        """Whether the answer is that it was not mentioned, and the student is not asked.

        So it is where nothing was found, and where what was found is not about the question or about somebody else.
        """
        if self.options.protocol == "paper":
            return False
        if not hits:
            return True
        embed = partial(self.engine.embed, query=True)
        least = self.options.least_cosine
        if least is not None and fits_nothing(question, hits, self.store, embed, least):
            return True
        return is_about_somebody_else(question, hits, self.store, embed)

    def answer_by_rule(self, question: str, hits: Sequence[Hit]) -> str | None:
        """The answer where the student need not be asked: nothing was mentioned, or code can count the days; else None."""
        if self.declines(question, hits):
            return NOT_MENTIONED
        return dated_answer(question, hits) if self.options.grounded_answers else None

    def answer(
        self,
        question: str,
        hits: Sequence[Hit],
        *,
        names: bool = False,
        on_text: Callable[[str], None] | None = None,
        free: bool = False,
    ) -> Answer:
        """Answer from the hits; with a student that sees, after another look at a picture among the best.

        Args:
            on_text: called on the engine's thread with each piece of the answer.
            free: ask the student also where `answer_by_rule` has an answer; where that is that nothing was mentioned, without
                memories.
        """
        if (by_rule := self.answer_by_rule(question, hits)) is not None and not free:
            if on_text is not None:
                on_text(by_rule)
            return Answer(by_rule, tuple(hits), CallCost("generation", 0, 0, 0.0))
        if by_rule == NOT_MENTIONED:  # an answer that is bound to the memories could not say what the student knows
            request = Request(None, (("user", question),), max_tokens=stages.ANSWER_TOKENS, stop_repetition=True)
            completion = self.engine.complete(request, on_text=on_text)
            return Answer(completion.text.strip(), (), CallCost.of("generation", completion, 0))
        found = None
        if self.options.supports_images and self.options.protocol == "product":
            found = visual_questions.answer_from_stored_image(self.engine, question, hits, self.store.images)
        request, truncated = self.answer_request(question, hits, names=names, look=found)
        completion = self.engine.complete(request, on_text=on_text)
        cost = CallCost.of("generation", completion, truncated)
        return Answer(completion.text.strip(), tuple(hits[: len(hits) - truncated]), cost, found)

    def _fitted_request(
        self,
        stage: Stage,
        build: Callable[[int], ChatMessages],
        items: int,
        output: int,
        grammar: Callable[[int], Grammar | None],
        picture: Path | None = None,
    ) -> tuple[Request, int, int]:
        """The stage's request with as much as fits, what was cut, and what was kept."""
        budget = min(self.options.max_context, self.engine.student.context) - output
        fitted = stages.fit_prompt(build, items, lambda chat: self.engine.count_tokens(chat, picture), budget)
        return Request(stage, fitted.chat, grammar(fitted.kept), output, picture), fitted.truncated, fitted.kept
