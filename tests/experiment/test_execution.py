"""Settings of an execution that exclude each other are refused, by name and with a way out."""

from typing import Any

import pytest

from dptrain.errors import UsageError
from dptrain.experiment.execution import Execution, settle_execution


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"exchange": "inline", "workers": 2}, "inline runs in one process, not with workers=2"),
        ({"exchange": "inline", "join": 1}, "inline has no workers to wait for; use --exchange"),
        ({"exchange": "inline", "transport": "tcp"}, "inline has no workers to wait for"),
        ({"exchange": "shared", "join": 1}, "shared is for workers that this command starts"),
        ({"exchange": "shared", "listen": "tcp://127.0.0.1:5555"}, "leave out --join, --listen"),
        ({"exchange": "star", "barrier": "flags"}, "star has no barrier; leave out --barrier"),
        ({"workers": 1, "barrier": "events"}, "inline has no barrier"),
        ({"workers": 2, "join": 3}, "join=3 is more than workers=2"),
        ({"listen": "127.0.0.1:5555"}, "is not an address; give one like tcp://"),
        ({"listen": "tcp://127.0.0.1:0"}, "the port must be 1 to 65535"),
        ({"listen": "tcp://0.0.0.0:5555"}, "beyond this machine"),
    ],
)
def test_what_excludes_each_other_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        settle_execution(Execution(**given), None)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, ("shared", 2, "ipc")),
        ({"workers": 1}, ("inline", 1, "ipc")),
        ({"exchange": "inline"}, ("inline", 1, "ipc")),
        ({"exchange": "inline", "workers": "auto"}, ("inline", 1, "ipc")),
        ({"join": 1}, ("star", 2, "tcp")),
        ({"listen": "tcp://[::1]:5555"}, ("star", 2, "tcp")),
        ({"transport": "tcp"}, ("star", 2, "tcp")),
        ({"exchange": "star", "workers": 3}, ("star", 3, "ipc")),
    ],
)
def test_what_is_left_open_is_decided(given: dict[str, Any], wanted: tuple[str, int, str]) -> None:
    found = settle_execution(Execution(**given), None)
    assert (found.exchange, found.workers, found.transport) == wanted
    assert settle_execution(found, None) == found
