"""How an experiment is carried out, and the defaults for what is left open.

Imports no mathematics: workers wait for this.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from dptrain.arithmetic.shards import default_shards
from dptrain.errors import UsageError
from dptrain.experiment.exchanges import EXCHANGES, INLINE, SHARED, STAR, Exchange, ExchangeName
from dptrain.experiment.setting_types import PositiveFloat, PositiveInt
from dptrain.machine.cores import usable_cores

DEFAULT_WORKERS = 2
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Execution(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings that decide only the speed."""

    workers: Annotated[
        PositiveInt | Literal["auto"] | None,
        Meta(description="Worker processes, 2 unless given; auto: one for each core."),
    ] = None
    exchange: Annotated[
        ExchangeName | None,
        Meta(
            description="How gradients travel; by default inline for one worker, shared for more, "
            "star where workers join over a network."
        ),
    ] = None
    barrier: Annotated[
        Literal["flags", "events"] | None,
        Meta(description="How they wait in shared memory; by default what suits the machine."),
    ] = None
    transport: Annotated[
        Literal["ipc", "tcp"], Meta(description="What ZeroMQ runs over, for the star.")
    ] = "ipc"
    listen: Annotated[
        str | None,
        Meta(description="Where to wait for workers, such as tcp://127.0.0.1:5555."),
    ] = None
    join: Annotated[
        Annotated[int, Meta(ge=0)],
        Meta(description="How many of the workers you start yourself with dptrain worker."),
    ] = 0
    pin: Annotated[
        bool | None,
        Meta(description="Bind each launched worker to a core, where nobody else needs the cores."),
    ] = None
    trace: Annotated[
        bool | None,
        Meta(description="Write a timeline, trace.json in the run folder, for ui.perfetto.dev."),
    ] = None
    worker_timeout: Annotated[
        PositiveFloat,
        Meta(
            description="Seconds without a word after which a worker is given up, or ten times as "
            "long as such work took before."
        ),
    ] = 60.0
    log_every: Annotated[PositiveInt, Meta(description="Steps between lines of metrics.jsonl.")] = (
        100
    )
    checkpoint_every: Annotated[
        PositiveInt | None,
        Meta(description="Steps between checkpoints, beside those of the epochs."),
    ] = None
    keep_checkpoints: Annotated[
        bool | None,
        Meta(
            description="Also keep every epoch's checkpoint, as checkpoints/epoch-0001 and so on."
        ),
    ] = None
    record_digests: Annotated[
        bool | None,
        Meta(description="Record every tensor's digest at every logged step, for dptrain bisect."),
    ] = None

    @property
    def world_size(self) -> int:
        """How many workers there are, in a settled execution."""
        assert isinstance(self.workers, int)
        return self.workers


def settle_execution(execution: Execution, shards: int | None) -> Execution:
    """Return the execution with the number of workers, the exchange and the transport decided.

    Args:
        execution: as the user gave it.
        shards: of the experiment, or None where that is still open; ``auto`` starts no more
            workers than these.

    Raises:
        UsageError: settings that exclude each other, or an address that cannot be listened on.
    """
    workers = _settled_workers(execution, shards)
    networked = execution.join or execution.listen or execution.transport == "tcp"
    if execution.exchange is None:
        exchange = STAR if networked else INLINE if workers == 1 else SHARED
    else:
        exchange = EXCHANGES[execution.exchange]
    if workers > 1 and not exchange.workers:
        raise UsageError(
            f"exchange {exchange.name} runs in one process, not with workers={workers}; use "
            "--workers 1 or --exchange shared"
        )
    if networked and not exchange.sockets:
        raise UsageError(
            f"exchange {exchange.name} is for workers that this command starts on this machine; "
            "leave out --join, --listen and --transport tcp, or use --exchange star"
            if exchange.workers
            else f"exchange {exchange.name} has no workers to wait for; use --exchange star"
        )
    if execution.barrier and not exchange.memory:
        raise UsageError(f"exchange {exchange.name} has no barrier; leave out --barrier")
    if execution.join > workers:
        raise UsageError(f"join={execution.join} is more than workers={workers}")
    listen = execution.listen
    if listen is not None:
        _check_listen(listen)
    transport = "tcp" if execution.join or (listen or "").startswith("tcp") else execution.transport
    return msgspec.structs.replace(
        execution, workers=workers, exchange=exchange.name, transport=transport
    )


def exchange_of(execution: Execution) -> Exchange:
    """Return how gradients travel in a settled execution."""
    assert execution.exchange is not None
    return EXCHANGES[execution.exchange]


def _settled_workers(execution: Execution, shards: int | None) -> int:
    alone = execution.exchange is not None and not EXCHANGES[execution.exchange].workers
    if execution.workers is None:
        return 1 if alone else DEFAULT_WORKERS
    if execution.workers == "auto":
        return 1 if alone else min(usable_cores(), shards or default_shards(1))
    return execution.workers


def _check_listen(listen: str) -> None:
    host, colon, port = listen.removeprefix("tcp://").rpartition(":")
    if not listen.startswith("tcp://") or not colon or not port.isdigit():
        raise UsageError(f"listen={listen!r} is not an address; give one like tcp://127.0.0.1:5555")
    if not 1 <= int(port) <= 65535:
        raise UsageError(f"listen={listen!r}: the port must be 1 to 65535")
    if host not in LOOPBACK:
        raise UsageError(
            f"listen={listen!r} is beyond this machine; gradients are not encrypted, so only "
            f"{', '.join(LOOPBACK)} can be listened on"
        )
