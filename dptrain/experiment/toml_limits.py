"""What a TOML text may be like, looked at before it is parsed.

The parser of Python takes memory by the square of the length of a dotted key, and its own stack
for every bracket; experiments have neither.
"""

import re

from dptrain.errors import UsageError

MOST_BYTES = 16 << 20  # offsets of hundreds of thousands of inputs
_DEEPEST = 150  # brackets within brackets: chains of layers, two for each
_MOST_PARTS = 20  # of a dotted key

# Strings and comments, in which brackets and dots mean nothing.
_QUOTED = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*', re.DOTALL
)
_DOTTED = re.compile(rf"(?<![\w.-])[\w-]+(?:[ \t]*\.[ \t]*[\w-]+){{{_MOST_PARTS}}}")
_BRACKETS = re.compile(r"[\[\]{}]")


def check_toml(text: str, origin: str) -> None:
    """Raise UsageError for a text that is too long, or nested too deeply, to be an experiment."""
    if len(text) > MOST_BYTES:
        raise UsageError(
            f"{origin} has {len(text):,} characters, and an experiment at most {MOST_BYTES:,}"
        )
    bare = _QUOTED.sub("x", text)
    if _DOTTED.search(bare):
        raise UsageError(f"{origin}: has a key of more than {_MOST_PARTS} parts")
    depth = 0
    for bracket in _BRACKETS.findall(bare):
        depth += 1 if bracket in "[{" else -1
        if depth > _DEEPEST:
            raise UsageError(f"{origin}: is nested more than {_DEEPEST} deep")
