"""What an MCP tool answers, as the text that a model reads, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, assert_never, cast

from hermes_agent.result import result_text

if TYPE_CHECKING:
    from mcp_types import BlobResourceContents, CallToolResult, ContentBlock, TextResourceContents

__all__ = ["answer_text", "error_of", "result_of"]


def answer_text(result: CallToolResult) -> str:
    """The text of a result: its content, block by block, and its structured content where the blocks lack it.

    What no text can show (an image, a sound, a binary resource) stands there by kind, type and size, so that the
    model knows that there was something.
    """
    blocks = [_block_text(block) for block in result.content]
    data = result.structured_content
    if data is not None and not any(_says(block, data) for block in blocks):
        blocks.append(result_text(data))
    return "\n".join(blocks)


def _says(text: str, data: object) -> bool:
    """Whether a text is that data as JSON. Servers wrap a plain value as ``{"result": value}``, which the text is."""
    wrapped = cast("Mapping[str, object]", data).get("result") if isinstance(data, Mapping) else None
    if isinstance(wrapped, str) and text == wrapped:
        return True
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return found == data or (wrapped is not None and found == wrapped)


def _block_text(block: ContentBlock) -> str:
    match block.type:
        case "text":
            return block.text
        case "image" | "audio":
            return f"[{block.type}, {block.mime_type}, {_size(block.data)}: cannot be shown as text]"
        case "resource_link":
            described = f": {block.description}" if block.description else ""
            return f"[resource {block.name!r} at {block.uri}{described}]"
        case "resource":
            return _resource_text(block.resource)
        case _:
            assert_never(block.type)


def _resource_text(resource: TextResourceContents | BlobResourceContents) -> str:
    kind = f", {resource.mime_type}" if resource.mime_type else ""
    text: str | None = getattr(resource, "text", None)
    if text is not None:
        return f"[resource {resource.uri}{kind}]\n{text}"
    size = _size(cast("BlobResourceContents", resource).blob)
    return f"[resource {resource.uri}{kind}, {size}: cannot be shown as text]"


def _size(base64: str) -> str:
    return f"{max(0, len(base64.rstrip('=')) * 3 // 4):,} bytes"


def result_of(value: object) -> CallToolResult:
    """What a tool returned, as the result of a call: its text, and its data where that is a JSON object.

    Raises:
        ToolResultError: It has no text.
    """
    from mcp_types import CallToolResult, TextContent

    text = result_text(value)
    return CallToolResult(content=[TextContent(text=text)], structured_content=_object_of(value, text))


def _object_of(value: object, text: str) -> dict[str, Any] | None:
    if isinstance(value, str) or not text.startswith("{"):
        return None
    found: object = json.loads(text)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def error_of(text: str) -> CallToolResult:
    """A result that says what went wrong."""
    from mcp_types import CallToolResult, TextContent

    return CallToolResult(content=[TextContent(text=text)], is_error=True)
