"""Damage the bytes of a file in every way that a copy or a disk could."""

from hypothesis import strategies as st


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """Return the bytes cut short, lengthened, or with a few of them changed."""
    content = bytearray(original)
    for _ in range(draw(st.integers(0, 3))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))]) + draw(st.binary(max_size=3))
