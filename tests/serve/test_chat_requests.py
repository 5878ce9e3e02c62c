"""What the OpenAI endpoint puts into the queue of a request: nothing that must not be stored."""

from __future__ import annotations

import json

from memlora_mlx.memory.store.erased_texts import bare_words
from memlora_mlx.serve.chat_requests import ChatRequest, read_chat_request

IBAN = "DE89 3704 0044 0532 0130 00"


def request(said: str) -> ChatRequest:
    body = {"model": "memlora", "messages": [{"role": "user", "content": said}]}
    return read_chat_request(json.dumps(body).encode(), {}, "ann")


def test_secrets_are_taken_out_of_what_waits_and_of_the_reply() -> None:
    queued = request(f"My IBAN is {IBAN}. I like tea.").learned(f"I noted {IBAN}.")
    assert queued is not None and bare_words(IBAN) not in bare_words(json.dumps(queued))
    assert "I like tea." in queued["messages"][0]["content"] and queued["user_id"] == "ann"
    kept = request(f"My IBAN is {IBAN}.").learned("I see.", keep_secrets=True)
    assert kept is not None and IBAN in kept["messages"][0]["content"]


def test_private_passages_do_not_wait_nor_do_replies_to_them() -> None:
    queued = request("I like tea. <private>We plan a zanzibar wedding.</private>").learned("A wedding in zanzibar!")
    assert queued is not None and [message["content"] for message in queued["messages"]] == ["I like tea."]
    assert request("<private>We plan a zanzibar wedding.").learned("How nice!") is None
