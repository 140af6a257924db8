from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.docstring import Docstring, read_docstring

GOOGLE = """Current weather.

    Measured at the nearest station.

    Args:
        city: City name, such as
            "Paris".
        unit (str): Unit of the temperature.

    Returns:
        A sentence.

    Raises:
        ValueError: There is no such city.
    """

NUMPY = """Current weather.

    Measured at the nearest station.

    Parameters
    ----------
    city : str
        City name, such as
        "Paris".
    unit : str, optional
        Unit of the temperature.

    Returns
    -------
    str
        A sentence.
    """

SPHINX = """Current weather.

    Measured at the nearest station.

    :param city: City name, such as
        "Paris".
    :param str unit: Unit of the temperature.
    :returns: A sentence.
    :raises ValueError: There is no such city.
    """


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_every_style_says_the_same(text: str) -> None:
    assert read_docstring(text) == Docstring(
        "Current weather.\n\nMeasured at the nearest station.",
        {"city": 'City name, such as "Paris".', "unit": "Unit of the temperature."},
    )


@pytest.mark.parametrize("text", [None, "", "  \n "])
def test_nothing_said_is_nothing_read(text: str | None) -> None:
    assert read_docstring(text) == Docstring()


def test_plain_text_is_description() -> None:
    assert read_docstring("Adds numbers: 1 + 2.\nIt is exact.").description == "Adds numbers: 1 + 2.\nIt is exact."


def test_only_arguments() -> None:
    assert read_docstring("Args:\n        a: First.\n    ") == Docstring("", {"a": "First."})


PIECES = st.sampled_from([GOOGLE, NUMPY, SPHINX, ":", "Args:", "\n", "----", "*"])


@settings(deadline=None)
@given(st.text(max_size=200) | st.lists(PIECES, max_size=9).map("".join))
def test_any_text_can_be_read(text: str) -> None:
    read = read_docstring(text)
    assert all(name and "\n" not in said for name, said in read.parameters.items())
