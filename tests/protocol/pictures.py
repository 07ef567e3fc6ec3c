"""The machines' tables as pictures: ``python -m tests.protocol.pictures`` writes them to docs/."""

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from dptrain.protocol import coordinator, events, worker

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"


def picture(table: Mapping[Any, Any], first: Enum) -> str:
    """Return a table as a state diagram of Mermaid; events that change no state are a note."""
    lines = ["stateDiagram-v2", f"    [*] --> {first.name}"]
    stays: dict[Enum, list[str]] = {}
    for (state, kind), row in table.items():
        if row.then is None:
            stays.setdefault(state, []).append(kind.__name__)
        else:
            lines.append(f"    {state.name} --> {row.then.name}: {kind.__name__}")
    for state, kinds in stays.items():
        lines.append(f"    note right of {state.name}: {', '.join(kinds)}")
    return "\n".join(["```mermaid", *lines, "```"])


def page() -> str:
    """Return docs/protocol.md with its pictures made anew."""
    coordinators = picture(coordinator.TRANSITIONS, events.CoordinatorState.JOINING)
    workers = picture(worker.TRANSITIONS, worker.WorkerState.GREETING)
    head, *parts = PAGE.read_text(encoding="utf-8").split("```mermaid\n")
    pairs = zip((coordinators, workers), parts, strict=True)
    return head + "".join(picture + part.partition("```")[2] for picture, part in pairs)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
