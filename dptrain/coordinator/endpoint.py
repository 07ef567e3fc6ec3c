"""Where the coordinator can be reached: a socket file in a private folder, or a loopback port."""

import os
import shutil
from pathlib import Path

import zmq

from dptrain.errors import ResourceError, UsageError
from dptrain.exchange.buckets import BUCKET_BYTES
from dptrain.experiment.execution import Execution
from dptrain.scratch import socket_folder

SOCKET = "coordinator"


class Endpoint:
    """A bound ROUTER socket and its address.

    Attributes:
        address: for workers to connect to.
        socket: bound to it.
    """

    def __init__(self, execution: Execution, max_frame: int, messages: int) -> None:
        """Bind.

        Args:
            execution: settled; its transport and address.
            max_frame: bytes of the longest legal frame; a longer one ends its connection.
            messages: most that can be under way to one worker at a time.

        Raises:
            UsageError: the address is taken.
            ResourceError: there is none where the machine could listen.
        """
        self._context = zmq.Context()
        self._folder: Path | None = None
        self.socket = self._context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.copy_threshold = BUCKET_BYTES
        self.socket.router_mandatory = True
        self.socket.maxmsgsize = max_frame
        self.socket.handshake_ivl = 2000
        self.socket.sndhwm = self.socket.rcvhwm = messages
        try:
            self.address = self._bind(execution)
        except BaseException:
            self.close()
            raise

    def _bind(self, execution: Execution) -> str:
        if execution.listen is None:
            return self._bind_anywhere(execution.transport == "ipc")
        if "[" in execution.listen:
            self.socket.ipv6 = True
        try:
            self.socket.bind(execution.listen.replace("localhost", "127.0.0.1"))
        except zmq.ZMQError as error:
            raise UsageError(
                f"cannot listen on {execution.listen}: {os.strerror(error.errno or 0).lower()}; "
                "give --listen another port, or leave it out to have one chosen"
            ) from None
        return execution.listen

    def _bind_anywhere(self, ipc: bool) -> str:
        place = "127.0.0.1"
        try:
            if not ipc:
                return f"tcp://{place}:{self.socket.bind_to_random_port(f'tcp://{place}')}"
            # nobody else can reach the socket in it
            place = str(folder := socket_folder("ipc", SOCKET))
            self._folder = folder
            address = f"ipc://{folder}/{SOCKET}"
            self.socket.bind(address)
        except zmq.ZMQError as error:
            raise ResourceError(
                f"cannot listen in {place}: {os.strerror(error.errno or 0).lower()}; use another "
                "--transport, ipc or tcp; dptrain doctor tells which works"
            ) from None
        return address

    def close(self) -> None:
        """Unbind, and remove the socket file."""
        self._context.destroy()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
