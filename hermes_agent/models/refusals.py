"""What a server's refusal means: status and words become one of our errors, and whether asking again may help."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from hermes_agent.errors import ContextLengthError, ModelError, ModelUnavailableError

__all__ = ["Failure", "Where", "refusal", "room_left"]

_RETRIED = frozenset({408, 409, 425, 429})
_SHOWN_CHARS = 600

_TOO_LONG = re.compile(
    r"context (?:length|size|window)|exceed_context_size|context_length_exceeded|maximum (?:model|context) len"
    r"|prompt is too long|input (?:is|was) too long|longer than the (?:model|maximum)"
    r"|inputs? tokens? \+ max_new_tokens",
    re.IGNORECASE,
)
_FIELD = re.compile(
    r"grammar|guided|structured|json_?schema|response_format|structural|ebnf|regex|xgrammar|extra inputs|unrecognized"
    r"|unknown (?:field|parameter|argument)|unsupported|not (?:supported|permitted|allowed)",
    re.IGNORECASE,
)
# Words of a refusal that leaving out a field would not help.
_ELSEWHERE = re.compile(
    r"model\b.{0,80}?\b(?:not (?:found|exist|loaded|available)|(?:does|do) not exist|unknown)"
    r"|(?:unknown|invalid|no such|missing) model|api[ _-]?key|unauthori[sz]ed|authenticat|credits?\b|quota|billing"
    r"|rate.?limit|overloaded|out of memory|\bloading\b",
    re.IGNORECASE,
)
_TURNED_DOWN = frozenset({400, 415, 422, 500, 501})


@dataclass(frozen=True, slots=True)
class Where:
    """What was asked of whom; every error says it."""

    url: str
    model: str
    server: str
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"model {self.model!r} at {self.url!r}"


class Failure(Exception):  # noqa: N818  # never leaves this package: it carries the error that does
    """A request that failed.

    Attributes:
        error: What the caller shall see.
        retry: The same request may succeed if it is sent again.
        after: Seconds that the server asked to wait.
        status: The HTTP status, where there was an answer.
        field: A field that we sent may be the reason: the words are about one, or nothing else is named that it was.
    """

    def __init__(
        self,
        error: ModelError,
        *,
        retry: bool = False,
        after: float | None = None,
        status: int | None = None,
        field: bool = False,
    ) -> None:
        super().__init__(str(error))
        self.error, self.retry, self.after, self.status, self.field = error, retry, after, status, field


def refusal(where: Where, status: int, body: str, *, after: float | None = None) -> Failure:
    """The failure behind an error status, or behind an error in a stream.

    Args:
        where: What was asked.
        status: The HTTP status; for an error in a stream, its code or 500.
        body: What the server said.
        after: Seconds it asked to wait.
    """
    said = words(body)
    message = f"{where} answered {status}: {said or 'nothing'}"
    if status in (400, 413, 422, 500) and _TOO_LONG.search(body):
        hint = "shorten the conversation or the tool results, or serve the model with a longer context"
        return Failure(ContextLengthError(message, hint=hint, raw=body), status=status)
    if status in (401, 403):
        named = f", or set {' or '.join(where.keys)}" if where.keys else ""
        return Failure(ModelUnavailableError(message, hint=f"pass api_key={named}", raw=body), status=status)
    if status in (404, 405):
        hint = "check the model's name (curl BASE_URL/models lists them) and that the base URL ends in /v1"
        return Failure(ModelUnavailableError(message, hint=hint, raw=body), status=status)
    field = bool(_FIELD.search(body)) or (status in _TURNED_DOWN and not _ELSEWHERE.search(body))
    retry = status in _RETRIED or status >= 500
    if retry:
        hint = "try again later" if status == 429 else "look at the server's log"
        return Failure(
            ModelUnavailableError(message, hint=hint, raw=body),
            retry=retry,
            after=after,
            status=status,
            field=field and status in _TURNED_DOWN,
        )
    return Failure(
        ModelError(message, hint="the server does not take this request; its words say why", raw=body),
        status=status,
        field=field,
    )


def words(body: str) -> str:
    """The sentence in an error body, whatever it is wrapped in."""
    try:
        found: Any = json.loads(body)
    except ValueError:
        found = re.sub(r"<[^>]*>|\s+", " ", body)
    for key in ("error", "message", "detail", "error_message"):
        if isinstance(found, Mapping):
            found = cast("Mapping[str, Any]", found).get(key, cast("object", found))
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


_ROOM = (
    # vLLM, OpenAI: "maximum context length is 4096 tokens. However, you requested 5000 tokens (904 in the messages, …"
    re.compile(r"context length is (?P<window>\d+).{0,80}?requested \d+ tokens \((?P<prompt>\d+) in", re.DOTALL),
    # vLLM: "… is too large: 4096. This model's maximum context length is 4096 tokens and your request has 904 input"
    re.compile(r"context length is (?P<window>\d+) tokens and your request has (?P<prompt>\d+) input", re.DOTALL),
    # SGLang: "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of
    # 5000 tokens: 904 tokens from the input messages and 4096 tokens for the completion."
    re.compile(r"context length of (?P<window>\d+) tokens.{0,80}?: (?P<prompt>\d+) tokens from the input", re.DOTALL),
    # llama.cpp, where the prompt alone is too long
    re.compile(r'"n_prompt_tokens":\s*(?P<prompt>\d+),\s*"n_ctx":\s*(?P<window>\d+)'),
)


def room_left(body: str) -> int | None:
    """Tokens that the prompt leaves, by a server's own count; ``None`` if it does not say, or leaves none."""
    for pattern in _ROOM:
        if found := pattern.search(body):
            room = int(found["window"]) - int(found["prompt"])
            return room if room > 0 else None
    return None
