"""The door of the workers: a message that none of us could have sent goes no further.

Whoever may write to Redis may put anything into a list. Celery prints what it does not understand,
and ends where it is no message at all; so a message is measured before Celery sees it: JSON for a
task of ours, small, with one id at most, and nothing that sends more messages. What is refused is
dropped: the database knows what there is to do (ADR 0003).
"""

from __future__ import annotations

import base64
import json
import time
from datetime import datetime
from queue import Empty
from typing import Any
from uuid import UUID

from kombu.transport import redis
from kombu.transport.virtual import Message

from screener.enqueue import IDS_OF_TASK
from screener.logs import get_log

#: Where Celery finds the transport.
TRANSPORT = "workers.transport:Transport"
#: Longest body, in characters of Base64; an id takes a tenth of it.
MAX_BODY_LENGTH = 2_000
MAX_ID_LENGTH = 64
#: How often refusals are told, in seconds.
TELL_EVERY_S = 10.0

#: What is left of a message that could not be read at all.
_NO_MESSAGE = (json.JSONDecodeError, UnicodeDecodeError, RecursionError)


class ForeignMessage(ValueError):
    """A message that no part of this node has sent."""


class OwnMessage(Message):
    """A message of ours; anything else raises `ForeignMessage`."""

    def __init__(self, payload: object, channel: object = None, **more: object) -> None:
        super().__init__(as_ours(payload), channel=channel, **more)  # type: ignore[no-untyped-call]


class OwnQoS(redis.QoS):
    """Puts nothing back: what is not acknowledged is rung for again by the sweep."""

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Do nothing."""
        del start, num, interval


class Channel(redis.Channel):
    """Reads lists of Redis, and drops what is none of ours."""

    Message = OwnMessage
    QoS = OwnQoS
    _n_refused = 0
    _tell_again_s = 0.0

    def _brpop_read(self, **options: object) -> bool:
        try:
            return bool(super()._brpop_read(**options))  # type: ignore[no-untyped-call]
        except (ForeignMessage, *_NO_MESSAGE) as error:
            self._tell(error)
            return True

    def _get(self, queue: Any, timeout: Any = None) -> Any:
        del timeout
        try:
            return super()._get(queue)  # type: ignore[no-untyped-call]
        except _NO_MESSAGE as error:
            self._tell(error)
            raise Empty from error

    def _tell(self, error: Exception) -> None:
        """Write a line now and then: a million messages must not fill the disk."""
        self._n_refused += 1
        if time.monotonic() < self._tell_again_s:
            return
        what = str(error) if isinstance(error, ForeignMessage) else type(error).__name__
        get_log().warning("messages_refused", count=self._n_refused, reason=what)
        self._n_refused, self._tell_again_s = 0, time.monotonic() + TELL_EVERY_S


class Transport(redis.Transport):
    """Redis with this door."""

    Channel = Channel


def as_ours(payload: object) -> dict[str, Any]:
    """Give a message as this node would have written it: its task, its id, its end, one argument.

    Raises
    ------
    ForeignMessage
        This node does not send such a message; the text says what is strange, and repeats nothing.
    """
    message = _mapping(payload, "message")
    headers = _mapping(message.get("headers"), "headers")
    properties = _mapping(message.get("properties"), "properties")
    delivery = _mapping(properties.get("delivery_info"), "delivery info")
    _demand(message.get("content-type") == "application/json", "content type")
    _demand(message.get("content-encoding") == "utf-8", "encoding")
    _demand(properties.get("body_encoding") == "base64", "body encoding")
    _demand(_is_short(properties.get("delivery_tag")), "delivery tag")
    queue = {key: delivery.get(key) for key in ("exchange", "routing_key")}
    _demand(all(_is_short(one) for one in queue.values()), "queue")
    task, identifier, expires = (headers.get(key) for key in ("task", "id", "expires"))
    _demand(isinstance(task, str) and task in IDS_OF_TASK, "task")
    _demand(_is_uuid(identifier), "id")
    _demand(expires is None or _is_time(expires), "end")
    _check_body(message.get("body"), IDS_OF_TASK[str(task)])
    return {
        "body": message["body"],
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": task,
            "id": identifier,
            "root_id": identifier,
            "expires": expires,
        },
        "properties": {
            "correlation_id": identifier,
            "delivery_mode": 2,
            "delivery_tag": properties["delivery_tag"],
            "delivery_info": queue,
            "body_encoding": "base64",
        },
    }


def _check_body(body: object, n_ids: int) -> None:
    _demand(isinstance(body, str) and len(body) <= MAX_BODY_LENGTH, "length")
    try:
        content = json.loads(base64.b64decode(str(body), validate=True))
        arguments, keywords, embedded = content
    except (ValueError, TypeError, RecursionError) as error:
        raise ForeignMessage("body") from error
    _demand(isinstance(arguments, list) and len(arguments) == n_ids, "arguments")
    _demand(all(_is_short(one) for one in arguments), "arguments")
    _demand(keywords == {}, "keywords")
    _demand(isinstance(embedded, dict) and not any(embedded.values()), "callbacks")


def _mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ForeignMessage(what)
    return value


def _demand(holds: object, what: str) -> None:
    if not holds:
        raise ForeignMessage(what)


def _is_short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_ID_LENGTH


def _is_uuid(value: object) -> bool:
    try:
        return _is_short(value) and bool(UUID(str(value)))
    except ValueError:
        return False


def _is_time(value: object) -> bool:
    try:
        return _is_short(value) and bool(datetime.fromisoformat(str(value)))
    except ValueError:
        return False
