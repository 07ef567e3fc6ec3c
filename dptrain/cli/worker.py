"""``dptrain worker``."""

from pathlib import Path

from dptrain.cli.flags import CodeFlags
from dptrain.errors import UsageError
from dptrain.worker.shell import Connection, WorkerShell


def worker(*, connect: str, key: Path, code: CodeFlags | None = None) -> int:
    """Join a run that waits for workers started by hand.

    The run prints the address and the key file when it waits: dptrain train --join 1.

    Args:
        connect: The coordinator's address, such as tcp://127.0.0.1:5555.
        key: The run's key file.
        code: For a network of your own, which this worker imports only if you name it here.
    """
    if not connect.startswith(("tcp://", "ipc://")):
        raise UsageError(
            f"connect={connect!r} is not an address; give the one that the run printed, such as "
            "tcp://127.0.0.1:5555"
        )
    origin = code.named() if code is not None else None
    return WorkerShell(Connection(connect, _read_key(key), origin=origin)).run()


def _read_key(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
        secret = bytes.fromhex(text)
    except OSError as error:
        raise UsageError(f"cannot read the key {path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} is not a key file; name the run's worker.key") from None
    if mode & 0o077:
        raise UsageError(f"others can read the key {path}; protect it with: chmod 600 {path}")
    return secret
