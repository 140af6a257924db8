"""Structured extraction: typed values out of texts, from one text to resumable jobs over millions of rows."""

from __future__ import annotations

# This module is loaded with the package, since its function `extract` is a public name there: nothing heavy here.
from hermes_agent.extract.one import extract, extract_async

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hermes_agent.extract.chunks import Chunking
    from hermes_agent.extract.editing import ABSENT, Change, Repaired, repair, repair_async
    from hermes_agent.extract.extractor import Extractor
    from hermes_agent.extract.job import JobSummary
    from hermes_agent.extract.result import Extraction
    from hermes_agent.extract.samples import infer

_HOMES = {
    "ABSENT": "editing",
    "Change": "editing",
    "Chunking": "chunks",
    "Extraction": "result",
    "Extractor": "extractor",
    "JobSummary": "job",
    "Repaired": "editing",
    "infer": "samples",
    "repair": "editing",
    "repair_async": "editing",
}

__all__ = [
    "ABSENT",
    "Change",
    "Chunking",
    "Extraction",
    "Extractor",
    "JobSummary",
    "Repaired",
    "extract",
    "extract_async",
    "infer",
    "repair",
    "repair_async",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
