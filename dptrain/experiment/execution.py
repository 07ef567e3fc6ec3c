"""Deciding what an execution leaves open. Imports no mathematics: workers wait for this."""

import msgspec

from dptrain.arithmetic.shards import default_shards
from dptrain.errors import UsageError
from dptrain.experiment.schema import Execution
from dptrain.machine.cores import usable_cores

DEFAULT_WORKERS = 2


def settle_execution(execution: Execution, shards: int | None) -> Execution:
    """Return the execution with the number of workers and the exchange decided.

    Raises:
        UsageError: settings that exclude each other.
    """
    exchange = execution.exchange
    workers = _settled_workers(execution, shards)
    networked = execution.join or execution.listen or execution.transport == "tcp"
    if exchange is None:
        exchange = "star" if networked else "inline" if workers == 1 else "shared"
    if exchange == "inline" and workers > 1:
        raise UsageError(
            f"exchange inline runs in one process, not with workers={workers}; use --workers 1 "
            "or --exchange shared"
        )
    if exchange == "shared" and networked:
        raise UsageError(
            "exchange shared is for workers that this command starts on this machine; leave out "
            "--join, --listen and --transport tcp, or use --exchange star"
        )
    if execution.barrier and exchange != "shared":
        raise UsageError(f"exchange {exchange} has no barrier; leave out --barrier")
    if execution.join > workers:
        raise UsageError(f"join={execution.join} is more than workers={workers}")
    if exchange == "inline" and (execution.join or execution.listen):
        raise UsageError("exchange inline has no workers to wait for; use --exchange star")
    listen = execution.listen
    if listen is not None:
        _check_listen(listen)
    transport = "tcp" if execution.join or (listen or "").startswith("tcp") else execution.transport
    return msgspec.structs.replace(
        execution, workers=workers, exchange=exchange, transport=transport
    )


def _settled_workers(execution: Execution, shards: int | None) -> int:
    inline = execution.exchange == "inline"
    if execution.workers is None:
        return 1 if inline else DEFAULT_WORKERS
    if execution.workers == "auto":
        return 1 if inline else min(usable_cores(), shards or default_shards(1))
    return execution.workers


LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def _check_listen(listen: str) -> None:
    host, colon, port = listen.removeprefix("tcp://").rpartition(":")
    if not listen.startswith("tcp://") or not colon or not port.isdigit():
        raise UsageError(f"listen={listen!r} is no address; give one like tcp://127.0.0.1:5555")
    if not 1 <= int(port) <= 65535:
        raise UsageError(f"listen={listen!r}: the port must be 1 to 65535")
    if host not in LOOPBACK:
        raise UsageError(
            f"listen={listen!r} is beyond this machine; gradients are not encrypted, so only "
            f"{', '.join(LOOPBACK)} can be listened on"
        )
