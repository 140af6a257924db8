"""What the grammar costs while a real model writes: constrained and free decoding of the embedded model, side by side.

python -m benchmarks.decoding [--threads 2] [--tokens 100] [--repeat 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import statistics
import time
from importlib import import_module
from pathlib import Path

import anyio

from benchmarks.report import figure, machine, save, table
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.messages import SystemMessage, UserMessage
from hermes_agent.models.base import Request
from hermes_agent.models.embedded import EmbeddedModel, ensure
from hermes_agent.output import JsonSchema
from hermes_agent.sampling import Sampling
from hermes_agent.tool import Tool


def get_weather(city: str, unit: str = "celsius") -> str:
    """Current weather.

    Args:
        city: City name, such as "Paris".
        unit: Unit of the temperature.
    """
    return f"{city}: 12 {unit}"


QUESTION = "Tell me a long story about a girl who lives in a red house near a tall tree."
TOOLS = (Tool.of(get_weather),)
LIST = {"type": "array", "items": {"type": "string", "maxLength": 40}, "minItems": 60, "maxItems": 200}


def grammars() -> dict[str, TurnGrammar | None]:
    """What may be written, by the name it has in the table. ``None`` is free decoding."""
    return {
        "free": None,
        "text or calls": TurnGrammar(TOOLS),
        "calls only": TurnGrammar(TOOLS, tool_choice="required"),
        "a list of strings": TurnGrammar(output=JsonSchema(LIST)),
    }


async def decode(model: EmbeddedModel, grammar: TurnGrammar | None, tokens: int, seed: int) -> tuple[float, float, int]:
    """Seconds to the first text, seconds from there to the end, tokens written from there to the end."""
    request = Request(
        [UserMessage(QUESTION)], tools=TOOLS, grammar=grammar, max_tokens=tokens,
        sampling=Sampling(temperature=0.8, seed=seed),
    )  # fmt: skip
    began = time.perf_counter()
    first, written = 0.0, 0
    async for chunk in model.generate(request):
        first = first or time.perf_counter()
        written = chunk.output_tokens
    return first - began, time.perf_counter() - first, written - 1


async def prefill(model: EmbeddedModel, number: int) -> float:
    """Prompt tokens a second, for a prompt that is new from its first line on."""
    read = model.prefilled_tokens
    began = time.perf_counter()
    async for _ in model.generate(
        Request([SystemMessage(f"Prompt {number}."), UserMessage(QUESTION * 30)], max_tokens=1)
    ):
        pass
    return (model.prefilled_tokens - read) / (time.perf_counter() - began)


async def measure(model: EmbeddedModel, tokens: int, repeat: int) -> dict[str, list[float]]:
    """Tokens a second of every kind. All kinds take turns, so that a busy moment hits each of them."""
    rates: dict[str, list[float]] = {name: [] for name in ("prefill", *grammars())}
    for round_ in range(repeat + 1):
        found = {"prefill": await prefill(model, round_)}
        for name, grammar in grammars().items():
            _, seconds, written = await decode(model, grammar, tokens, round_)
            if written >= tokens // 4:  # a turn that ended at once says nothing
                found[name] = written / seconds
        if round_:  # the first round compiles the grammars
            for name, rate in found.items():
                rates[name].append(rate)
    return rates


def start() -> tuple[EmbeddedModel, float, float]:
    """The model, seconds of the imports, seconds of the start proper."""
    ensure()
    began = time.perf_counter()
    for module in (
        "transformers.models.llama.modeling_llama",
        "hermes_agent.models.mask",
        "hermes_agent.models.decoding",
    ):
        import_module(module)
    imports = time.perf_counter() - began
    began = time.perf_counter()
    model = EmbeddedModel()
    model.load()
    return model, imports, time.perf_counter() - began


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    options.add_argument("--tokens", type=int, default=100, help="tokens a turn")
    options.add_argument("--repeat", type=int, default=5, help="turns of each kind; the median counts")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = options.parse_args()
    model, imports, load = start()
    import torch

    if given.threads:
        torch.set_num_threads(given.threads)
    rates = anyio.run(measure, model, given.tokens, given.repeat)
    free = statistics.median(rates["free"]) if rates["free"] else None
    rows: list[tuple[str, str, str, str]] = []
    for name, found in rates.items():
        rate = statistics.median(found) if found else None
        share = rate / free if rate and free and name != "prefill" else None
        spread = f"{min(found):.1f} to {max(found):.1f}" if found else "-"
        rows.append((name, figure(rate, 1), spread, figure(share, 2)))
    print(
        table(
            "Decoding, embedded model (SmolLM2-135M, int8)",
            ("what is written", "tokens/s", "from, to", "of free"),
            rows,
            f"{machine()}; {torch.get_num_threads()} threads; {given.tokens} tokens a turn, median of {given.repeat}.",
            f"Imports {imports:.1f} s, then {load:.1f} s from nothing to a warm model.",
        )
    )
    save(given.json, {"imports": imports, "load": load, "rates": rates})


if __name__ == "__main__":
    main()
