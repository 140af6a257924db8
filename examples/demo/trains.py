"""A tool of one's own, as ``make demo`` uses it."""

from typing import Literal

TIMETABLE = {"Oslo": "10:42 from platform 3", "Bergen": "11:05 from platform 1", "Trondheim": "13:20 from platform 2"}


def next_train(city: Literal["Oslo", "Bergen", "Trondheim"]) -> str:
    """When the next train leaves.

    Args:
        city: Where the train goes.
    """
    return f"The next train to {city} leaves at {TIMETABLE[city]}."
