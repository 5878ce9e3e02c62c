"""A retriever of LangChain over memlora."""

from __future__ import annotations

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

from memlora_mlx import Memory


class MemloraRetriever(BaseRetriever):
    """The memories of one user that fit a query best: `MemloraRetriever(memory=memory, user="ann").invoke("tea")`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    memory: Memory
    user: str
    k: int = 10

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        found = self.memory.search(query, user_id=self.user, limit=self.k)["results"]
        return [
            Document(
                id=item["id"],
                page_content=item["memory"],
                metadata={"score": item["score"], "said_at": item["said_at"], "source": item["source"]},
            )
            for item in found
        ]
