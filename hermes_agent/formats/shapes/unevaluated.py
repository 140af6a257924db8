"""What ``unevaluatedProperties`` wants of an object shape (JSON Schema 2020-12, 11.3)."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from typing import Any

from hermes_agent.formats.shapes.algebra import Algebra, TooComplexError
from hermes_agent.formats.shapes.nodes import ANYTHING, EVERY_TYPE, Anything, Object, Shape, Union, union

__all__ = ["close", "unclosable"]

_MOST_BRANCHES = 4
"""Branches of which every choice is worked out."""

_ALL_EVALUATED = re.compile(r'"(?:additional|unevaluated)Properties": (?:true|\{\})')
_HALF_EVALUATED = re.compile(r'"(?:not|if|dependentSchemas|\$dynamicRef)": ')


def unclosable(document: Any, schema: Any) -> str:
    """Why it cannot be told by its shape what a schema has evaluated; empty if it can.

    Args:
        document: All of the schema, which references may lead to.
        schema: The part that says ``unevaluatedProperties``.
    """
    outside = {key: value for key, value in schema.items() if key != "unevaluatedProperties"}
    text = json.dumps(outside) + (json.dumps(document) if '"$ref": ' in json.dumps(outside) else "")
    if _ALL_EVALUATED.search(text):
        return "where additionalProperties allows all"
    return "beside a condition" if _HALF_EVALUATED.search(text) else ""


def close(shape: Shape, rest: Shape, algebra: Algebra) -> Shape:
    """A shape of which every property that no branch declares is as ``rest`` says.

    An object may match several branches of an ``anyOf``: then the properties of each of them are evaluated. So every
    choice of branches is met, and closed as one.

    Raises:
        TooComplexError: There are too many branches.
    """
    if isinstance(rest, Anything):
        return shape
    shape = algebra.resolve(shape)
    found = [algebra.resolve(option) for option in shape.options] if isinstance(shape, Union) else [shape]
    if any(isinstance(option, Anything) for option in found):
        others = [at for kind, shapes in EVERY_TYPE.items() if kind != "object" for at in shapes]
        found = [*others, Object(), *(option for option in found if not isinstance(option, Anything))]
    branches = [option for option in found if isinstance(option, Object) and isinstance(option.rest, Anything)]
    if len(branches) > _MOST_BRANCHES:
        raise TooComplexError
    result = [option for option in found if option not in branches]
    for count in range(1, len(branches) + 1):
        for chosen in itertools.combinations(branches, count):
            met: Shape = ANYTHING
            for branch in chosen:
                met = algebra.meet(met, branch)
            result.append(_closed(algebra.resolve(met), rest))
    return union(result)


def _closed(shape: Shape, rest: Shape) -> Shape:
    if isinstance(shape, Union):
        return union(_closed(option, rest) for option in shape.options)
    if isinstance(shape, Object) and isinstance(shape.rest, Anything):
        return replace(shape, rest=rest)
    return shape
