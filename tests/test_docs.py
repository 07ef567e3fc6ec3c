"""The pages of docs/ name what exists, and say what the code does."""

import re
from pathlib import Path

import pytest

import dptrain
from dptrain import errors

ROOT = Path(__file__).parents[1]
API = ROOT / "docs" / "api"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:tests|dptrain|scripts|benchmarks|docs)/[\w/.-]+)`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", text):
        assert (page.parent / target).exists(), target


def test_the_reference_has_every_public_name() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in API.glob("*.md"))
    described = re.findall(r"^::: dptrain\.(\w+)$", pages, re.MULTILINE)
    assert sorted(described) == sorted([*dptrain.__all__, "errors"])


def test_the_reference_has_the_exit_code_of_every_error() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    codes = {each.__name__: each.exit_code for each in kinds if hasattr(each, "exit_code")}
    table = {
        name: int(code)
        for code, row in re.findall(r"^\| (\d+) \| (.*) \|$", _page("errors"), re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    rest = codes.keys() - table.keys()
    assert table.items() <= (codes | {"DptrainError": errors.EXIT_ERROR}).items()
    assert {codes[name] for name in rest} == {errors.EXIT_ERROR}
    for code in (errors.EXIT_SIGHUP, errors.EXIT_SIGTERM):
        assert f"{code} by SIG" in _page("errors")


def _page(name: str) -> str:
    return (API / f"{name}.md").read_text(encoding="utf-8")
