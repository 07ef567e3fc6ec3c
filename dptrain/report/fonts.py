"""Fonts for names in any script: matplotlib's own has no Korean, Japanese or Chinese."""

from collections.abc import Iterable

# Looked at first, as they are of one weight and of many characters; then whatever is installed.
PREFERRED = (
    "Noto Sans CJK KR",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "NanumGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "Hiragino Sans",
    "Yu Gothic",
    "IPAexGothic",
    "WenQuanYi Zen Hei",
)


def families(texts: Iterable[str]) -> list[str]:
    """Return fonts that together have the characters of some texts: the first that are installed.

    The first of them is matplotlib's own. Where no font has a character, it is drawn as a box.
    """
    from matplotlib.font_manager import findfont, fontManager  # its import takes half a second

    found = ["DejaVu Sans"]
    foreign = {ord(c) for text in texts for c in text if c.isprintable() and not c.isascii()}
    missing = foreign and foreign - _of(findfont(found[0]))
    if not missing:
        return found
    _learn_new_fonts()
    regular = [
        font
        for font in fontManager.ttflist
        if font.style == "normal" and str(font.weight) in _REGULAR and font.name != _BOXES
    ]
    order = {name: place for place, name in enumerate(PREFERRED)}
    for font in sorted(regular, key=lambda font: (order.get(font.name, len(order)), font.name)):
        has = missing & _of(font.fname)
        if has:
            found.append(font.name)
            missing -= has
        if not missing:
            break
    return found


_BOXES = "Last Resort High-Efficiency"  # which comes with matplotlib, has a box for each script
_REGULAR = ("400", "normal", "regular", "book")


def _of(path: str) -> set[int]:
    """Return the characters of a font file, none where it cannot be read."""
    from matplotlib.ft2font import FT2Font  # here, for the reason given in `families`

    try:
        return set(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return set()


def _learn_new_fonts() -> None:
    """Have matplotlib know the fonts that were installed since it last looked."""
    from matplotlib.font_manager import findSystemFonts, fontManager  # as in `families`

    for path in set(findSystemFonts()) - {font.fname for font in fontManager.ttflist}:
        try:
            fontManager.addfont(path)
        except (OSError, RuntimeError, ValueError):  # a font that FreeType cannot read
            continue
