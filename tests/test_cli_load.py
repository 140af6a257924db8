from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hermes_agent import ConfigurationError
from hermes_agent.cli.load import load_model, load_object, load_tools
from tests.command import tools_file


@pytest.fixture(autouse=True)
def _path_as_before() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path


def names(*specs: str) -> list[str]:
    return [tool.name for tool in load_tools(list(specs))]


def test_a_function_of_a_file(tmp_path: Path) -> None:
    assert names(f"{tools_file(tmp_path)}:add") == ["add"]


def test_a_whole_file_gives_what_it_defines_itself_public_and_typed(tmp_path: Path) -> None:
    file = tools_file(
        tmp_path,
        """
from os.path import join
from hermes_agent import tool

def one(a: int) -> int:
    return a

def untyped(a):
    return a

def _private(a: int) -> int:
    return a

def main() -> None: ...

class Thing: ...

@tool(name="renamed")
def two(a: str) -> str:
    return a

alias = 3
""",
    )
    assert names(str(file)) == ["one", "renamed"]


def test_all_narrows_a_file(tmp_path: Path) -> None:
    file = tools_file(tmp_path, "__all__ = ['b']\ndef a() -> int: ...\ndef b() -> int: ...\n")
    assert names(str(file)) == ["b"]


def test_a_function_of_a_module_and_ready_made_tools() -> None:
    assert names("hermes_agent.toolbox:calculator", "clock") == ["calculator", "clock"]


def test_a_method_of_an_object(tmp_path: Path) -> None:
    file = tools_file(
        tmp_path,
        "class Shop:\n    def price(self, item: str) -> int:\n        return 3\nshop = Shop()\n",
    )
    assert names(f"{file}:shop.price") == ["price"]


def test_a_file_is_loaded_once_so_that_its_types_are_one(tmp_path: Path) -> None:
    file = tools_file(tmp_path)
    assert load_object(f"{file}:Sum") is load_object(f"{file}:Sum")


def test_the_module_has_a_private_name_and_its_folder_is_importable_while_it_loads(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("WHERE = 'beside'\n")
    file = tools_file(
        tmp_path, "import sys\nfirst = sys.path[0]\nname = __name__\ndef f() -> int: ...\n", "json_tools.py"
    )
    assert load_object(f"{file}:first") == str(tmp_path)
    assert load_object(f"{file}:name").startswith("_hermes_sdk_json_tools_")
    # Afterwards it stands last, where it hides nothing that is installed.
    assert sys.path[0] != str(tmp_path)
    assert sys.path[-1] == str(tmp_path)


def test_neighbours_can_be_imported_when_a_tool_runs(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_mine.py").write_text("VALUE = 7\n")
    file = tools_file(tmp_path, "def f() -> int:\n    from neighbour_of_mine import VALUE\n    return VALUE\n")
    assert load_object(f"{file}:f")() == 7


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\nraise ValueError('boom [red]')\n", ":2: ValueError: boom [red]"),
        ("def f(:\n", ":1: SyntaxError"),
        ("\n\nimport nothing_of_this_name\n", ":3: ModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", ":2: SystemExit: 3"),
        ("def g():\n    return 1 / 0\n\ng()\n", ":2: ZeroDivisionError"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_file_and_line(tmp_path: Path, text: str, told: str) -> None:
    file = tools_file(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load_tools([f"{file}:f"])
    assert f"{file}{told}" in caught.value.message
    assert not [
        name for name in sys.modules if name.startswith("_hermes_sdk_mine") and sys.modules[name].__file__ == str(file)
    ]


def test_what_is_wrong_in_an_imported_neighbour_is_told_with_the_importing_line(tmp_path: Path) -> None:
    (tmp_path / "broken_neighbour.py").write_text("\n\n1 / 0\n")
    file = tools_file(tmp_path, "x = 1\nimport broken_neighbour\n")
    with pytest.raises(ConfigurationError, match=r"mine\.py:2: ZeroDivisionError"):
        load_tools([str(file)])


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("no_such_file.py", "no_such_file.py"),
        ("no_such_file.py:f", "no_such_file.py"),
        ("no_such_module_here:f", "no_such_module_here"),
        ("hermes_agent.toolbox:nope", "nope"),
        ("not-a-module:f", "not-a-module"),
        (":f", ":f"),
        ("hermes_agent:", "hermes_agent:"),
        ("frobnicate", "frobnicate"),
    ],
)
def test_a_name_that_leads_nowhere_is_named(spec: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_tools([spec])
    assert told in caught.value.message
    assert caught.value.hint


def test_the_ready_made_tools_are_listed_when_there_is_none_of_a_name() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_tools(["calculater"])
    assert "calculator" in caught.value.hint


def test_only_what_can_be_a_tool_is_listed_instead_of_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_tools(["hermes_agent.toolbox:nope"])
    assert caught.value.hint == "hermes_agent.toolbox has calculator, clock, fetch"
    text = (
        "from __future__ import annotations\nimport os\nfrom pathlib import Path\nfrom hermes_agent import Tool, tool\n"
        "LIMIT = 3\ndef untyped(a): ...\ndef unknown(a: Nowhere): ...\ndef _own(a: int): ...\n"
        "def add(a: int) -> int: ...\nmade = Tool.from_schema(name='made', parameters={})\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        load_tools([f"{tools_file(tmp_path, text)}:ad"])
    assert caught.value.hint.endswith("mine.py has add, made")
    with pytest.raises(ConfigurationError) as caught:
        load_tools([f"{tools_file(tmp_path, 'import os', 'empty.py')}:add"])
    assert caught.value.hint.endswith("empty.py has nothing that could be meant")


def test_what_a_file_only_works_with_is_not_listed(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nimport os\nPair = tuple[int, int]\nclass Sum: ...\n"
    with pytest.raises(ConfigurationError) as caught:
        load_object(f"{tools_file(tmp_path, text)}:Some")
    assert caught.value.hint.endswith("mine.py has Pair, Sum")


def test_a_file_without_tools_and_things_that_are_none(tmp_path: Path) -> None:
    empty = tools_file(tmp_path, "def f(a): ...\nx = 1\n")
    with pytest.raises(ConfigurationError, match="defines no tool"):
        load_tools([str(empty)])
    with pytest.raises(ConfigurationError, match="no function"):
        load_tools([f"{empty}:x"])
    with pytest.raises(ConfigurationError) as caught:
        load_tools([f"{empty}:f"])
    assert f"{empty}:f" in caught.value.message
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(ConfigurationError, match="is not a file"):
        load_tools([str(tmp_path / "folder.py")])


def test_models_by_name_from_a_file_and_from_a_factory(tmp_path: Path) -> None:
    file = tools_file(
        tmp_path,
        "from hermes_agent.testing import ScriptedModel\n"
        "ready = ScriptedModel(['a'])\n"
        "def made():\n    return ScriptedModel(['b'])\n"
        "def broken():\n    raise RuntimeError('no weights')\n"
        "number = 3\n",
    )
    assert load_model(None) is None
    assert load_model("hf:some/folder.py:x") == "hf:some/folder.py:x"
    assert load_model("embedded") == "embedded"
    for name in ("ready", "made"):
        model = load_model(f"{file}:{name}")
        assert model is not None
        assert not isinstance(model, str)
        assert model.name == "scripted"
    with pytest.raises(ConfigurationError, match="is no model but 3"):
        load_model(f"{file}:number")
    with pytest.raises(ConfigurationError, match="RuntimeError: no weights"):
        load_model(f"{file}:broken")
