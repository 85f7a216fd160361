"""The command line as people and scripts meet it: help, specs, errors in one line, exit codes."""

import json
import os
import subprocess
import sys

import click
import pytest
from ruamel.yaml import YAML

from qwen3_compile.cli import main
from qwen3_compile.cli.failures import run_command
from qwen3_compile.cli.output import print_json
from qwen3_compile.cli.root import COMMANDS, root
from qwen3_compile.errors import SpecError
from qwen3_compile.spec import load_spec, shipped_specs
from qwen3_graphs.errors import LoweringError, TraceError
from qwen3_plugins.tensorrt.errors import KernelCompileError, MissingModuleError, PluginError
from qwen3_runtime.errors import RequestError
from qwen3_runtime.installation import install_command


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100", **environment},
    )


def program(*arguments, **environment):
    return python(f"import sys; from qwen3_compile.cli import main; sys.exit(main({list(arguments)!r}))", **environment)


HEAVY = ("torch", "transformers", "onnx", "onnx_ir", "onnxruntime", "huggingface_hub", "matplotlib")


def commands(context):
    """The contexts of every command and of those in it."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            yield from commands(click.Context(context.command.get_command(context, name), context, name))


def test_help_puts_arguments_in_brackets_where_they_may_be_left_out():
    arguments = {
        f"{context.command_path} {parameter.name}": (parameter.required, parameter.make_metavar(context))
        for context in commands(click.Context(root, info_name="qwen3-compile"))
        for parameter in context.command.params
        if isinstance(parameter, click.Argument)
    }
    assert arguments["qwen3-compile build spec"] == (False, "[MODEL]")
    assert [name for name, (needed, shown) in arguments.items() if needed == shown.startswith("[")] == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["specs", "list"], ["specs", "show", "qwen3-0.6b"]])
def test_light_commands_import_nothing_heavy(arguments):
    code = (
        f"import sys; from qwen3_compile.cli import main; code = main({arguments!r});"
        f"print('HEAVY', sorted(set(sys.modules) & set({HEAVY!r}))); sys.exit(code)"
    )
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("HEAVY []\n")


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, text in COMMANDS.items():
        assert f"{name} " in shown
        assert text.split()[0] in shown


def test_list_shows_every_shipped_spec_small_before_large(capsys):
    assert main(["specs", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == {load_spec(path).name for path in shipped_specs().values()}
    chats = [row["parameters"] for row in rows if row["task"] == "chat"]
    assert chats == sorted(chats)


def test_list_fits_a_terminal_of_eighty_columns():
    shown = program("specs", "list", COLUMNS="80").stdout
    assert "…" not in shown
    assert len(shown.splitlines()) == len(shipped_specs()) + 1


def test_show_prints_a_spec_that_reads_back_equal(capsys, tmp_path):
    assert main(["specs", "show", "qwen3-4b", "--set", "limits.max_context=4096"]) == 0
    copy = tmp_path / "copy.yaml"
    copy.write_text(capsys.readouterr().out)
    original = load_spec(shipped_specs()["qwen3-4b"], ["limits.max_context=4096"])
    assert load_spec(copy).resolved() == original.resolved()
    assert YAML(typ="safe", pure=True).load(copy.read_text())["chat"]["thinking_budget"] == 2048
    assert main(["specs", "show", str(copy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == original.resolved()


def test_check_reports_every_error_of_every_spec(capsys, tmp_path):
    good, bad = shipped_specs()["qwen3-0.6b"], tmp_path / "bad.yaml"
    bad.write_text(good.read_text().replace("max_batch", "max_btch").replace("weights: int4", "weights: int3"))
    assert main(["specs", "check", str(good), str(bad), "qwen3-06b"]) == 1
    captured = capsys.readouterr()
    assert captured.out == f"{good}: qwen3-0.6b is valid\n"
    lines = captured.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: ") for line in lines)
    assert "did you mean max_batch?" in captured.err
    assert "did you mean qwen3-0.6b?" in captured.err


def test_schema_is_one_json_document(capsys):
    assert main(["specs", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "qwen3-compile spec"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nope"], 2, "error: no command 'nope'; there are build, validate"),
        (["biuld"], 2, "error: no command 'biuld'; did you mean build?"),
        (["--nope"], 2, "error: No such option"),
        (["specs", "show"], 2, "error: Missing argument 'MODEL'. (see `qwen3-compile specs show --help`)"),
        (["specs", "show", "[bold]x"], 1, "error: [bold]x: neither a file nor a shipped spec"),
        (["specs", "show", "/none/x.yaml"], 1, "error: /none/x.yaml: no such file"),
    ],
)
def test_wrong_usage_and_wrong_input_are_one_line_and_an_exit_code(capsys, arguments, code, message):
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def failing(error):
    @click.command()
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SpecError("f.yaml:1: [red]wrong[/red]"), 1, "error: f.yaml:1: [red]wrong[/red]\n"),
        (RequestError("prompt too long", field="prompt"), 1, "error: prompt too long\n"),
        (LoweringError("no such layer"), 1, "error: no such layer\n"),
        (TraceError("another exporter"), 1, "error: another exporter\n"),
        (PluginError("no such shape"), 1, "error: no such shape\n"),
        (KernelCompileError("no such kernel"), 1, "error: no such kernel\n"),
        (MissingModuleError("no such module"), 1, "error: no such module\n"),
        (SpecError("two\nlines"), 1, "error: two\nerror: lines\n"),
        (SpecError("a\x1b[2Jb"), 1, "error: a^[[2Jb\n"),
        (FileNotFoundError(2, "No such file or directory", "x"), 1, "error: x: No such file or directory\n"),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            1,
            "error: this command needs torch, which is not",
        ),
        (ZeroDivisionError("division by zero"), 1, "error: unexpected ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (click.UsageError("bad"), 2, "error: bad"),
        (click.exceptions.Exit(7), 7, ""),
    ],
)
def test_errors_end_as_a_line_without_a_traceback(capsys, error, code, line):
    assert run_command(failing(error), [], {}) == code
    shown = capsys.readouterr().err
    assert shown.lstrip("\n").startswith(line)  # click ends the line that shows ^C
    assert "Traceback" not in shown


def test_a_traceback_is_shown_on_request(capsys):
    assert run_command(failing(SpecError("x")), [], {"QWEN3_COMPILE_TRACEBACK": "1"}) == 1
    assert "Traceback" in capsys.readouterr().err
    assert main(["--traceback", "specs", "show", "nope"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_is_silent():
    code = "import sys; from qwen3_compile.cli import main; sys.exit(main(['specs', 'schema']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        process.stdout = None
        assert process.communicate(timeout=300)[1] == b""
    assert process.returncode == 1


def test_without_click_one_line_says_what_to_install():
    code = "import sys; sys.modules['click'] = None; from qwen3_compile.cli import main; sys.exit(main(['--help']))"
    result = python(code)
    assert result.returncode == 1
    expected = f"the command line needs click, which is not installed: {install_command('cli', 'cpu')}"
    assert result.stderr == f"error: {expected}\n"


def test_shell_completion_is_on_offer():
    assert "_qwen3_compile_completion" in program(_QWEN3_COMPILE_COMPLETE="bash_source").stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("qwen3-compile ", set(COMMANDS)),
        ("qwen3-compile sp", {"specs"}),
        ("qwen3-compile specs ", {"list", "show", "check", "schema"}),
        ("qwen3-compile nope ", set()),
    ],
)
def test_shells_complete_commands_in_silence(words, offered):
    at = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    result = program(_QWEN3_COMPILE_COMPLETE="bash_complete", **at)
    names = {line.partition(",")[2] for line in result.stdout.splitlines()}
    assert {name for name in names if not name.startswith("-")} >= offered
    assert result.stderr == ""


def test_json_output_is_strict(capsys):
    print_json({"a": "[é]"})
    assert json.loads(capsys.readouterr().out) == {"a": "[é]"}
    with pytest.raises(ValueError, match="JSON"):
        print_json(float("nan"))


def test_commands_that_exist_are_click_commands():
    context = click.Context(root)
    assert isinstance(root.get_command(context, "specs"), click.Command)
    with pytest.raises(click.UsageError):
        root.get_command(context, "nope")


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize(("arguments", "code"), [("specs list", 0), ("--version", 0), ("specs show nothing", 1)])
def test_closed_standard_streams_are_as_good_as_null(closed, arguments, code):
    command = f'"$0" -c "import sys; from qwen3_compile.cli import main; sys.exit(main())" {arguments} {closed}'
    ended = subprocess.run(["/bin/sh", "-c", command, sys.executable], capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert "unforeseen" not in ended.stderr
    assert len(ended.stderr.splitlines()) == (code if "2>" not in closed else 0)


def test_thousands_of_problems_are_counted_and_not_listed(tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text("schema_version: 1\nname: x\nmodel: {source: a}\n" + "".join(f"k{i}: 1\n" for i in range(2_000)))
    with pytest.raises(SpecError) as caught:
        load_spec(spec)
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert "k0: unknown key" in lines[3]  # after three sections that are missing
    assert lines[-1] == f"{spec}:1: and 1983 more problems"
