"""A spec file is untrusted text: what is read, what is refused, and where the error points."""

import math
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from qwen3_compile.errors import SpecError
from qwen3_compile.spec.document import MAX_BYTES, MAX_DEPTH, parse_document, read_text
from qwen3_compile.spec.load import load_spec, override_texts


def value_of(text):
    return parse_document(text, "f.yaml").value


def refusal(text):
    with pytest.raises(SpecError) as caught:
        parse_document(text, "f.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-6", 1e-6),
        ("1E5", 1e5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2.5e+3", -2500.0),
        ("12", 12),
        ("+7", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("010", 10),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("'~'", "~"),
        ("9" * 5000, math.inf),
        ("[1, 2.0, x]", [1, 2.0, "x"]),
    ],
)
def test_plain_scalars_follow_the_yaml_1_2_core_schema(text, expected):
    found = value_of(text)
    assert found == expected
    assert type(found) is type(expected)


def test_infinity_and_nan_are_the_floats_of_yaml():
    assert value_of("-.inf") == -math.inf
    assert math.isnan(value_of(".NaN"))


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(JSON_LIKE.filter(lambda value: isinstance(value, dict | list)))
def test_agrees_with_ruamel_on_whatever_ruamel_writes(value):
    import io

    text, writer = io.StringIO(), YAML(typ="safe", pure=True)
    writer.default_flow_style = False  # between brackets it writes `:0` and `?0` so that it cannot read them itself
    writer.dump(value, text)
    reader = YAML(typ="safe", pure=True)
    assert value_of(text.getvalue()) == reader.load(text.getvalue())


def test_every_key_and_item_knows_its_line():
    lines = parse_document("a:\n  b: 1\n\n  c:\n    - x\n    - y\n", "f.yaml").lines
    assert lines[("a",)] == 1
    assert lines[("a", "b")] == 2
    assert lines[("a", "c")] == 4
    assert lines[("a", "c", 1)] == 6


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: &x 1\n", 1, "anchors and aliases"),
        ("a: 1\nb: *x\n", 2, "anchors and aliases"),
        ("a: &x [1]\nb: [*x, *x]\n", 1, "anchors and aliases"),
        ("a: !!python/object:os.system x\n", 1, "tags are not accepted"),
        ("a:\n  b: !foo 1\n", 2, "tags are not accepted"),
        ("a: !!int '3'\n", 1, "tags are not accepted"),
        ("a: 1\na: 2\n", 2, "duplicate key 'a', first on line 1"),
        ("a:\n  b: 1\n  b: 1\n", 3, "duplicate key 'a.b', first on line 2"),
        ("{a: 1}\n---\n{b: 1}\n", 2, "found a second"),
        ("? [a, b]\n: 1\n", 1, "used as a key"),
        ("a: [1\n", 2, "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a: \x01\n", None, "not valid YAML"),
    ],
)
def test_refuses_with_file_and_line(text, line, words):
    message = refusal(text)
    assert message.startswith("f.yaml:" if line is None else f"f.yaml:{line}: ")
    assert words in message
    assert "\n" not in message


def test_bounds_depth_without_recursing_on_the_way():
    assert "nested deeper" in refusal("[" * (MAX_DEPTH + 2))
    assert "nested deeper" in refusal("[" * 100_000)
    inside = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert isinstance(value_of(inside), list)


def test_bounds_size_in_text_and_in_files(tmp_path):
    assert "at most" in refusal("#" * (MAX_BYTES + 1))
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SpecError, match=r"big\.yaml: expected at most"):
        read_text(path)


def test_reads_utf_8_only_and_names_the_line(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(SpecError, match=r"latin\.yaml:2: expected UTF-8, found byte 0xe9"):
        read_text(path)
    path.write_bytes("\ufeffa: é\n".encode())
    assert value_of(read_text(path)) == {"a": "é"}


def test_names_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(SpecError, match="no such file"):
        read_text(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="cannot be read"):
        read_text(tmp_path)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_never_crashes(text):
    with suppress(SpecError):
        parse_document(text, "f.yaml")


def test_overrides_may_be_texts_or_nested_and_leave_the_keys_beside_them():
    """A nested mapping must not replace a section: the limits that it does not name would be gone."""
    path = Path(__file__).parents[3] / "specs" / "tiny-dense.yaml"
    plain = load_spec(path)
    texts = load_spec(path, ["accuracy.max_kl=0.5", "precision.weights=int8"])
    nested = load_spec(path, {"accuracy": {"max_kl": 0.5}, "precision.weights": "int8"})
    assert nested.resolved() == texts.resolved()
    assert nested.accuracy.min_top1_agreement == plain.accuracy.min_top1_agreement is not None
    assert nested.accuracy.text == plain.accuracy.text


@pytest.mark.parametrize("overrides", ["precision.weights=int8", [5], 7])
def test_overrides_of_another_kind_are_named(overrides):
    with pytest.raises(SpecError, match="overrides: expected a mapping or a list of"):
        override_texts(overrides)
