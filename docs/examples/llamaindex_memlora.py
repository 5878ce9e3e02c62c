"""A retriever of LlamaIndex over memlora."""

from __future__ import annotations

from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from memlora_mlx import Memory


class MemloraRetriever(BaseRetriever):
    """The memories of one user that fit a query best: `MemloraRetriever(memory, "ann").retrieve("tea")`."""

    def __init__(self, memory: Memory, user: str, k: int = 10) -> None:
        super().__init__()
        self._memory, self._user, self._k = memory, user, k

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._memory.search(query_bundle.query_str, user_id=self._user, limit=self._k)["results"]
        return [
            NodeWithScore(
                node=TextNode(id_=item["id"], text=item["memory"], metadata={"said_at": item["said_at"]}),
                score=item["score"],
            )
            for item in found
        ]
