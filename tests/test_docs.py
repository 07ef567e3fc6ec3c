"""The pages of docs/ name what exists, and say what the code does."""

import re
import tomllib
from pathlib import Path

import pytest

import dptrain
from dptrain import errors
from dptrain.machine.signals import INSISTENT, ONCE

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


def test_the_list_of_layers_is_that_of_the_contract() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        (contract, *_) = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    enforced = [name for line in contract["layers"] for name in line.split(" | ")]
    _, block, *_ = _page("architecture").partition("## The layers")[2].split("```")
    listed = [line[:24].strip().split(" | ") for line in block.strip().splitlines()]
    assert [name for line in listed for name in line] == enforced


def test_the_exit_codes_of_errors() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    codes = {each.__name__: each.exit_code for each in kinds if hasattr(each, "exit_code")}
    told = {name: code.split(", ") for code, _, names in _exit_codes() for name in names}
    others = {name: code for name, code in codes.items() if name not in told}
    assert {name: str(codes[name]) in told[name] for name in told} == dict.fromkeys(told, True)
    assert set(others.values()) == {errors.EXIT_ERROR}


@pytest.mark.parametrize("constant", ["EXIT_CHECK_FAILED", "EXIT_INCONCLUSIVE"])
def test_the_exit_codes_of_checks(constant: str) -> None:
    (told,) = (verbs for code, verbs, _ in _exit_codes() if code == str(getattr(errors, constant)))
    cli = ROOT / "dptrain" / "cli"
    verbs = {each.stem for each in cli.glob("*.py") if constant in each.read_text("utf-8")}
    assert set(told) == verbs | {"gradcheck"}  # whose verdict has the code


def test_the_exit_codes_of_signals() -> None:
    (told,) = (code for code, _, _ in _exit_codes() if "," in code)
    assert set(map(int, told.split(", "))) == {128 + each for each in (*INSISTENT, *ONCE)}


def _exit_codes() -> list[tuple[str, list[str], list[str]]]:
    """Return the rows of the table of exit codes, of their other cells what stands in backticks."""
    rows = re.findall(r"^\| ([\d, ]+) \| (.*) \| (.*) ?\|$", _page("api/errors"), re.MULTILINE)
    return [(c, re.findall(r"`(\w+)`", m), re.findall(r"`(\w+)`", e)) for c, m, e in rows]


def _page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
