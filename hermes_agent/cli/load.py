"""What a user names on the command line, loaded: tools, types and models from files and modules.

A name is ``path.py:name``, ``path.py`` (every tool in it), ``package.module:name``, or the short name of a
tool of ``hermes_agent.toolbox``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from hermes_agent.errors import ConfigurationError, HermesError

if TYPE_CHECKING:
    from hermes_agent.models.base import Model
    from hermes_agent.tool import Tool

__all__ = ["load_model", "load_object", "load_tools"]

_FORMS = "write path.py:name, path.py, package.module:name, or the name of a ready-made tool"


def load_tools(specs: list[str]) -> list[Tool]:
    """The tools that a list of names stands for, in order.

    Raises:
        ConfigurationError: A name leads nowhere, or to something that cannot be a tool.
    """
    return [tool for spec in specs for tool in _tools(spec)]


def load_object(spec: str) -> Any:
    """The object that ``path.py:name`` or ``package.module:name`` stands for.

    Raises:
        ConfigurationError: There is none, or loading its file fails; the message names file and line.
    """
    return _object(spec, _is_own)


def _object(spec: str, is_wanted: Callable[[Any], bool]) -> Any:
    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise ConfigurationError(f"{spec!r} names no object", hint="write path.py:name or package.module:name")
    return _attribute(_module(where), name, spec, is_wanted)


def load_model(spec: str | None) -> Model | str | None:
    """The model of a ``--model`` option: an object from a file, or the name as it is.

    Raises:
        ConfigurationError: The name is of the form ``path.py:name`` and leads to no model.
    """
    if spec is None or not spec.rpartition(":")[0].endswith(".py") or spec.startswith("hf:"):
        return spec
    found = load_object(spec)
    if not _is_model(found) and callable(found):
        try:
            found = found()
        except HermesError:
            raise
        except Exception as error:
            raise _broken(spec, None, error) from error
    if not _is_model(found):
        raise ConfigurationError(
            f"{spec!r} is no model but {found!r:.80}",
            hint="give an object with name, dialect, guarantee() and generate(), or a function that returns one",
        )
    return cast("Model", found)


def _is_model(value: object) -> bool:
    # Not isinstance(value, Model): that reads every attribute, and a model's dialect may load its tokenizer.
    return not inspect.isclass(value) and callable(getattr(value, "generate", None))


def _tools(spec: str) -> list[Tool]:
    if spec.endswith(".py"):
        return _every_tool(_module(spec), spec)
    if ":" in spec:
        return [_tool(_object(spec, _can_be_tool), spec)]
    return [_ready_made(spec)]


def _ready_made(name: str) -> Tool:
    from hermes_agent import toolbox

    # The toolbox also holds classes, whose tools need a folder or a database to work on.
    known = [n for n in getattr(toolbox, "__all__", ()) if _is_function(getattr(toolbox, n))]
    if name not in known:
        raise ConfigurationError(
            f"there is no ready-made tool {name!r}", hint=f"ready-made are {', '.join(known)}; else {_FORMS}"
        )
    return _tool(getattr(toolbox, name), name)


def _is_function(value: object) -> bool:
    return inspect.isfunction(value) or inspect.ismethod(value)


def _tool(value: Any, spec: str) -> Tool:
    from hermes_agent.tool import Tool

    if not isinstance(value, Tool) and (inspect.isclass(value) or not callable(value)):
        raise ConfigurationError(f"{spec!r} is no function but {value!r}", hint="name a typed function, or a Tool")
    try:
        return Tool.of(value)
    except HermesError as error:
        raise type(error)(f"{spec}: {error.message}", hint=error.hint) from error


def _can_be_tool(value: Any) -> bool:
    try:
        _tool(value, "")
    except HermesError:
        return False
    return True


def _is_own(value: object) -> bool:
    """Whether it may be what a user means, and not just what a file imports to work with."""
    return not isinstance(value, ModuleType) and type(value).__module__ != "__future__"


def _every_tool(module: ModuleType, spec: str) -> list[Tool]:
    """The tools and the public typed functions that a file defines itself; ``__all__`` narrows them."""
    from hermes_agent.tool import Tool

    names: list[str] = getattr(module, "__all__", None) or [n for n in vars(module) if n[0] != "_" and n != "main"]
    found = [
        _tool(value, f"{spec}:{name}")
        for name in names
        if isinstance(value := getattr(module, name, None), Tool)
        or (inspect.isfunction(value) and value.__module__ == module.__name__ and _is_typed(value))
    ]
    if not found:
        raise ConfigurationError(
            f"{spec!r} defines no tool",
            hint="define public functions whose parameters are all annotated, or name one with path.py:function",
        )
    return found


def _is_typed(function: Callable[..., object]) -> bool:
    return all(p.annotation is not p.empty for p in inspect.signature(function).parameters.values())


def _attribute(module: ModuleType, name: str, spec: str, is_wanted: Callable[[Any], bool]) -> Any:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            known = [n for n, v in vars(module).items() if not n.startswith("_") and is_wanted(v)]
            raise ConfigurationError(
                f"{spec!r}: there is no {name!r}",
                hint=f"{spec.rpartition(':')[0]} has {', '.join(known) or 'nothing that could be meant'}",
            )
        value = getattr(value, part)
    return value


def _module(where: str) -> ModuleType:
    return _file(Path(where)) if where.endswith(".py") else _installed(where)


def _installed(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigurationError(f"{name!r} is neither a Python file nor a module", hint=_FORMS)
    with _importable(Path.cwd()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise _broken(name, None, error) from error
            raise ConfigurationError(
                f"there is no module {name!r}", hint="install it, run from the folder that holds it, or give a path.py"
            ) from error
        except (Exception, SystemExit) as error:
            raise _broken(name, None, error) from error


def _file(path: Path) -> ModuleType:
    """Run a Python file as a module, once a process, under a name that nothing else has."""
    try:
        full = path.resolve(strict=True)
        is_file = full.is_file()
    except OSError as error:
        raise ConfigurationError(f"cannot read {str(path)!r}: {error.strerror}", hint="check the path") from error
    if not is_file:
        raise ConfigurationError(f"{str(path)!r} is not a file", hint="check the path")
    name = f"_hermes_sdk_{full.stem.replace('.', '_')}_{hashlib.sha256(str(full).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, full)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # types in it are looked up there by name
    with _importable(full.parent):
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise _broken(str(path), full, error) from error
    return module


@contextmanager
def _importable(folder: Path) -> Generator[None]:
    """The folder first on the path, as when Python runs a file in it; last afterwards.

    A tool may import its neighbours when it is called, but a neighbour that is named like an installed
    module must not come before that.
    """
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
        if entry not in sys.path:
            sys.path.append(entry)


def _broken(shown: str, file: Path | None, error: BaseException) -> ConfigurationError:
    """An error in a user's file, with the line of that file it comes from."""
    if isinstance(error, SyntaxError):
        line, shown = error.lineno, error.filename if error.filename and file is None else shown
    else:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
        own = [f for f in frames if file is not None and f.filename == str(file)] or frames
        line = own[-1].lineno if own else None
        shown = shown if file is not None or not own else own[-1].filename
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return ConfigurationError(
        f"{shown}:{line}: {type(error).__name__}: {text}" if line else f"{shown}: {type(error).__name__}: {text}",
        hint="mend the file; --debug shows the whole traceback",
    )
