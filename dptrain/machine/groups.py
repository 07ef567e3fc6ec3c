"""The control groups of this process, in both versions that Linux has (cgroups(7)).

A limit may be set by a group that this one lies in, so all up to the root are looked at. In a
container the files of its own group often stand at the root, and its name means nothing there.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
ROOT = Path("/sys/fs/cgroup")


def groups(controller: str) -> Iterator[tuple[int, Path]]:
    """Yield version, 1 or 2, and folder of every group that limits this process, inner ones first.

    Args:
        controller: such as ``memory``.
    """
    names = {"": "/"} | dict(_memberships())
    for mount in (ROOT, ROOT / "unified"):  # the latter where both versions are in use
        yield from ((2, folder) for folder in _upwards(mount, names[""]))
    for controllers, name in names.items():
        if controller in controllers.split(","):
            yield from ((1, folder) for folder in _upwards(ROOT / controllers, name))
    if not any(controller in each.split(",") for each in names):
        yield from ((1, folder) for folder in _upwards(ROOT / controller, "/"))


def group_number(folder: Path, name: str, key: str = "") -> int | None:
    """Return the number in a file of a group; None where there is none, or it says ``max``.

    Args:
        folder: of the group.
        name: of the file.
        key: the word before the number, in files of several.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / name).read_text().splitlines():
            words = line.split()
            if not key or words[0] == key:
                return int(words[-1])
    return None


def _memberships() -> Iterator[tuple[str, str]]:
    """Yield the controllers of a hierarchy, none in version 2, and the group there."""
    with contextlib.suppress(OSError):
        for line in MEMBERSHIP.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            yield controllers, name


def _upwards(mount: Path, name: str) -> Iterator[Path]:
    parts = [part for part in name.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        folder = mount.joinpath(*parts[:count])
        if folder.is_dir():
            yield folder
