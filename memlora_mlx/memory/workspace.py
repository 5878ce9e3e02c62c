"""The parts a command needs, opened when first used: models found, engine started, store opened, rules chosen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Self

from memlora_mlx.errors import ModelBroken, ModelMissing, StoreError
from memlora_mlx.memory.changes import EmbeddingFingerprint
from memlora_mlx.memory.editing import Editor
from memlora_mlx.memory.engine import MemoryEngine, RemoteEngine
from memlora_mlx.memory.housekeeping import keep_house
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.store.store import Store
from memlora_mlx.models.adapter_registry import expert_folders, experts_in, free_expert_folders, read_card
from memlora_mlx.models.cards import ExpertCard
from memlora_mlx.models.catalog import entries
from memlora_mlx.models.downloads import default_student, resolve
from memlora_mlx.models.embedding_fingerprint import read_embedding_fingerprint
from memlora_mlx.models.engine import Engine
from memlora_mlx.models.model_config import has_vision
from memlora_mlx.records import STAGES, Stage
from memlora_mlx.settings import Settings


class Workspace:
    """One user's models and memories, as the settings name them.

    `store` needs the embedder's folder but loads no model; `engine` starts a thread and loads models as they are used.
    Close it, or use it in a `with` statement.

    Args:
        models_folder: where the models are, if not below the settings' home.
        remote_engine: asked once for an engine of another process with the models of this workspace; it returns None where
            there is none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        models_folder: Path | None = None,
        remote_engine: Callable[[Workspace], RemoteEngine | None] | None = None,
    ) -> None:
        self.settings, self._remote_engine = settings, remote_engine
        self.models_folder = models_folder or settings.models_folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the engine and save the indexes. May be called twice."""
        remote = self.__dict__.pop("memory_engine", None)
        if remote is not None and remote is not self.__dict__.get("engine"):
            remote.close()
        if "engine" in self.__dict__:
            self.__dict__.pop("engine").close()
        if "store" in self.__dict__:
            self.__dict__.pop("store").close()
        self.__dict__.pop("pipeline", None)

    @cached_property
    def student_name(self) -> str:
        """The student that will answer.

        Raises:
            ModelMissing: none was named and none is on this disk.
        """
        name = self.settings.student or default_student(self.models_folder)
        if name is None:
            raise ModelMissing(
                "no student is on this disk; `memlora models pull smollm2-135m` fetches a small one, "
                "`memlora models list` shows them all"
            )
        return name

    @cached_property
    def student_folder(self) -> Path:
        return resolve(self.student_name, self.models_folder)

    @cached_property
    def has_vision(self) -> bool:
        """Whether the student can look at pictures; told by its files, without loading it."""
        return has_vision(self.student_folder)

    @cached_property
    def embedder_folder(self) -> Path:
        return resolve(self.settings.embedder, self.models_folder)

    @cached_property
    def embedding_fingerprint(self) -> EmbeddingFingerprint:
        return EmbeddingFingerprint(
            *read_embedding_fingerprint(self.embedder_folder, query_prompt=self.settings.query_prompt)
        )

    @cached_property
    def expert_folders(self) -> dict[Stage, Path]:
        """The expert of each stage: of those named, if any were; else for this student, installed ones before shipped ones.

        Raises:
            ModelMissing: the folder named holds none.
        """
        chosen = self.settings.experts
        if chosen == "none":
            return {}
        if chosen is None:
            return expert_folders(self.student_name, self.settings.home)
        if chosen == "free":
            found = free_expert_folders(self.student_name, self.settings.home)
            if not found:
                raise ModelMissing(
                    f"No free experts came with memlora for {self.student_name}; set experts to none, or to a folder"
                )
            return found
        folder = Path(chosen).expanduser()
        found = experts_in(folder)
        if not found:
            raise ModelMissing(
                f"{folder} contains no experts; it needs a sub-folder named after a stage: {', '.join(STAGES)}"
            )
        return found

    @property
    def expert_stages(self) -> list[Stage]:
        """The stages that have an expert."""
        return list(self.expert_folders)

    @property
    def verbatim_stages(self) -> list[Stage]:
        """Stages without an expert on a student that does not follow their prompts untrained."""
        entry = entries(self.settings.home).get(self.student_name)
        if self.settings.protocol == "paper" or entry is None or entry.zero_shot:
            return []
        return [stage for stage in ("extraction", "update") if stage not in self.expert_stages]

    @property
    def talks_freely(self) -> bool:
        """Whether the student can chat: one that does not follow prompts untrained repeats itself and claims to be the user."""
        entry = entries(self.settings.home).get(self.student_name)
        return entry is None or entry.zero_shot

    @property
    def zero_shot_stages(self) -> list[Stage]:
        """Stages without an expert whose prompts get rules and examples first.

        They are for students that are known to follow prompts: of the catalogue, or of the user's config.toml.
        """
        entry = entries(self.settings.home).get(self.student_name)
        if entry is None or not entry.zero_shot or self.settings.protocol == "paper":
            return []
        return [stage for stage in ("extraction", "update") if stage not in self.expert_stages]

    @property
    def use_expert_in_chat(self) -> bool:
        """Whether the student, which does not follow prompts untrained, has an expert that answers from memories."""
        return not self.talks_freely and "generation" in self.expert_stages

    @cached_property
    def memory_engine(self) -> MemoryEngine:
        """The engine that the memory asks: one of another process where `remote_engine` knows one, else `engine`."""
        return (self._remote_engine and self._remote_engine(self)) or self.engine

    @cached_property
    def engine(self) -> Engine:
        """The engine of this process.

        Without a student on the disk it still embeds, which is all that searching and editing take, and without an embedder
        it still looks at pictures.
        """
        student, experts, name = None, None, None
        with contextlib.suppress(ModelMissing, ModelBroken):
            student, experts, name = self.student_folder, self.expert_folders, self.student_name
        embedder: Path | ModelMissing
        try:
            embedder = self.embedder_folder
        except ModelMissing as error:
            if student is None:
                raise
            embedder = error  # told to whoever asks for an embedding
        return Engine(
            student,
            embedder,
            experts=experts,
            expert_mode=self.settings.expert_mode,
            query_prompt=self.settings.query_prompt,
            name=name,
            image_tiles=self.settings.image_tiles,
            cache_limit=self.settings.cache_limit,
            wired_limit=self.settings.wired_limit,
        )

    @cached_property
    def store(self) -> Store:
        """The store, made if it is not there. It opens without an embedder on the disk, to be looked at and edited."""
        folder = self.settings.store_folder
        try:
            space = self.embedding_fingerprint
        except ModelMissing:
            if not (folder / "memories.db").is_file():
                raise
            store = Store(folder, EmbeddingFingerprint("", 0), create=False, any_embedding=True, daily_backups=True)
        else:
            store = Store(folder, space, keep_location=self.settings.keep_location, daily_backups=True)
        keep_house(store, self.settings)
        return store

    @property
    def editor(self) -> Editor:
        """The editing service. It needs the embedder only for what is written back or changed."""
        settings = self.settings
        return Editor(
            self.store, lambda texts: self.memory_engine.embed(texts), settings.home, keep_secrets=settings.keep_secrets
        )

    @property
    def pipeline_options(self) -> PipelineOptions:
        """What the pipeline may do with this student and its experts."""
        cards = {stage: read_card(folder) for stage, folder in self.expert_folders.items()}
        extraction, update, generation = (
            cards.get(stage, ExpertCard()) for stage in ("extraction", "update", "generation")
        )
        beyond_paper = self.settings.protocol == "product"
        embedder = entries(self.settings.home).get(self.settings.embedder)
        is_shown_updates = "update" in self.zero_shot_stages  # the examples copy their texts, and have one fact each
        return PipelineOptions(
            protocol=self.settings.protocol,
            keep_secrets=self.settings.keep_secrets,
            related=self.settings.related,
            max_context=self.settings.max_context,
            verbatim_only=frozenset(self.verbatim_stages),
            copy_constrained=update.copied_texts or is_shown_updates,
            per_fact=(update.one_fact or is_shown_updates) and beyond_paper,
            zero_shot=frozenset(self.zero_shot_stages),
            supports_images=self.has_vision,
            talks_freely=self.talks_freely,
            use_expert_in_chat=self.use_expert_in_chat,
            least_cosine=embedder.least_cosine if embedder is not None else None,
            empty_handicap=(extraction.empty_handicap or 0.0) if beyond_paper else 0.0,
            score_share=(generation.score_share or 0.0) if beyond_paper else 0.0,
            most_lines=generation.lines if beyond_paper else None,
            grounded_answers=self.use_expert_in_chat and beyond_paper,
        )

    @cached_property
    def pipeline(self) -> Pipeline:
        """The stages. Raises ModelMissing, ModelBroken: the student or its experts are not there."""
        self.student_folder, self.expert_folders  # noqa: B018 - the engine would do without them
        return Pipeline(self.memory_engine, self.store, self.pipeline_options)

    def require_store(self) -> Store:
        """The store, for commands that only look: it must be there.

        Raises:
            StoreError: nothing was ever remembered here.
        """
        if not (self.settings.store_folder / "memories.db").is_file():
            raise StoreError(
                f"nothing is remembered yet in {self.settings.store_folder}; `memlora ingest FILE` or `memlora chat`"
                " begins"
            )
        return self.store
