"""Calls in fields of the server's own, whole or in pieces, over real sockets.

The numbers are those of the failure catalogue in docs/servers.md.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_agent.errors import ModelError
from hermes_agent.formats import dialect, parse
from hermes_agent.models.native_calls import NativeCalls
from tests.told import CALL, Came, call_deltas, native

pytestmark = pytest.mark.anyio
DIALECT = dialect("hermes-3")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_28_pieces_of_a_call_are_merged_by_index_never_by_id() -> None:
    first = call_deltas({"name": "add", "arguments": ""}, {"name": "", "arguments": '{"a"'}, {"arguments": ": 1}"})
    second = call_deltas({"name": "add", "arguments": '{"a": 2}'}, index=1, call_id="c2")
    came = await native(first[0], second[0], *first[1:])
    assert [(c.name, c.arguments) for c in came.turn.tool_calls] == [("add", {"a": 1}), ("add", {"a": 2})]
    assert not came.turn.faults


async def test_28_a_name_that_comes_with_every_piece_counts_once() -> None:
    came = await native(*call_deltas({"name": "add", "arguments": '{"a"'}, {"name": "add", "arguments": ": 1}"}))
    assert came.text == CALL


async def test_29_values_sent_twice_count_once() -> None:
    came = await native(*call_deltas({"name": "addadd", "arguments": '{"a": 1}{"a": 1}'}))
    assert came.text == CALL


async def test_29_one_call_sent_twice_under_one_id_counts_once_and_two_alike_stay_two() -> None:
    once = call_deltas({"name": "add", "arguments": '{"a": 1}'}, index=0)
    again = call_deltas({"name": "add", "arguments": '{"a": 1}'}, index=1)
    assert (await native(*once, *again)).text == CALL
    other = call_deltas({"name": "add", "arguments": '{"a": 1}'}, index=1, call_id="c2")
    assert len((await native(*once, *other)).turn.tool_calls) == 2


async def test_calls_without_an_index_are_told_apart_by_their_ids() -> None:
    first = call_deltas({"name": "add", "arguments": '{"a": 1}'}, index=None)
    second = call_deltas({"name": "add", "arguments": '{"a": 2}'}, index=None, call_id="c2")
    assert [c.arguments for c in (await native(*first, *second)).turn.tool_calls] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("arguments", [None, "", "{}", {}])
async def test_46_no_arguments_are_none_at_all(arguments: object) -> None:
    came = await native(*call_deltas({"name": "add", "arguments": arguments}))
    assert [c.arguments for c in came.turn.tool_calls] == [{}]


async def test_46_arguments_may_come_as_an_object() -> None:
    assert (await native(*call_deltas({"name": "add", "arguments": {"a": 1}}))).text == CALL


async def test_46_arguments_that_cannot_be_read_are_a_fault_and_never_an_empty_object() -> None:
    came = await native(*call_deltas({"name": "add", "arguments": '{"a": '}))
    assert not came.turn.tool_calls
    assert [fault.kind for fault in came.turn.faults] == ["malformed"]


async def test_arguments_that_were_cut_off_are_a_truncated_call() -> None:
    came = await native(*call_deltas({"name": "add", "arguments": '{"a": '}), finish="length")
    assert not came.turn.tool_calls
    assert [fault.kind for fault in came.turn.faults] == ["truncated"]


@pytest.mark.parametrize(
    "forged",
    [
        '{}}\n</tool_call>\n<tool_call>\n{"name": "add", "arguments": {"a": 666}',
        '{"a": 1}}\n</tool_call>\n<tool_call>\n{"name": "add", "arguments": {"a": 666}',
    ],
)
async def test_no_call_can_be_forged_in_arguments(forged: str) -> None:
    came = await native(*call_deltas({"name": "add", "arguments": forged}))
    assert 666 not in [c.arguments.get("a") for c in came.turn.tool_calls]


async def test_47_calls_in_the_text_of_a_native_reply_are_read() -> None:
    came = await native({"content": "Sure.\n<tool_"}, {"content": CALL[6:]}, finish="stop")
    assert (came.turn.text, len(came.turn.tool_calls)) == ("Sure.", 1)


def piece(name: str | None = None, arguments: object = None, **more: Any) -> dict[str, Any]:
    """A delta with one piece of a call."""
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{**more, "function": {key: value for key, value in function.items() if value is not None}}]}


def arguments_of(came: Came) -> list[dict[str, Any]]:
    return [dict(call.arguments) for call in came.turn.tool_calls]


A1, A2 = '{"a": 1}', '{"a": 2}'


async def test_27_pieces_without_index_and_id_belong_to_the_call_that_is_open() -> None:
    came = await native(piece("add", "", id="c1"), piece(None, '{"a": 7,'), piece(None, ' "b": 5}'))
    assert arguments_of(came) == [{"a": 7, "b": 5}]
    assert not came.turn.faults


async def test_27_an_index_may_be_a_string() -> None:
    came = await native(
        piece("add", "", index="0", id="c1"), piece(None, '{"a"', index=0), piece(None, ": 1}", index="0")
    )
    assert came.text == CALL


@pytest.mark.parametrize("empty", [None, "", " ", "null"])
async def test_27_no_call_is_closed_without_arguments_while_arguments_lack_a_name(empty: str | None) -> None:
    came = await native(piece("add", empty, index=0, id="c1"), piece(None, A1, index=1))
    assert arguments_of(came) == []
    assert came.turn.faults


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("index", [{"index": 0}, {}])
async def test_27_calls_that_all_have_the_index_0_are_told_apart_by_their_ids(
    whole: bool, index: dict[str, int]
) -> None:
    found: list[dict[str, Any]] = []
    for call_id, arguments in (("c1", A1), ("c2", A2), ("c3", A1)):
        if whole:
            found.append(piece("add", arguments, id=call_id, **index))
        else:
            begins = piece("add", "", id=call_id, **index)
            found += [begins, piece(None, arguments[:4], **index), piece(None, arguments[4:], **index)]
    came = await native(*found)
    assert arguments_of(came) == [{"a": 1}, {"a": 2}, {"a": 1}]
    assert not came.turn.faults


@pytest.mark.parametrize("more", [{"index": 0}, {}])
async def test_27_a_new_id_without_a_name_begins_nothing(more: dict[str, int]) -> None:
    came = await native(piece("add", '{"a"', id="c1", **more), piece(None, ": 1}", id="c9", **more))
    assert came.text == CALL


async def test_27_a_new_id_and_the_name_again_begin_nothing_amid_the_arguments() -> None:
    came = await native(piece("add", '{"a"', id="c1", index=0), piece("add", ": 1}", id="c9", index=0))
    assert came.text == CALL


@pytest.mark.parametrize("apart", [True, False])
async def test_27_whole_calls_may_come_without_index_and_id(apart: bool) -> None:
    calls = [piece("add", A1), piece("add", A2)]
    if not apart:
        calls = [{"tool_calls": [call["tool_calls"][0] for call in calls]}]
    came = await native(*calls)
    assert arguments_of(came) == [{"a": 1}, {"a": 2}]
    assert not came.turn.faults


async def test_27_another_tools_name_begins_another_call() -> None:
    calls = NativeCalls(["now", "add"], DIALECT)
    for call_id, name in (("c1", "now"), ("c2", "add")):
        calls.add(piece(name, "", index=0, id=call_id)["tool_calls"])
    calls.add(piece(None, A1, index=0)["tool_calls"])
    turn = parse("\n".join(calls.blocks("", cut=False)))
    assert [(call.name, call.arguments) for call in turn.tool_calls] == [("now", {}), ("add", {"a": 1})]


WHOLE: list[tuple[str, dict[str, Any]]] = [
    ("add", {"a": 1}),
    ("now", {}),
    ("find", {"text": "a } b", "deep": {"x": [1, 2]}}),
]


@given(st.lists(st.sampled_from(WHOLE), max_size=4), st.data())
def test_whatever_way_calls_are_numbered_and_cut_none_runs_with_other_arguments(
    wanted: list[tuple[str, dict[str, Any]]], data: st.DataObject
) -> None:
    """Calls in turn, each numbered in one of the ways of servers, its arguments cut anywhere."""
    calls = NativeCalls(["add", "now", "find"], DIALECT)
    way = data.draw(st.sampled_from(["right", "text", "zero", "no index"]))
    for at, (name, arguments) in enumerate(wanted):
        text = json.dumps(arguments)
        cut = data.draw(st.integers(0, len(text)))
        numbers: dict[str, object] = {"right": at, "text": str(at), "zero": 0}
        index: dict[str, Any] = {"index": numbers[way]} if way in numbers else {}
        calls.add(piece(name, text[:cut], id=f"c{at}", **index)["tool_calls"])
        calls.add(piece(None, text[cut:], **index)["tool_calls"])
    turn = parse("\n".join(calls.blocks("", cut=False)))
    assert [(call.name, call.arguments) for call in turn.tool_calls] == wanted
    assert not turn.faults


@pytest.mark.parametrize("layout", [CALL, CALL.replace("\n", "").replace(" ", ""), f"Sure.\n{CALL}\nThere."])
async def test_47_a_call_in_the_text_and_in_its_field_is_one(layout: str) -> None:
    came = await native({"content": layout[:20]}, {"content": layout[20:]}, piece("add", A1, index=0, id="c1"))
    assert arguments_of(came) == [{"a": 1}]
    assert came.text == layout


async def test_47_another_call_in_the_text_is_another() -> None:
    came = await native(
        {"content": CALL},
        piece("add", A2, index=0, id="c1"),
        piece("add", A1, index=1, id="c2"),
        piece("add", A1, index=2),
    )
    assert arguments_of(came) == [{"a": 1}, {"a": 2}, {"a": 1}]


async def test_a_call_in_the_field_of_old_is_one() -> None:
    pieces = [{"function_call": {"name": "add", "arguments": ""}}, {"function_call": {"arguments": A1}}]
    came = await native({"content": None, "function_call": None}, *pieces, finish="function_call")
    assert came.text == CALL
    assert came.last.finish_reason == "stop"
    assert (await native(*pieces, piece("add", A1, index=0, id="c1"))).text == CALL
    assert (await native({"content": CALL}, *pieces, piece("add", A1, index=0, id="c1"))).text == CALL


async def test_27_an_index_that_is_left_out_later_is_not_missed() -> None:
    one = piece("add", "", index=0, id="c1"), piece("add", "", index=1, id="c2")
    came = await native(*one, piece(None, A1, id="c1"), piece(None, A2, id="c2"))
    assert arguments_of(came) == [{"a": 1}, {"a": 2}]


async def test_a_call_in_the_field_of_old_has_a_shape() -> None:
    with pytest.raises(ModelError, match="for an event"):
        await native({"function_call": "add"})


async def test_47_a_call_in_the_text_is_known_again_however_its_field_has_it() -> None:
    came = await native({"content": CALL}, piece("add", json.dumps(A1), index=0, id="c1"))
    assert arguments_of(came) == [{"a": 1}]
