"""A worker process with a mutant: ``python -m tests.gradcheck.mutation.worker MUTANT``.

``@FILE`` in a mutant's place has the names of all functions that were run appended to the file.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from dptrain.worker.startup import main
from tests.gradcheck.mutation.mutants import ROOT, Mutant, infect


@contextlib.contextmanager
def traced(file: str) -> Iterator[None]:
    """Append module and qualified name of every function that the block runs to a file."""
    seen: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            seen.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        with Path(file).open("a") as sink:
            for path, name in seen:
                if path.startswith(str(ROOT)):
                    parts = Path(path).relative_to(ROOT).with_suffix("").parts
                    sink.write(".".join(("dptrain", *parts)) + f":{name.split('.<locals>')[0]}\n")


if __name__ == "__main__":
    name = sys.argv[1]
    if not name.startswith("@"):
        infect(Mutant.named(name))
    with traced(name[1:]) if name.startswith("@") else contextlib.nullcontext():
        code = main()
    sys.exit(code)
