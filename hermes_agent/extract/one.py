"""One text, one value: the functions; `hermes_agent.extract.Extractor` keeps what they would make anew each time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from typing_extensions import TypedDict, TypeForm, Unpack

if TYPE_CHECKING:
    from hermes_agent.errors import HermesError
    from hermes_agent.extract.chunks import Chunking
    from hermes_agent.limits import Limits
    from hermes_agent.models.base import Constrain, ModelLike
    from hermes_agent.output import JsonSchema
    from hermes_agent.reasoning import Mode, Reasoning
    from hermes_agent.sampling import Sampling
    from hermes_agent.validators import OutputValidator

__all__ = ["Settings", "extract", "extract_async"]

T = TypeVar("T")


class Settings(TypedDict, total=False):
    """Keyword arguments that every form of extraction takes; `Extractor` explains them."""

    instructions: str | None
    examples: Iterable[tuple[str, Any]]
    reasoning: Reasoning | Mode | bool
    sampling: Sampling
    limits: Limits
    constrain: Constrain
    validators: Iterable[OutputValidator]
    chunking: Chunking | None


@overload
def extract(
    output: JsonSchema | Mapping[str, Any],
    text: str,
    *,
    model: ModelLike | None = ...,
    on_error: Literal["raise"] = ...,
    **settings: Unpack[Settings],
) -> Any: ...
@overload
def extract(
    output: TypeForm[T],
    text: str,
    *,
    model: ModelLike | None = ...,
    on_error: Literal["raise"] = ...,
    **settings: Unpack[Settings],
) -> T: ...
@overload
def extract(
    output: JsonSchema | Mapping[str, Any],
    text: str,
    *,
    model: ModelLike | None = ...,
    on_error: Literal["return"],
    **settings: Unpack[Settings],
) -> Any | HermesError: ...
@overload
def extract(
    output: TypeForm[T],
    text: str,
    *,
    model: ModelLike | None = ...,
    on_error: Literal["return"],
    **settings: Unpack[Settings],
) -> T | HermesError: ...
def extract(
    output: Any,
    text: str,
    *,
    model: ModelLike | None = None,
    on_error: Literal["raise", "return"] = "raise",
    **settings: Unpack[Settings],
) -> Any:
    """Take a typed value out of a text.

    Args:
        output: The type of the value: anything pydantic knows, a JSON schema, or what
            `hermes_agent.extract.infer` makes of a few samples.
        text: The text.
        model: As for `hermes_agent.Agent`.
        on_error: ``"raise"`` what went wrong, or ``"return"`` it in place of the value.
        **settings: As for `hermes_agent.extract.Extractor`.

    Raises:
        InvalidOutputError: The model's answers stayed invalid; ``attempts`` holds them.
        ModelError: The model could not write.
        ConfigurationError: The type cannot be extracted, or an event loop is running: `extract_async` is for there.

    Example:
        >>> from pydantic import BaseModel
        >>> from hermes_agent import extract
        >>> from hermes_agent.testing import ScriptedModel
        >>> class Invoice(BaseModel):
        ...     total: float
        >>> extract(Invoice, "Total due: 12.50 EUR", model=ScriptedModel(['{"total": 12.5}']))
        Invoice(total=12.5)
    """
    from hermes_agent.extract.extractor import Extractor
    from hermes_agent.extract.given import check_on_error

    check_on_error(on_error)
    found = Extractor(output, model, on_error="return", **settings).extract(text)
    return _value(found, on_error)


@overload
async def extract_async(
    output: JsonSchema | Mapping[str, Any],
    text: str,
    *,
    model: ModelLike | None = ...,
    on_error: Literal["raise"] = ...,
    **settings: Unpack[Settings],
) -> Any: ...
@overload
async def extract_async(
    output: TypeForm[T],
    text: str,
    *,
    model: ModelLike | None = ...,
    on_error: Literal["raise"] = ...,
    **settings: Unpack[Settings],
) -> T: ...
@overload
async def extract_async(
    output: JsonSchema | Mapping[str, Any],
    text: str,
    *,
    model: ModelLike | None = ...,
    on_error: Literal["return"],
    **settings: Unpack[Settings],
) -> Any | HermesError: ...
@overload
async def extract_async(
    output: TypeForm[T],
    text: str,
    *,
    model: ModelLike | None = ...,
    on_error: Literal["return"],
    **settings: Unpack[Settings],
) -> T | HermesError: ...
async def extract_async(
    output: Any,
    text: str,
    *,
    model: ModelLike | None = None,
    on_error: Literal["raise", "return"] = "raise",
    **settings: Unpack[Settings],
) -> Any:
    """`extract`, awaited. Arguments and errors are the same."""
    from hermes_agent.extract.extractor import Extractor
    from hermes_agent.extract.given import check_on_error

    check_on_error(on_error)
    found = await Extractor(output, model, on_error="return", **settings).extract_async(text)
    return _value(found, on_error)


def _value(found: Any, on_error: Literal["raise", "return"]) -> Any:
    if found.error is not None and on_error == "return":
        return found.error
    return found.output
