"""What the papers name is there: paths, links, modules and rooms."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from command_process import COMMANDS, module_of

from vla_edge.export import families

ROOT = Path(__file__).parents[1]
ROOMS = ("runtime", "export", "bench")
PAPERS = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "bench/**/*.md", "engines/*.md", "docker/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)
# a path of this repository, in text, code or a link
PATH = re.compile(
    rf"(?<![\w./-])(?:{'|'.join((*ROOMS, 'tests', 'docs', 'docker', 'examples'))})/[\w./-]*[\w/]"
)
# a file's name alone, as `cli.py`
FILE = re.compile(r"(?<![\w./*{-])[\w-]+\.py\b")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
MODULE = re.compile(r"\bvla_edge(?:\.[a-z_0-9]+)+")
CODE = re.compile(r"```\w*\n(.*?)```|`([^`]+)`", re.DOTALL)
RUN = re.compile(rf"(?:^|[\s/])({'|'.join(COMMANDS)}|-m vla_edge[\w.]*\w\b(?!\.))( [^`#|&;]*)?")


def text_of(paper: Path) -> str:
    return (ROOT / paper).read_text(encoding="utf-8")


def anchors_of(text: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def packages() -> list[str]:
    return sorted(
        path.parent.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    )


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_every_path_that_a_paper_names_is_there(paper: Path) -> None:
    found = set(PATH.findall(re.sub(r"https?://\S+", "", text_of(paper))))
    assert sorted(path for path in found if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_every_python_file_that_a_paper_names_alone_is_somewhere(paper: Path) -> None:
    found = set(FILE.findall(re.sub(r"https?://\S+", "", text_of(paper))))
    assert sorted(found - python_files()) == []


@cache
def python_files() -> frozenset[str]:
    """The names of all files of code."""
    tops = (*ROOMS, "tests", "docs", "examples")
    return frozenset(path.name for top in tops for path in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_every_link_leads_somewhere(paper: Path) -> None:
    broken = []
    for target, anchor in LINK.findall(text_of(paper)):
        there = (ROOT / paper).parent / target if target else ROOT / paper
        if not there.exists() or (anchor and anchor not in anchors_of(there.read_text(encoding="utf-8"))):
            broken.append(f"{target}#{anchor}" if anchor else target)
    assert broken == []


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_every_module_that_a_paper_names_is_there(paper: Path) -> None:
    found = set(MODULE.findall(text_of(paper))) - {families.GROUP}
    assert sorted(name for name in found if not is_there(name)) == []


def is_there(name: str) -> bool:
    """Whether this is a module, or what a module holds."""
    parent, _, last = name.rpartition(".")
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return find_spec(parent) is not None and hasattr(import_module(parent), last)


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_every_command_that_a_paper_shows_has_the_options_given(paper: Path) -> None:
    wrong = []
    for line in code_lines(text_of(paper)):
        for name, rest in RUN.findall(line):
            if not (command := command_of(name, rest.split())):
                continue
            known = {
                option for parameter in command.params for option in parameter.opts + parameter.secondary_opts
            }
            given = {word.partition("=")[0] for word in rest.split() if re.match(r"-{1,2}[a-z]", word)}
            wrong += [f"{name} {option}" for option in given - known - {"-h", "--help"}]
    assert wrong == []


def code_lines(text: str) -> list[str]:
    """Lines of fenced code and code in the text; a line that ends in a backslash goes on."""
    blocks = [fenced or inline for fenced, inline in CODE.findall(text)]
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def command_of(name: str, words: list[str]) -> click.Command | None:
    """The command that a line starts; None for a module that has no options, such as one that prints a schema."""
    module = name.removeprefix("-m ") if name.startswith("-m ") else module_of(name)
    if is_there(f"{module}.__main__"):
        module += ".__main__"
    found = [value for value in vars(import_module(module)).values() if isinstance(value, click.Command)]
    groups = [command for command in found if isinstance(command, click.Group)]
    if groups:
        group = groups[0]
        return group.commands.get(words[0] if words else "", getattr(group, "default", group))
    return found[0] if found else None


@pytest.mark.parametrize("package", packages())
def test_the_map_of_rooms_has_every_package_in_its_own_words(package: str) -> None:
    module = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    summary = (ast.get_docstring(module) or "").partition("\n")[0]
    assert summary, f"{package}/__init__.py says nothing"
    line = f"- `{package}/`: {summary}" if "/" in package else f"**`{package}/`**: {summary}"
    assert line in text_of(Path("CONTRIBUTING.md")).splitlines(), f"put into CONTRIBUTING.md: {line}"


def test_the_index_has_every_page() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"^\| \[([\w.]+)\]\(\1\)", text_of(Path("docs/README.md")), re.MULTILINE))
