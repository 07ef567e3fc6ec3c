"""Exceptions in the user's own code, told with the traceback of that code and not of dptrain."""

import traceback
from pathlib import Path

import dptrain
from dptrain.errors import OwnCodeError

_OURS = (str(Path(dptrain.__file__).parent), "<frozen importlib")


def own_code_error(doing: str, error: BaseException, remedy: str = "") -> OwnCodeError:
    """Return the error that tells what the user's code raised.

    Args:
        doing: what was being done, such as ``"TwoLayerNet.gradient(x, t)"``.
        error: what was raised.
        remedy: what to do about it, if that is known.
    """
    begin = error.__traceback__
    while begin is not None and begin.tb_frame.f_code.co_filename.startswith(_OURS):
        begin = begin.tb_next
    lines = traceback.format_exception(type(error), error, begin)
    told = f"{doing} raised {type(error).__name__}: {error}" + f"; {remedy}" * bool(remedy)
    return OwnCodeError(told, "".join(lines))
