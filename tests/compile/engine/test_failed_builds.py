"""The folder beside an output that keeps what a failed build measured."""

import pytest

from qwen3_compile.engine.failed import failed_folder, forget_failed, keep_failed
from qwen3_runtime.engine_files import MEASURED


@pytest.fixture
def measured(tmp_path):
    def write(text):
        folder = tmp_path / "partial"
        folder.mkdir(exist_ok=True)
        for name in MEASURED:
            (folder / name).write_text(text)
        return folder

    return write


def test_the_next_failure_replaces_it_and_a_success_removes_it(tmp_path, measured):
    target = tmp_path / "engine"
    for text in ("first", "second"):
        kept = keep_failed(target, measured(text))
        assert kept == tmp_path / "engine.failed"
        assert {path.name: path.read_text() for path in kept.iterdir()} == dict.fromkeys(MEASURED, text)
    forget_failed(target)
    assert not kept.exists()
    forget_failed(target)


def test_files_of_others_stay(tmp_path, measured):
    kept = keep_failed(tmp_path / "engine", measured("figures"))
    (kept / "notes.txt").write_text("mine")
    forget_failed(tmp_path / "engine")
    assert [path.name for path in kept.iterdir()] == ["notes.txt"]


def test_a_link_is_not_followed(tmp_path, measured):
    (tmp_path / "elsewhere").mkdir()
    failed_folder(tmp_path / "engine").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="link"):
        keep_failed(tmp_path / "engine", measured("figures"))
    forget_failed(tmp_path / "engine")
    assert not any((tmp_path / "elsewhere").iterdir())
    assert failed_folder(tmp_path / "engine").is_symlink()
