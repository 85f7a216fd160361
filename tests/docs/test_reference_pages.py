"""The generated pages are current, and hold what the code's own help and signatures say."""

import inspect
import re
from pathlib import Path

import api_reference
import cli_reference
import click
import pytest
from click.testing import CliRunner
from docstrings import render

import qwen3_compile
import qwen3_runtime
from qwen3_compile.cli.root import COMMANDS, root

DOCS = Path(__file__).resolve().parents[2] / "docs"
REMEDY = "run `python docs/generate`"
PAGES = {name: lambda package=package: api_reference.page(package) for name, package in api_reference.PAGES.items()}
PAGES["cli.md"] = cli_reference.page


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_what_the_code_says(name):
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == PAGES[name](), REMEDY


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_the_help_is_on_the_page(command):
    shown = CliRunner().invoke(root, [command, "--help"], terminal_width=200).output
    section = cli_reference.page().split(f"## `qwen3-compile {command}`\n")[1].split("\n## `")[0]
    options = set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", shown, re.MULTILINE)) - {"--help", "--quiet", "--verbose"}
    assert options == {name for name in re.findall(r"`(--[\w-]+)`", section) if name in options}
    assert len(options) == len(re.findall(r"^\| `-", section, re.MULTILINE))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_repeatable_where_an_option_is(command):
    found = root.get_command(click.Context(root), command)
    options = [each for each in found.params if isinstance(each, click.Option)]
    assert [each.name for each in options if (each.help or "").endswith("; repeatable.") != each.multiple] == []


@pytest.mark.parametrize("package", [qwen3_compile, qwen3_runtime])
def test_every_public_name_and_parameter_is_on_the_page(package):
    page = api_reference.page(package.__name__)
    for name in package.__all__:
        section = page.split(f"## `{name}`\n")[1].split("\n## `")[0]
        thing = getattr(package, name)
        if inspect.isfunction(thing):
            assert all(f"- `{parameter}`: " in section for parameter in inspect.signature(thing).parameters)


def test_sections_of_a_docstring_become_lists():
    def documented():
        """Say something.

        More of it,
        in two lines.

        Args:
            first: a number,
                of any size.
            **rest: whatever.

        Returns:
            A text,
            in two lines.
        """

    assert render(documented.__doc__) == [
        "Say something.",
        "More of it,\nin two lines.",
        "*Arguments*",
        "- `first`: a number, of any size.\n- `**rest`: whatever.",
        "*Returns*: A text, in two lines.",
    ]
