"""What each server takes, as data: one row a server, and nothing else in the package asks which server it is.

Most servers ignore a field they do not know and answer 200, so a wrong row costs the guarantee and nothing more:
every turn is validated, and `hermes_agent.models.probe` looks whether a form bites.

Sources, by row; what was only read in documentation is marked so in docs/servers.md.

- ``vllm``: source of vLLM 0.33.0 (``entrypoints/openai``, ``reasoning``, ``tool_parsers``). ``guided_*`` fields are
  gone and ignored with 200; completions write 16 tokens unless told otherwise; a reasoning parser fills ``reasoning``.
- ``sglang``: source of SGLang 0.5.23; ``ebnf``, ``regex`` and ``json_schema`` are top-level fields.
- ``llamacpp``: source of llama.cpp, autumn 2026, and the server itself in the tests. ``grammar`` is refused beside
  ``tools``; completions ignore ``response_format``; a string prompt gets the vocabulary's BOS.
- ``ollama``: source of Ollama, 2026-08. No ``tool_choice``, no grammar; completions are put into a template, so they
  are no raw completions. ``lmstudio``: its documentation. ``tgi``: source, 2026-01 (in maintenance).
- ``openrouter``, ``openai``: their documentation. ``nous``: the code of Nous Research's own agent; tool calls of
  Hermes 4 come back as text there, so tools go into the prompt.
- ``generic``: what most of the others have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from hermes_agent.errors import ConfigurationError
from hermes_agent.formats.grammar import Form as TurnForm

__all__ = ["OWN", "PLACE", "SERVERS", "Form", "FormKind", "Server", "Wire", "filled", "server", "wire_named"]

Wire = Literal["completions", "chat", "native"]
"""How a turn goes over the wire: our prompt, raw; our prompt in chat messages; or the server's own tools."""

FormKind = TurnForm
"""The languages a turn grammar can be written in."""

PLACE = "{grammar}"
"""Stands in a form's body where the grammar goes."""

OWN = "{model}"
"""Stands among the keys of `Server.context` for the entry of a list that is about this model."""


_PLAIN_SAMPLING = {"temperature": "temperature", "top_p": "top_p", "seed": "seed"}


@dataclass(frozen=True, slots=True)
class Form:
    """One field of a request that a grammar can go into.

    Attributes:
        name: What the probe calls it.
        kind: The language the grammar is written in.
        body: Fields of the request, with `PLACE` where the grammar goes.
        as_text: The grammar is JSON, and goes in as a string that holds it.
    """

    name: str
    kind: FormKind
    body: Mapping[str, Any]
    as_text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What one kind of server takes.

    Attributes:
        name: The provider in ``"provider:model@url"``.
        base_url: Where it listens unless told otherwise, with ``/v1``.
        keys: Environment variables that may hold its key, first found counts; without one, none is sent.
        needs_key: Nothing works without a key.
        wires: How it can be spoken to, best first.
        forms: Fields for grammars on each wire, strongest first.
        after_thoughts: Its grammars begin behind the thought where it runs a reasoning parser, and with the turn where
            it does not, so thought and rest are two requests wherever that can be done.
        body: Fields that go into every request on a wire, such as those that turn the server's own parsers off.
        thinking: Fields that switch thinking, by mode; sent on the chat and native wires.
        reasoning_fields: Where thoughts come back, as a preference.
        continues: On which wires the model can write on behind a turn's beginning.
        prefill: Fields that make it do so on the chat wire.
        adds_bos: It puts the vocabulary's BOS before a raw prompt, so ours is left out.
        sampling: What it calls our sampling settings; one that is not here is not sent.
        most_tokens: What it calls the token limit on the chat and native wires.
        always_limit: Completions end after 16 tokens unless a limit is sent.
        usage: It takes ``stream_options``.
        tool_choices: Which values of ``tool_choice`` it honours.
        parallel: It takes ``parallel_tool_calls``.
        schema_with_tools: ``response_format`` may stand beside ``tools``.
        context: Where the context length stands: a path below the server's root, and the keys that lead there;
            `OWN` is the model's entry in a list.
        preserves: The field for tokens that its text shall show although they are control tokens, as tags can be.
        tokenize: A path that tells the tokens of a text, and the name of the text's field; to learn whether a tag is
            one token.
        enforces: What makes it enforce a turn, for whoever asks for more than it does.
    """

    name: str
    base_url: str | None = None
    keys: tuple[str, ...] = ()
    needs_key: bool = False
    wires: tuple[Wire, ...] = ("completions", "chat", "native")
    forms: Mapping[Wire, tuple[Form, ...]] = field(default_factory=dict[Wire, tuple[Form, ...]])
    after_thoughts: bool = False
    body: Mapping[Wire, Mapping[str, Any]] = field(default_factory=dict[Wire, Mapping[str, Any]])
    thinking: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    reasoning_fields: tuple[str, ...] = ("reasoning", "reasoning_content", "thinking")
    continues: tuple[Wire, ...] = ("completions",)
    prefill: Mapping[str, Any] = field(default_factory=dict[str, Any])
    adds_bos: bool = False
    sampling: Mapping[str, str] = field(default_factory=lambda: {**_PLAIN_SAMPLING})
    most_tokens: str = "max_tokens"
    always_limit: bool = True
    usage: bool = True
    tool_choices: tuple[str, ...] = ("auto", "none", "required", "named")
    parallel: bool = True
    schema_with_tools: bool = True
    context: tuple[tuple[str, tuple[str | int, ...]], ...] = ()
    preserves: str | None = None
    tokenize: tuple[str, str] | None = None
    enforces: str = "no field of it enforces a whole turn; serve the model with vLLM, SGLang or llama.cpp"


_SAMPLING = {**_PLAIN_SAMPLING, "top_k": "top_k", "repetition_penalty": "repetition_penalty"}
_LLAMA_SAMPLING = {**_PLAIN_SAMPLING, "top_k": "top_k", "repetition_penalty": "repeat_penalty"}

_RESPONSE_FORMAT = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": PLACE}}
}
_SCHEMA = Form("response_format", "json_schema", _RESPONSE_FORMAT)

_VLLM_FORMS = (
    Form("structural_tag", "structural_tag", {"structured_outputs": {"structural_tag": PLACE}}, as_text=True),
    Form("structured_outputs.grammar", "gbnf", {"structured_outputs": {"grammar": PLACE}}),
    Form("structured_outputs.json", "json_schema", {"structured_outputs": {"json": PLACE}}),
    Form("structured_outputs.regex", "regex", {"structured_outputs": {"regex": PLACE}}),
)
_SGLANG_FORMS = (
    Form("structural_tag", "structural_tag", {"response_format": PLACE}),
    Form("ebnf", "gbnf", {"ebnf": PLACE}),
    Form("regex", "regex", {"regex": PLACE}),
)
_LLAMA_FORMS = (
    Form("grammar (llguidance)", "lark", {"grammar": PLACE}),
    Form("grammar", "gbnf", {"grammar": PLACE}),
    Form("json_schema", "json_schema", {"json_schema": PLACE}),
)

# Templates of Hermes 4 read "thinking", those of Qwen3 and vLLM's reasoning parsers "enable_thinking": both, always.
_KWARGS = {
    "on": {"chat_template_kwargs": {"thinking": True, "enable_thinking": True}},
    "auto": {"chat_template_kwargs": {"thinking": False, "enable_thinking": True}},
    "off": {"chat_template_kwargs": {"thinking": False, "enable_thinking": False}},
}
_EFFORT = {"on": {"reasoning_effort": "high"}, "off": {"reasoning_effort": "none"}}
_ENABLED = {"on": {"reasoning": {"enabled": True}}, "off": {"reasoning": {"enabled": False}}}
_MAX_MODEL_LEN = (("/v1/models", ("data", OWN, "max_model_len")),)

SERVERS: dict[str, Server] = {
    row.name: row
    for row in (
        Server(
            name="vllm",
            base_url="http://localhost:8000/v1",
            keys=("VLLM_API_KEY",),
            forms={"completions": _VLLM_FORMS, "chat": _VLLM_FORMS, "native": (_SCHEMA,)},
            after_thoughts=True,
            body={
                "completions": {"add_special_tokens": False, "skip_special_tokens": False},
                "chat": {"skip_special_tokens": False},
            },
            thinking=_KWARGS,
            continues=("completions", "chat"),
            prefill={"continue_final_message": True, "add_generation_prompt": False},
            sampling=_SAMPLING,
            schema_with_tools=False,
            context=_MAX_MODEL_LEN,
            enforces="vLLM from 0.12 on takes structured_outputs (older ones guided_*, which newer ones ignore); "
            "serve with --structured-outputs-config.backend xgrammar or guidance. With --reasoning-parser, raw prompts "
            "without a thought go unconstrained: leave it out, or add "
            "--structured-outputs-config.enable_in_reasoning true",
        ),
        Server(
            name="sglang",
            base_url="http://localhost:30000/v1",
            keys=("SGLANG_API_KEY",),
            forms={
                "completions": (
                    Form("ebnf", "gbnf", {"ebnf": PLACE}),
                    Form("json_schema", "json_schema", {"json_schema": PLACE}, as_text=True),
                    Form("regex", "regex", {"regex": PLACE}),
                ),
                "chat": (*_SGLANG_FORMS, _SCHEMA),
                "native": (_SCHEMA,),
            },
            after_thoughts=True,
            body={
                "completions": {"skip_special_tokens": False},
                "chat": {"skip_special_tokens": False, "separate_reasoning": False},
            },
            thinking=_KWARGS,
            reasoning_fields=("reasoning_content", "reasoning"),
            continues=("completions", "chat"),
            prefill={"continue_final_message": True, "add_generation_prompt": False},
            adds_bos=True,
            sampling=_SAMPLING,
            schema_with_tools=False,
            context=_MAX_MODEL_LEN,
            enforces="start SGLang with --grammar-backend xgrammar or llguidance; outlines takes no ebnf",
        ),
        Server(
            name="llamacpp",
            base_url="http://localhost:8080/v1",
            keys=("LLAMA_API_KEY",),
            forms={"completions": _LLAMA_FORMS, "chat": _LLAMA_FORMS, "native": (_SCHEMA,)},
            body={"chat": {"reasoning_format": "none", "parse_tool_calls": False}},
            preserves="preserved_tokens",
            thinking=_KWARGS,
            reasoning_fields=("reasoning_content", "reasoning"),
            continues=("completions", "chat"),
            adds_bos=True,
            sampling=_LLAMA_SAMPLING,
            always_limit=False,
            tool_choices=("auto", "none", "required"),
            schema_with_tools=False,
            context=(("/props", ("default_generation_settings", "n_ctx")),),
            tokenize=("/tokenize", "content"),
            enforces="build llama.cpp with -DLLAMA_LLGUIDANCE=ON, or use a release that takes GBNF in grammar",
        ),
        Server(
            name="ollama",
            base_url="http://localhost:11434/v1",
            keys=("OLLAMA_API_KEY",),
            wires=("chat", "native"),
            forms={"chat": (_SCHEMA,), "native": (_SCHEMA,)},
            thinking=_EFFORT,
            continues=(),
            tool_choices=("auto",),
            parallel=False,
            schema_with_tools=False,
            enforces="Ollama enforces JSON schemas alone, which no turn with tools or thinking is",
        ),
        Server(
            name="lmstudio",
            base_url="http://localhost:1234/v1",
            wires=("chat", "native", "completions"),
            forms={"chat": (_SCHEMA,), "native": (_SCHEMA,)},
            thinking=_EFFORT,
            continues=(),
            sampling=_LLAMA_SAMPLING,
            schema_with_tools=False,
            enforces="LM Studio enforces JSON schemas alone, which no turn with tools or thinking is",
        ),
        Server(
            name="tgi",
            base_url="http://localhost:3000/v1",
            wires=("chat", "native"),
            forms={
                "chat": (
                    _SCHEMA,
                    Form("response_format (regex)", "regex", {"response_format": {"type": "regex", "value": PLACE}}),
                ),
                "native": (_SCHEMA,),
            },
            continues=(),
            parallel=False,
            schema_with_tools=False,
            enforces="TGI enforces JSON schemas and regular expressions alone",
        ),
        Server(
            name="openrouter",
            base_url="https://openrouter.ai/api/v1",
            keys=("OPENROUTER_API_KEY",),
            needs_key=True,
            wires=("chat", "native", "completions"),
            forms={"chat": (_SCHEMA,), "native": (_SCHEMA,)},
            thinking=_ENABLED,
            sampling=_SAMPLING,
            continues=(),
            context=(),
            enforces='extra_body={"provider": {"require_parameters": True}} makes OpenRouter use only providers that '
            "take response_format; none of them takes a grammar",
        ),
        Server(
            name="nous",
            base_url="https://inference-api.nousresearch.com/v1",
            keys=("NOUS_API_KEY",),
            needs_key=True,
            wires=("chat", "native", "completions"),
            forms={"chat": (_SCHEMA,), "native": (_SCHEMA,)},
            thinking={"on": {"reasoning": {"enabled": True, "effort": "high"}}},
            continues=(),
        ),
        Server(
            name="openai",
            base_url="https://api.openai.com/v1",
            keys=("OPENAI_API_KEY",),
            needs_key=True,
            wires=("native", "chat", "completions"),
            forms={"chat": (_SCHEMA,), "native": (_SCHEMA,)},
            thinking={"on": {"reasoning_effort": "medium"}},
            continues=(),
            most_tokens="max_completion_tokens",
            enforces="OpenAI enforces strict JSON schemas alone",
        ),
        Server(
            name="generic",
            keys=("HERMES_SDK_API_KEY",),
            wires=("chat", "completions", "native"),
            forms={
                "completions": (
                    *_LLAMA_FORMS[:2],
                    *_VLLM_FORMS[:2],
                    Form("ebnf", "gbnf", {"ebnf": PLACE}),
                    _SCHEMA,
                    _LLAMA_FORMS[2],
                    _VLLM_FORMS[2],
                ),
                "chat": (_SCHEMA, *_LLAMA_FORMS[:2], *_VLLM_FORMS[:2], Form("ebnf", "gbnf", {"ebnf": PLACE})),
                "native": (_SCHEMA,),
            },
            context=(*_MAX_MODEL_LEN, ("/v1/models", ("data", OWN, "context_length"))),
            enforces="name the server instead of 'generic' (vllm, sglang, llamacpp), so that its own fields are sent",
        ),
    )
}
"""Every server by name."""


def server(name: str | Server) -> Server:
    """A row of the table by name, or the row that was given.

    Raises:
        ConfigurationError: No such row.
    """
    if isinstance(name, Server):
        return name
    if name not in SERVERS:
        raise ConfigurationError(
            f"unknown server {name!r}", hint=f"choose one of {', '.join(SERVERS)}, or pass a Server of your own"
        )
    return SERVERS[name]


def wire_named(name: str) -> Wire:
    """A wire by name.

    Raises:
        ConfigurationError: No such wire.
    """
    for wire in get_args(Wire):
        if name == wire:
            found: Wire = wire
            return found
    raise ConfigurationError(f"unknown wire {name!r}", hint=f"choose one of {', '.join(get_args(Wire))}")


def filled(form: Form, grammar: Any) -> dict[str, Any]:
    """The fields of a form with the grammar in its place."""

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return grammar if value == PLACE else value
        if isinstance(value, Mapping):
            return {key: fill(member) for key, member in value.items()}  # pyright: ignore[reportUnknownVariableType]  # JSON
        return value

    return {key: fill(value) for key, value in form.body.items()}
