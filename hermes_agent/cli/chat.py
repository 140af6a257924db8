"""``hermes-sdk chat``: a conversation at the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hermes_agent.cli.exits import report, reported
from hermes_agent.cli.interrupts import noticed_while_reading
from hermes_agent.cli.options import (
    AgentOptions,
    Constrain,
    ConstrainOption,
    DebugOption,
    ExamplesOption,
    HistoryOption,
    InstructionsOption,
    MaxStepsOption,
    MaxTokensOption,
    McpOption,
    ModelOption,
    OutputOption,
    ParallelOption,
    SchemaOption,
    SeedOption,
    TemperatureOption,
    Thinking,
    ThinkingOption,
    ToolChoiceOption,
    ToolsOption,
)
from hermes_agent.cli.terminal import console

if TYPE_CHECKING:
    from rich.console import Console

    from hermes_agent.agent import Agent
    from hermes_agent.messages import Message

__all__ = ["HELP", "chat"]

HELP = """Talk to a model with tools, question by question.

Ctrl-C stops an answer, Ctrl-D leaves; at the prompt a second Ctrl-C leaves too. /help lists the commands.

\b
Examples:
  hermes-sdk chat --tools calculator --tools clock
  hermes-sdk chat --model hf:NousResearch/Hermes-4-14B --thinking on
  hermes-sdk chat --history yesterday.json
"""

_COMMANDS = """/reset       forget the conversation
/save FILE   write the conversation, for --history
/help        show this
/quit        leave, as Ctrl-D does"""


def chat(
    model: ModelOption = None,
    tools: ToolsOption = None,
    mcp: McpOption = None,
    output: OutputOption = None,
    schema: SchemaOption = None,
    instructions: InstructionsOption = None,
    examples: ExamplesOption = None,
    tool_choice: ToolChoiceOption = "auto",
    parallel: ParallelOption = "on",
    thinking: ThinkingOption = Thinking.off,
    constrain: ConstrainOption = Constrain.auto,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    max_tokens: MaxTokensOption = None,
    max_steps: MaxStepsOption = None,
    history: HistoryOption = None,
    debug: DebugOption = False,
) -> None:
    """Talk to a model with tools."""
    options = AgentOptions(
        model=model,
        tools=tools,
        mcp=mcp,
        output=output,
        schema=schema,
        instructions=instructions,
        thinking=thinking,
        tool_choice=tool_choice,
        parallel=parallel,
        examples=examples,
        temperature=temperature,
        seed=seed,
        max_tokens=max_tokens,
        max_steps=max_steps,
        constrain=constrain,
    )
    with reported(debug):
        from hermes_agent.cli.history import load

        with options.agent() as agent:
            Chat(agent, console(), load(history), debug=debug).go()


@dataclass(slots=True)
class Chat:
    """A conversation under way.

    Attributes:
        agent: Who answers.
        out: Where it is shown.
        messages: What was said so far; an answer that failed or was stopped leaves no trace in it.
        debug: Let errors through instead of going on.
    """

    agent: Agent[None, Any]
    out: Console
    messages: Sequence[Message] = ()
    debug: bool = False
    _interrupted: bool = field(default=False, init=False)

    def go(self) -> None:
        """Ask and answer until the user leaves."""
        if sys.stdin.isatty():
            _edit_lines()
            self.out.print("Ctrl-C stops an answer, Ctrl-D leaves, /help shows the commands.", style="dim")
        while self._go_on():
            pass

    def _go_on(self) -> bool:
        """One line of the user's, and what comes of it; false when the user leaves."""
        try:
            line = self._read()
            if line is None or line in ("/quit", "/exit"):
                return False
            self._interrupted = False
            if line.startswith("/"):
                self._obey(line)
            elif line:
                self._answer(line)
        except KeyboardInterrupt:  # at the prompt, or just before it
            self.out.print()
            if self._interrupted:
                return False
            self._interrupted = True
            self.out.print("Ctrl-C again, or Ctrl-D, leaves.", style="dim")
        return True

    def _read(self) -> str | None:
        """The next line; ``None`` at the end of the input."""
        asks = sys.stdin.isatty()
        try:
            with noticed_while_reading():
                return input("> " if asks else "").strip()
        except EOFError:
            if asks:
                self.out.print()
            return None

    def _answer(self, question: str) -> None:
        from hermes_agent.cli.trace import watch
        from hermes_agent.errors import HermesError

        try:
            self.messages = watch(self.agent, question, self.messages, self.out).messages
        except KeyboardInterrupt:
            self.out.print("The question is forgotten; the conversation is as before it.", style="dim")
        except HermesError as error:
            if self.debug:
                raise
            report(error)

    def _obey(self, text: str) -> None:
        command, _, argument = text.partition(" ")
        match command, argument.strip():
            case "/reset", "":
                self.messages = ()
                self.out.print("The conversation is forgotten.", style="dim")
            case "/save", file if file:
                self._save(file)
            case "/help", "":
                self.out.print(_COMMANDS)
            case _:
                self.out.print(f"{text!r} is no command here.\n{_COMMANDS}", style="yellow")

    def _save(self, file: str) -> None:
        from hermes_agent.cli.history import save
        from hermes_agent.errors import HermesError
        from hermes_agent.messages import Conversation

        try:
            save(Conversation(self.messages), file)
        except HermesError as error:
            report(error)
        else:
            self.out.print(f"{len(self.messages)} messages are in {file!r}.", style="dim")


def _edit_lines() -> None:
    """Give ``input`` arrow keys and a memory, where Python was built with readline."""
    with suppress(ImportError):
        import_module("readline")  # importing it is what does it
