"""The comparison of 4-bit engines: what it compares on, and what it says when models are missing."""

import sys

import accuracy
import pytest

TRAINED = accuracy.Case("tiny, trained", "tiny-dense", accuracy.TINY / "dense", text=True)


@pytest.mark.parametrize("variant", [one for one in accuracy.VARIANTS if one.ours and one.head == "int8"])
def test_rows_that_no_token_has_do_not_part_an_engine_from_the_reference(variant, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(accuracy, "VARIANTS", (variant,))
    monkeypatch.setattr(accuracy, "CONVERSATIONS", 2)
    accuracy.compare(tmp_path, TRAINED)
    divergence = float(capsys.readouterr().out.split(" | ")[4].split(" +- ")[0])
    assert 0 < divergence < 0.1


def test_comparing_before_setup_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["accuracy.py", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"run `compare.py setup .* --only 'llama-q4\*'` first"):
        accuracy.main()
