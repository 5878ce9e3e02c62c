"""The real mem0ai as a system of the benchmark: its own prompts and store read, then our short prompt answers.

Mem0's package has no answer prompt, so the answer is the base student's under the prompt that every other system uses.
Its calls of the student are kept by what was asked, the day's date in its prompts aside, so a killed run goes on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

from memlora_mlx.errors import MemloraError
from memlora_mlx.eval.cases import BenchmarkCase
from memlora_mlx.eval.results import PhaseCost, StageCost
from memlora_mlx.eval.systems.cache import content_key
from memlora_mlx.eval.systems.cached_engine import CachedEngine
from memlora_mlx.eval.systems.mem0_server import StudentServer, mem0_memory
from memlora_mlx.eval.systems.provenance import Provenance
from memlora_mlx.eval.systems.system import (
    OnPhaseProgress,
    RunContext,
    SystemAnswer,
    SystemResult,
    add_cost,
    cached_answer_phase,
    complete_all,
    measure_phase,
    reply,
    retrieved_turn,
)
from memlora_mlx.extras import require
from memlora_mlx.memory import stages
from memlora_mlx.memory.evidence import owner_name
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Request

_TODAY = re.compile(r"Today's date is [0-9-]+")


class Mem0System:
    """Raises ExtraMissing: mem0ai is not installed."""

    name = "mem0"

    def __init__(self, workspace: Workspace, calls: CachedEngine, context: RunContext) -> None:
        require("mem0", "the comparison with mem0ai 1.0.x")
        self.workspace, self.calls, self.context = workspace, calls, context

    def run(self, case: BenchmarkCase, on_done: OnPhaseProgress) -> SystemResult:
        """Read and answer in one step: the store of mem0 is filled again whenever answers are missing.

        Raises:
            MemloraError: whatever went wrong in it; the other systems can go on.
        """
        try:
            return self._run(case, on_done)
        except MemloraError:
            raise
        except Exception as error:  # its own, its store's or its client's
            raise MemloraError(f"mem0ai failed: {error!r}") from error

    def _run(self, case: BenchmarkCase, on_done: OnPhaseProgress) -> SystemResult:
        made: dict[str, Any] = {}

        def ask() -> list[SystemAnswer]:
            logging.getLogger("mem0").setLevel(logging.CRITICAL)  # a line for each answer that does not parse
            count, running = self._counted(costs), self.context.clock.running
            server = StudentServer(self.workspace, self._recall, self._remember, count, running)
            with mem0_memory(self.workspace, chat=server, embed=self.calls.embed) as memory:
                with measure_phase(self.context.clock) as spent:
                    provenance, counts = self._read(memory, case, server, on_done)
                made.update(costs=costs, memory=counts, spent=spent)
                return self._answers(memory, case, provenance, on_done)

        costs: dict[str, list[float]] = {}
        identity = ["mem0", version("mem0ai"), case.content_key, self.calls.identity("generation"), self.context.top_k]
        value, replies, cost, answers = cached_answer_phase(self.name, case, identity, self.context, ask, made)
        ingest = value["spent"]
        phases = (
            PhaseCost(
                self.name,
                "ingest",
                ingest["seconds"],
                ingest["model_seconds"],
                answers.from_cache,
                ingest["kept_seconds"],
            ),
            PhaseCost(
                self.name,
                "answers",
                answers.seconds - ingest["seconds"],
                answers.model_seconds - ingest["model_seconds"],
                answers.from_cache,
                answers.kept_seconds - ingest["kept_seconds"],
            ),
        )
        stage_costs = [StageCost(self.name, stage, *numbers) for stage, numbers in value["costs"].items()]
        return SystemResult(tuple(replies), (*stage_costs, cost), phases, value["memory"])

    def _read(
        self, memory: Any, case: BenchmarkCase, server: StudentServer, on_done: OnPhaseProgress
    ) -> tuple[Provenance, dict[str, Any]]:
        provenance = Provenance()
        counts: dict[str, Any] = {"operations": {}, "errors": 0}
        for done, exchange in enumerate(case.exchanges, 1):
            self.context.check()
            messages = [{"role": m.role, "content": f"{m.speaker}: {m.text}"} for m in exchange.messages]
            refs = [message.ref for message in exchange.messages if message.ref]
            said_at = exchange.said_at.isoformat() if exchange.said_at else None
            try:
                found = memory.add(messages, user_id=exchange.owner.user_id, metadata={"said_at": said_at})
            except Exception:  # whatever its parts raise; the next exchange may be fine
                if server.failure is not None:
                    raise server.failure from None
                counts["errors"] += 1
                continue
            for change in found["results"]:
                provenance.record_write(change["event"], change["id"], change["memory"], refs)
                counts["operations"][change["event"]] = counts["operations"].get(change["event"], 0) + 1
            on_done("ingest", done, len(case.exchanges))
        counts["memories"] = len(provenance.texts)
        return provenance, counts

    def _answers(
        self, memory: Any, case: BenchmarkCase, provenance: Provenance, on_done: OnPhaseProgress
    ) -> list[SystemAnswer]:
        owners = list(dict.fromkeys(exchange.owner for exchange in case.exchanges))
        requests, used = [], []
        for question in case.questions:
            found = []
            for owner in owners:
                items = memory.search(question.text, user_id=owner.user_id, limit=self.context.top_k)["results"]
                found += [(item, owner_name(owner)) for item in items]
            found.sort(key=lambda pair: -pair[0]["score"])
            recalled = [stages.PromptMemory(stages.clean_line(i["memory"]), _said_at(i), name) for i, name in found]
            budget = min(self.context.rules.max_context, self.calls.student.context) - stages.ANSWER_TOKENS
            fitted = stages.fit_prompt(
                lambda kept, text=question.text, all_of=recalled: stages.answer_chat(text, all_of[:kept]),  # type: ignore[misc]
                len(recalled),
                self.calls.count_tokens,
                budget,
            )
            requests.append(Request("generation", fitted.chat, None, stages.ANSWER_TOKENS))
            used.append([item for item, _ in found[: fitted.kept]])
        answers = complete_all(self.calls, requests, self.context, on_done)
        given, standing, replies = provenance.ever_stored, provenance.still_stored, []
        for question, items, answer in zip(case.questions, used, answers, strict=True):
            shown = tuple(
                retrieved_turn(item["memory"], provenance.refs_of(item["id"]), max(0.0, 2 - 2 * item["score"]) ** 0.5)
                for item in items
            )
            refs = {ref for one in shown for ref in one["refs"]}
            replies.append(reply(question, answer, shown, refs, known=case.refs, given=given, standing=standing))
        return replies

    def _recall(self, asked: Mapping[str, Any]) -> Any:
        known = self.context.cache.get(self._key(asked))
        if known is not None:
            self.context.clock.add_cached(known["seconds"])
        return known

    def _remember(self, asked: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        self.context.cache.put(self._key(asked), answer)

    def _key(self, asked: Mapping[str, Any]) -> str:
        turns = [[turn["role"], _TODAY.sub("", str(turn["content"]))] for turn in asked["messages"]]
        rest = {name: asked.get(name) for name in ("max_tokens", "temperature", "top_p")}
        return content_key(["mem0", self.calls.identity("generation"), turns, rest])

    def _counted(self, costs: dict[str, list[float]]) -> Any:
        def count(asked: Mapping[str, Any], prompt: int, output: int, seconds: float) -> None:
            # its extraction has a system turn, its update has none
            is_extraction = asked["messages"][0]["role"] == "system"
            add_cost(costs, "extraction" if is_extraction else "update", prompt, output, seconds)

        return count


def _said_at(item: Mapping[str, Any]) -> datetime | None:
    said_at = (item.get("metadata") or {}).get("said_at")
    return datetime.fromisoformat(said_at) if said_at else None
