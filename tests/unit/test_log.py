from __future__ import annotations

import json
import logging
import sys

from flared.log import (
    REQUESTS_MAX,
    JsonFormatter,
    TextFormatter,
    current_request,
    format_time,
    name_requests,
    one_line,
    request_id,
)


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("flared.x", logging.WARNING, "x.py", 1, message, arguments, None)


def test_a_name_cannot_forge_a_line() -> None:
    line = TextFormatter(journal=False).format(record("event=a key=%s", "x\nevent=b \x1b[2J"))
    assert "\n" not in line
    assert "\x1b" not in line
    assert one_line("grün a=b") == "grün a=b"


def test_journald_gets_the_priority_of_every_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        entry = record("event=a")
        entry.exc_info = sys.exc_info()
    assert all(line.startswith("<4>") for line in TextFormatter(journal=True).format(entry).split("\n"))


def test_json_has_the_pairs_of_the_event() -> None:
    event = json.loads(
        JsonFormatter(journal=False).format(record("event=lost node=%s reason=%r", "data2", 'it\'s "gone"'))
    )
    assert (event["event"], event["node"], event["reason"]) == ("lost", "data2", 'it\'s "gone"')
    assert json.loads(JsonFormatter(journal=False).format(record("words")))["message"] == "words"


def test_json_has_its_priority_before_it_under_journald() -> None:
    line = JsonFormatter(journal=True).format(record("event=lost"))
    assert line.startswith("<4>{")
    assert json.loads(line.removeprefix("<4>"))["event"] == "lost"


def test_lines_of_a_request_carry_its_id() -> None:
    token = current_request.set(17)
    try:
        assert request_id().endswith("-000011")
        assert f"request={request_id()}" in TextFormatter(journal=False).format(record("event=a"))
    finally:
        current_request.reset(token)


def test_times_are_cut_to_milliseconds() -> None:
    assert format_time(0.9999) == "1970-01-01T00:00:00.999Z"
    assert format_time(1763716728.5) == "2025-11-21T09:18:48.500Z"


def test_an_id_that_came_with_a_request_is_kept() -> None:
    token = current_request.set("c0ffee-1")
    try:
        assert request_id() == "c0ffee-1"
    finally:
        current_request.reset(token)
    assert name_requests(["c0ffee-1", 0, "", 255]).startswith("c0ffee-1,")
    assert name_requests(["c0ffee-1", 0, "", 255]).endswith("-0000ff")
    assert name_requests([0]) == ""
    assert len(name_requests(range(1000)).split(",")) == REQUESTS_MAX
