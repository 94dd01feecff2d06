"""What the command line teaches: examples, completion; and how it reads a table."""

import json

import numpy as np
import pytest
from click.shell_completion import ShellComplete

from overparam.choices import DATA_SETS, STUDIES
from overparam.cli.commands import cli
from overparam.cli.main import main
from overparam.data.bundled import FEATURES


def run(capsys, *arguments, status=0):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    captured = capsys.readouterr()
    assert stop.value.code == status, captured.err
    return captured


def completions(*arguments, begun=""):
    shell = ShellComplete(cli, {}, "overparam", "_OVERPARAM_COMPLETE")
    return [(item.type, item.value) for item in shell.get_completions(list(arguments), begun)]


@pytest.mark.parametrize("name", [None, *cli.commands])
def test_help_ends_with_examples_that_can_be_parsed(capsys, name):
    """Each example's options exist: it gets as far as the work."""
    text = run(capsys, *([name] if name else []), "--help").out
    lines = text.partition("Examples:\n")[2].splitlines()
    assert lines, "there are no examples"
    for line in lines:
        program, command, *rest = line.split()
        assert program == "overparam"
        if "--help" not in rest:
            assert cli.commands[command].make_context(command, rest).params


def test_commands_data_sets_studies_and_choices_are_completed():
    assert completions(begun="cer") == [("plain", "certify")]
    assert completions("certify", begun="d") == [("plain", "digits"), ("plain", "diabetes")]
    assert completions("certify", begun="my") == [("file", "my")]
    assert completions("study", begun="eo") == [("plain", "eoc")]
    assert ("plain", "lift") in completions("certify", "iris", "--standardize")


def test_the_named_data_sets_are_those_that_are_bundled():
    assert set(DATA_SETS) == set(FEATURES)


def test_a_table_without_names_with_bars_and_categories(capsys, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("1,5|red|2\n2,5|blue|4\n4|red|7,5\n5|green|1\n", encoding="utf-8")
    options = ("--no-header", "--one-hot", "--separator", "bar", "--standardize", "none")
    network = ("--infinite", "--depth", 0, "--bias-scale", 0)
    run(capsys, "kernel", table, *options, *network, "--out", tmp_path / "K.npy")
    colours = np.array([[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0]])
    x = np.column_stack([[1.5, 2.5, 4, 5], colours])
    np.testing.assert_allclose(np.load(tmp_path / "K.npy"), x @ x.T / 4, rtol=1e-6)


def test_a_word_that_is_no_choice_is_answered_with_the_nearest(capsys):
    found = run(capsys, "certify", "iris", "--standardize", "shpere", status=2)
    assert "Did you mean 'sphere'?" in found.err
    assert found.err.count("\n") == 1


def test_a_text_column_is_one_line_that_names_the_option(capsys, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("a,b\nred,2\nblue,4\nred,5\n", encoding="utf-8")
    found = run(capsys, "kernel", table, "--out", tmp_path / "K.npy", status=2)
    assert "encode it with --one-hot" in found.err
    assert found.err.count("\n") == 1


def test_the_list_of_studies_for_machines(capsys):
    found = json.loads(run(capsys, "study", "--list", "--json").out)
    assert list(found) == list(STUDIES)
    assert all(found.values())


def test_without_a_command_the_help_is_printed_as_it_is_set(capsys):
    said = run(capsys, status=2)
    assert said.out == ""
    assert said.err.startswith("Usage: overparam [OPTIONS] COMMAND [ARGS]...\n")
    assert said.err == run(capsys, "--help").out
