"""What a worker takes from the broker: messages as this node writes them, and nothing else."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screener.enqueue import IDS_OF_TASK, SCREEN_RUN, SEAL
from workers.transport import ForeignMessage, as_ours

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def ours(task: str = SCREEN_RUN, arguments: object = ("a-run",), **headers: Any) -> dict[str, Any]:
    content = json.dumps([arguments, {}, {"callbacks": None, "chord": None}]).encode()
    return {
        "body": base64.b64encode(content).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": task, "id": str(uuid.uuid4()), "expires": None, **headers},
        "properties": {
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": "routine"},
            "body_encoding": "base64",
        },
    }


def test_own_message_is_taken_and_loses_what_is_no_part_of_it() -> None:
    """Whatever else stands in the headers, Celery does not see it."""
    message = ours(timelimit=["x", {}], eta="never", chord={"task": SEAL}, argsrepr="DOE^JOHN")
    taken = as_ours(message)
    assert taken["body"] == message["body"]
    assert set(taken["headers"]) == {"lang", "task", "id", "root_id", "expires"}


@pytest.mark.parametrize("task", sorted(IDS_OF_TASK))
def test_each_task_has_its_number_of_ids(task: str) -> None:
    """One id more than the task takes is foreign."""
    ids = ["an-id"] * IDS_OF_TASK[task]
    assert as_ours(ours(task, ids))
    with pytest.raises(ForeignMessage):
        as_ours(ours(task, [*ids, "more"]))


@pytest.mark.parametrize("arguments", [[{"id": 1}], [None], ["x" * 65], "a-run", {"a": 1}, [7]])
def test_argument_that_is_no_id_is_foreign(arguments: object) -> None:
    """Types are those of an id, lengths too."""
    with pytest.raises(ForeignMessage, match="arguments"):
        as_ours(ours(SCREEN_RUN, arguments))


@given(value=_JSON, key=st.sampled_from(["body", "content-type", "headers", "properties"]))
def test_any_other_value_is_foreign(value: object, key: str) -> None:
    """In any place, any JSON: refused by its name, never by a crash, nothing of it repeated."""
    with pytest.raises(ForeignMessage):
        as_ours({**ours(), key: value})
    with pytest.raises(ForeignMessage):
        as_ours(value)


@given(value=_JSON.filter(bool), key=st.sampled_from(["task", "id", "expires"]))
def test_any_other_header_is_foreign(value: object, key: str) -> None:
    """The three headers that are read are what they must be."""
    with pytest.raises(ForeignMessage):
        as_ours(ours(**{key: value}))
