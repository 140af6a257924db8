"""What our client costs per streamed token: CPU time beside the bare openai client, on the same bytes.

python -m benchmarks.endpoint [--repeat 7] [--quick] [--json FILE]

A server in a process of its own replays one stream, an event a token, each in a chunk of its own. The clients take
turns in this process: the bare `AsyncOpenAI`, our `Endpoint.generate`, and `Agent.stream` on top of it, which parses
the turn and tells its events. A second table shows whether a token grows dearer as the stream grows longer.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import figure, machine, save, table
from hermes_agent import Agent, Limits
from hermes_agent.events import TextDelta
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Request
from hermes_agent.models.endpoint import Endpoint

TARGET = 2.0
LENGTHS = (1_000, 4_000, 16_000)
WORDS = [
    " the", " tree", " stood", ",", " tall", " and", " green", " by", " a", " river", ".", " It", " was", "\n", " old",
]  # fmt: skip

BARE, MODEL, AGENT, THINKING = "openai", "Endpoint.generate", "Agent.stream", "Agent.stream, thinking"


def pieces(tokens: int, thinking: bool) -> list[str]:
    """The tokens of a turn; with thinking, the first nine tenths are a thought."""
    words = [WORDS[(i * i + i // 7) % len(WORDS)] for i in range(tokens)]
    if thinking:
        words[0], words[tokens * 9 // 10] = "<think>", "</think>"
    return words


def stream(tokens: int, thinking: bool) -> bytes:
    """The body of a reply, as vLLM would send it."""
    shared = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1, "model": "replay"}
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    choices += [
        {"index": 0, "delta": {"content": piece}, "logprobs": None, "finish_reason": None}
        for piece in pieces(tokens, thinking)
    ]
    choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"})
    usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": tokens + 9}
    events = [{**shared, "choices": [choice]} for choice in choices] + [{**shared, "choices": [], "usage": usage}]
    lines = [f"data: {text}\n\n".encode() for text in (*map(json.dumps, events), "[DONE]")]
    return b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines) + b"0\r\n\r\n"


async def serve() -> None:
    """Replay streams: the model's name is the number of tokens, with a "t" behind it for a thought."""
    known: dict[str, bytes] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            body = await reader.readexactly(length)
            if not body:
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                continue
            name = json.loads(body)["model"]
            if name not in known:
                known[name] = stream(int(name.removesuffix("t")), name.endswith("t"))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            writer.write(known[name])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)  # ends with the process that started this one


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@asynccontextmanager
async def clients(url: str) -> AsyncGenerator[dict[str, Callable[[int], Awaitable[str]]]]:
    """Each way to read a stream of so many tokens; all give its text."""
    from openai import AsyncOpenAI

    models: dict[str, Endpoint] = {}

    def model(name: str) -> Endpoint:
        if name not in models:
            models[name] = Endpoint(name, base_url=url, wire="chat", dialect="chatml")
        return models[name]

    async def bare(tokens: int) -> str:
        chunks = await client.chat.completions.create(
            model=f"{tokens}",
            messages=[{"role": "user", "content": "Go on."}],
            stream=True,
            stream_options={"include_usage": True},
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

    async def generate(tokens: int) -> str:
        request = Request([UserMessage("Go on.")])
        return "".join([chunk.text async for chunk in model(f"{tokens}").generate(request)])

    async def watched(name: str, *, thinking: bool) -> str:
        agent = Agent(
            model(name), constrain="off", reasoning="on" if thinking else "off", limits=Limits(turn_tokens=None)
        )
        async with agent.stream("Go on.") as events:
            return "".join([event.text async for event in events if isinstance(event, TextDelta)])

    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        try:
            yield {
                BARE: bare,
                MODEL: generate,
                AGENT: lambda tokens: watched(f"{tokens}", thinking=False),
                THINKING: lambda tokens: watched(f"{tokens}t", thinking=True),
            }
        finally:
            for made in models.values():
                await made.aclose()


async def measure(url: str, lengths: tuple[int, ...], repeat: int) -> dict[str, dict[int, float]]:
    """µs of CPU per token, by client and length: medians. The clients take turns, so that noise falls on all.

    Raises:
        RuntimeError: A client read something else than was sent.
    """
    costs: dict[str, dict[int, list[float]]] = {}
    async with clients(url) as ways:
        for way in ways.values():
            await way(lengths[0])  # imports, connections, and whatever is built on first use
        gc.collect()
        gc.freeze()
        for tokens in lengths:
            for _ in range(repeat):
                for name, way in ways.items():
                    gc.collect()
                    started = time.process_time()
                    text = await way(tokens)
                    spent = time.process_time() - started
                    check(name, tokens, text)
                    costs.setdefault(name, {}).setdefault(tokens, []).append(spent / tokens * 1e6)
    return {name: {tokens: median(found) for tokens, found in by.items()} for name, by in costs.items()}


def check(name: str, tokens: int, text: str) -> None:
    sent = pieces(tokens, name == THINKING)
    if name == THINKING:
        sent = sent[tokens * 9 // 10 + 1 :]
    if text.strip() != "".join(sent).strip():
        raise RuntimeError(f"{name} read {text[-80:]!r} at the end of {tokens} tokens, which was not sent")


def show(costs: dict[str, dict[int, float]]) -> None:
    lengths = list(costs[BARE])
    rows = [[name, *(figure(by[tokens], 1) for tokens in lengths)] for name, by in costs.items()]
    ratios = {name: [by[tokens] / costs[BARE][tokens] for tokens in lengths] for name, by in costs.items()}
    growth = {name: by[lengths[-1]] / by[lengths[0]] for name, by in costs.items()}
    for row, name in zip(rows, costs, strict=True):
        row += [*(figure(ratio) for ratio in ratios[name]), figure(growth[name])]
    headers = [
        "Client",
        *(f"{n:,} tokens" for n in lengths),
        *(f"x openai at {n:,}" for n in lengths),
        "longest / shortest",
    ]
    worst = max(ratios[AGENT])
    print(
        table(
            "Endpoint: µs of CPU per streamed token",
            headers,
            rows,
            f"Medians; {machine()}. A stream in events of one token, from a server in another process.",
            f"Our target, at most {TARGET} times the bare client for Agent.stream, is "
            f"{'met' if worst <= TARGET else 'missed'} ({figure(worst)}).",
        )
    )


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.endpoint", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--repeat", type=int, default=7, help="streams of each length and client; the median counts")
    options.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        asyncio.run(serve())
        return
    lengths, repeat = ((100, 400), 1) if given.quick else (LENGTHS, given.repeat)
    command = [sys.executable, "-m", "benchmarks.endpoint", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline())
        try:
            costs = asyncio.run(measure(f"http://127.0.0.1:{port}/v1", lengths, repeat))
        finally:
            server.stdin.close()
    show(costs)
    save(given.json, {"us_cpu_per_token": costs})


if __name__ == "__main__":
    main()
