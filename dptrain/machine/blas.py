"""One thread for BLAS: with more, the last bits of float32 products would be others."""

from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController

from dptrain.machine.process_wide import ProcessWide, Restore


def one_blas_thread() -> AbstractContextManager[None]:
    """Have every BLAS of the process compute in one thread until the block ends.

    Of blocks that overlap, in whatever threads, the last to end gives the threads back.
    """
    return _THREADS.changed()


def _limited() -> Restore:
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    before = [(each, each.num_threads) for each in libraries]
    for each in libraries:
        _set(each, 1)

    def restore() -> None:
        for each, threads in before:
            _set(each, threads)
            _yield_control(each)

    return restore


def _set(library: Any, threads: int) -> None:
    library.set_num_threads(threads)
    if library.num_threads != threads:  # another thread has been the first to set it
        _yield_control(library, force=True)
        library.set_num_threads(threads)


def _yield_control(library: Any, **how: bool) -> None:
    """Let any thread set the number: threadpoolctl heeds only one, silently, from 3.8 on."""
    if hasattr(library, "clear_controlling_thread"):
        library.clear_controlling_thread(**how)


_THREADS = ProcessWide(_limited)
