"""Throughput of the parser on realistic turns, and its time on hostile ones.

python benchmarks/parser.py [--megabytes 8] [--repeat 3] [--chunk 0]
"""

from __future__ import annotations

import argparse
import random
import time

from hermes_agent.formats.parser import TurnParser, parse
from hermes_agent.formats.wire import serialise_call

SENTENCE = (
    "the weather in Paris will be mild with some rain towards the evening so you may want to take a light coat "
    "and an umbrella if you plan to walk along the river after dinner 12 degrees is expected at noon"
)
WORDS = SENTENCE.split()
TOOLS = ["get_weather", "write_file", "search"]
CODE = 'def f(x: list[int]) -> str:\n    """Join."""\n    if x and x[0] < 3:\n        return f"{x!r} <b>&</b>"\n'


def prose(draw: random.Random, words: int) -> str:
    """Sentences of ordinary words."""
    return " ".join(draw.choice(WORDS) for _ in range(words)).capitalize() + "."


def call(draw: random.Random) -> str:
    """One call, short or with a file's contents."""
    pick = draw.random()
    if pick < 0.5:
        return serialise_call(
            "get_weather", {"city": draw.choice(WORDS), "days": draw.randint(1, 9), "unit": "celsius"}
        )
    if pick < 0.8:
        return serialise_call("search", {"query": prose(draw, 8), "filters": {"lang": ["en", "fr"], "score": 0.5}})
    return serialise_call("write_file", {"path": "src/f.py", "content": CODE * draw.randint(1, 6)})


def turns(kind: str, size: int, draw: random.Random) -> str:
    """About ``size`` characters of one kind of turn."""
    pieces: list[str] = []
    length = 0
    while length < size:
        if kind == "prose":
            piece = "\n\n".join(prose(draw, 60) for _ in range(3)) + "\n"
        elif kind == "code":
            piece = f"{prose(draw, 20)}\n```python\n{CODE * 3}```\n<p class='x'>{prose(draw, 10)}</p>\n"
        elif kind == "thinking":
            piece = f"<think>\n{prose(draw, 400)}\n</think>\n{prose(draw, 30)}\n"
        elif kind == "calls":
            piece = call(draw) + "\n"
        else:
            piece = f"<think>\n{prose(draw, 60)}\n</think>\n{prose(draw, 25)}\n{call(draw)}\n{call(draw)}\n"
        pieces.append(piece)
        length += len(piece)
    return "".join(pieces)


SEARCH = '<tool_call>{"name": "search", "arguments": {"a": ['

HOSTILE = {
    "a million <": lambda: "<" * 1_000_000,
    "a million newlines": lambda: "\n" * 1_000_000,
    "1 MB of {": lambda: "{" * 1_000_000,
    "1 MB of {\"name\": \"x\\n": lambda: '{"name": "x\n' * 83_333,
    "100,000 unclosed <tool_call>": lambda: "<tool_call>" * 100_000,
    "1 MB of <tool_call>{": lambda: "<tool_call>{" * 83_333,
    "1 MB of <tool_call>{\"a": lambda: '<tool_call>{"a' * 71_428,
    "1 MB of <tool_call>[": lambda: "<tool_call>[" * 83_333,
    "1 MB of 300 open brackets, quote": lambda: ("<tool_call>" + "[" * 300 + '"') * 3_205,
    "nesting 100,000 deep": lambda: '<tool_call>{"name": "f", "arguments": ' + '{"a":' * 100_000,
    "100,000 </tool_call> in a string": lambda: serialise_call("search", {"q": "</tool_call>" * 100_000}),
    "100,000 <think>": lambda: "<think>" * 100_000,
    "100,000 </think>": lambda: "</think>" * 100_000,
    "100,000 <think>\\n<tool_call>": lambda: "<think>\n<tool_call>\n" * 50_000,
    "100,000 </tool_call>": lambda: "</tool_call>" * 100_000,
    "100,000 <toolcall>": lambda: "<toolcall>" * 100_000,
    "1 MB string never closed": lambda: '<tool_call>{"name": "f", "arguments": {"a": "' + "x" * 1_000_000,
    "1 MB of backslashes": lambda: '<tool_call>{"a": "' + "\\" * 1_000_000,
    "1 MB of trailing commas": lambda: SEARCH + "[1,]," * 200_000 + "]}}</tool_call>",
    "1 MB of single-quoted items": lambda: SEARCH + "'x', " * 200_000 + "]}}</tool_call>",
    "30,000 broken calls": lambda: '<tool_call>{"name": 1}</tool_call>' * 30_000,
}  # fmt: skip


def seconds(text: str, chunk: int) -> float:
    """CPU time to read ``text`` in pieces of ``chunk`` characters; 0 reads it whole."""
    began = time.process_time()
    if not chunk:
        parse(text, tools=TOOLS)
        return time.process_time() - began
    pieces = [text[i : i + chunk] for i in range(0, len(text), chunk)]
    began = time.process_time()
    parser = TurnParser(tools=TOOLS)
    for piece in pieces:
        parser.feed(piece)
    parser.finish("stop")
    return time.process_time() - began


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--megabytes", type=float, default=8, help="size of each realistic text")
    options.add_argument("--repeat", type=int, default=3, help="the best of so many runs counts")
    options.add_argument("--chunk", type=int, default=0, help="characters fed at a time; 0 feeds the whole text")
    given = options.parse_args()
    print(f"{'realistic text':<40}{'MB/s':>8}")
    for kind in ("prose", "code", "thinking", "mixed", "calls"):
        text = turns(kind, int(given.megabytes * 1e6), random.Random(1))
        best = min(seconds(text, given.chunk) for _ in range(given.repeat))
        print(f"{kind:<40}{len(text.encode()) / 1e6 / best:>8.1f}")
    mixed = turns("mixed", 200_000, random.Random(2))
    print(f"\n{'hostile text':<40}{'whole, s':>10}{'by 64, s':>10}")
    for name, make in HOSTILE.items():
        text = make()
        print(f"{name:<40}{seconds(text, 0):>10.3f}{seconds(text, 64):>10.3f}")
    print(f"\n200 kB of mixed turns, one character at a time: {seconds(mixed, 1):.3f} s")


if __name__ == "__main__":
    main()
