"""Engines that are opened only if a trusted key signed them; keys and signatures are made by OpenSSL's own program.

Reference: OpenSSL's own program
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from built_engine import build_engine

from qwen3_compile.cli import main
from qwen3_compile.engine.sign import sign
from qwen3_compile.errors import CompileError
from qwen3_runtime import Engine, EngineError
from qwen3_runtime.directory import read_engine_directory, read_signatures
from qwen3_runtime.signatures import parse_signatures


def openssl(*arguments: object) -> bytes:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=True).stdout


def make_key(folder: Path, name: str, *options: str) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    if options:
        openssl("pkey", "-in", private, "-out", folder / "encrypted.pem", *options)
        return folder / "encrypted.pem", public
    return private, public


def damage(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: make_key(folder, name) for name in ("ours", "theirs")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_engine(tmp_path_factory.mktemp("signed"), target="ort", cache="fp32")[0]


@pytest.fixture
def engine(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "engine")
    return tmp_path / "engine"


def test_an_engine_that_a_trusted_key_signed_is_opened(engine: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    assert main(["sign", str(engine), "--key", str(keys["ours"][0])]) == 0
    with Engine.open(engine, trusted_keys=[keys["theirs"][1], keys["ours"][1]]) as opened:
        assert opened.complete([1, 2], max_tokens=2).tokens
    with Engine.open(engine) as opened:  # a signature does not get in the way of who does not ask for it
        assert opened.manifest.name == "tiny"


def test_openssl_verifies_the_same_signature(engine: Path, keys: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    signer = sign(engine, keys["ours"][0])
    (entry,) = json.loads((engine / "manifest.sig").read_text())["signatures"]
    (tmp_path / "sig").write_bytes(base64.b64decode(entry["signature"]))
    said = openssl(
        "pkeyutl", "-verify", "-pubin", "-inkey", keys["ours"][1], "-rawin", "-in", engine / "manifest.json",
        "-sigfile", tmp_path / "sig",
    )  # fmt: skip
    assert b"Verified Successfully" in said
    der = openssl("pkey", "-pubin", "-in", keys["ours"][1], "-outform", "DER")
    assert signer == entry["key_id"] == hashlib.sha256(der[-32:]).hexdigest()


def test_a_signature_that_openssl_made_is_accepted(
    engine: Path, keys: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    private, public = keys["theirs"]
    openssl("pkeyutl", "-sign", "-inkey", private, "-rawin", "-in", engine / "manifest.json", "-out", tmp_path / "sig")
    der = openssl("pkey", "-pubin", "-in", public, "-outform", "DER")
    entry = {
        "key_id": hashlib.sha256(der[-32:]).hexdigest(),
        "signature": base64.b64encode((tmp_path / "sig").read_bytes()).decode(),
    }
    (engine / "manifest.sig").write_text(json.dumps({"schema_version": 1, "signatures": [entry]}))
    assert read_engine_directory(engine, trusted_keys=[public]).name == "tiny"


def test_an_unsigned_engine_is_refused(engine: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    with pytest.raises(EngineError, match=r"expected a signature of a trusted key .*, signed by nobody"):
        Engine.open(engine, trusted_keys=[keys["ours"][1]])


def test_another_s_signature_is_refused_and_named(engine: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    signer = sign(engine, keys["theirs"][0])
    with pytest.raises(EngineError, match=f"signed by {signer[:16]}"):
        Engine.open(engine, trusted_keys=[keys["ours"][1]])


def test_a_changed_manifest_is_refused_before_it_is_parsed(engine: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    sign(engine, keys["ours"][0])
    manifest = engine / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(EngineError, match=r"manifest\.json has changed since it was signed"):
        Engine.open(engine, trusted_keys=[keys["ours"][1]])
    manifest.write_bytes(b"no JSON at all")
    with pytest.raises(EngineError, match=r"manifest\.json has changed since it was signed"):
        Engine.open(engine, trusted_keys=[keys["ours"][1]])


def test_the_signature_of_another_engine_does_not_count(
    engine: Path, keys: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    other, _ = build_engine(tmp_path / "other", target="ort", cache="fp32", weights="int8")
    sign(other, keys["ours"][0])
    shutil.copyfile(other / "manifest.sig", engine / "manifest.sig")
    with pytest.raises(EngineError, match="has changed since it was signed"):
        Engine.open(engine, trusted_keys=[keys["ours"][1]])


def test_a_key_id_that_claims_another_key_does_not_count(engine: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    sign(engine, keys["theirs"][0])
    claimed = sign(engine, keys["ours"][0])
    document = json.loads((engine / "manifest.sig").read_text())
    other = next(entry for entry in document["signatures"] if entry["key_id"] != claimed)
    document["signatures"] = [{**other, "key_id": claimed}]
    (engine / "manifest.sig").write_text(json.dumps(document))
    with pytest.raises(EngineError, match="has changed since it was signed"):
        Engine.open(engine, trusted_keys=[keys["ours"][1]])


def test_weights_are_hashed_when_a_signature_is_asked_for(engine: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    sign(engine, keys["ours"][0])
    weights = engine / "weights.bin"
    damage(weights)
    read_engine_directory(engine)
    with pytest.raises(EngineError, match=r"weights\.bin: SHA-256"):
        read_engine_directory(engine, trusted_keys=[keys["ours"][1]])
    read_engine_directory(engine, "fast", trusted_keys=[keys["ours"][1]])  # said out loud


def test_a_plan_is_hashed_whatever_is_asked_for(engine: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    document = json.loads((engine / "manifest.json").read_text())
    gpu = {"backend": "tensorrt-rtx", "provider": "cuda", "compute_capabilities": ["8.9"]}
    document["target"] = gpu | {"plugins": "none"}
    document["files"]["model.plan"] = {"size": 4, "sha256": hashlib.sha256(b"plan").hexdigest()}
    (engine / "manifest.json").write_text(json.dumps(document))
    (engine / "model.plan").write_bytes(b"plan")
    sign(engine, keys["ours"][0])
    (engine / "model.plan").write_bytes(b"nalp")
    read_engine_directory(engine, "fast")
    with pytest.raises(EngineError, match=r"model\.plan: SHA-256"):
        read_engine_directory(engine, "fast", trusted_keys=[keys["ours"][1]])


def test_signing_again_replaces_and_another_key_adds(engine: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    first = sign(engine, keys["ours"][0])
    before = (engine / "manifest.sig").read_bytes()
    assert sign(engine, keys["ours"][0]) == first
    assert (engine / "manifest.sig").read_bytes() == before
    second = sign(engine, keys["theirs"][0])
    assert {signature.key_id for signature in read_signatures(engine)} == {first, second}
    for _, public in keys.values():
        read_engine_directory(engine, trusted_keys=[public])


def test_an_engine_behind_a_link_is_signed_where_it_lies(
    engine: Path, keys: dict[str, tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link may be on another file system, from which nothing can be renamed into the engine."""
    moved = []
    rename = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: moved.append((self, target)) or rename(self, target))
    link = tmp_path / "elsewhere" / "current"
    link.parent.mkdir()
    link.symlink_to(engine)
    sign(link, keys["ours"][0])
    ((partial, target),) = moved
    assert partial.parent == engine.parent
    assert target == engine / "manifest.sig"


def test_a_damaged_engine_is_not_signed(engine: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    weights = engine / "weights.bin"
    damage(weights)
    with pytest.raises(EngineError, match=r"weights\.bin: SHA-256"):
        sign(engine, keys["ours"][0])
    assert not (engine / "manifest.sig").exists()
    assert [path.name for path in engine.parent.iterdir()] == ["engine"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"schema_version": 2, "signatures": []}', b"[" * 100_000,
     b'{"schema_version": true, "signatures": []}', b'{"schema_version": 1, "signatures": [{"key_id": "a"}]}',
     b'{"schema_version": 1, "signatures": [{"key_id": "a", "signature": "AAAA"}]}',
     b'{"schema_version": 1, "signatures": [{"key_id": "a", "signature": 5}]}',
     b'{"schema_version": 1, "signatures": [{"key_id": "\\u001b[2J", "signature": "' + b"A" * 86 + b'=="}]}',
     b'{"schema_version": 1, "signatures": 7}'],
)  # fmt: skip
def test_a_damaged_signature_file_is_one_line(content: bytes) -> None:
    with pytest.raises(EngineError, match=r"manifest\.sig: not a list of signatures") as caught:
        parse_signatures(content)
    assert str(caught.value).isprintable()


def test_an_endless_signature_file_is_refused_by_its_size(engine: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    (engine / "manifest.sig").write_bytes(b" " * (1 << 20))
    with pytest.raises(EngineError, match=r"manifest\.sig: 1048576 bytes, more than"):
        Engine.open(engine, trusted_keys=[keys["ours"][1]])


def test_keys_that_cannot_be_used_are_named(engine: Path, keys: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    openssl("genpkey", "-algorithm", "RSA", "-out", tmp_path / "rsa.pem")
    openssl("pkey", "-in", tmp_path / "rsa.pem", "-pubout", "-out", tmp_path / "rsa.pub")
    (tmp_path / "text").write_text("not a key")
    for path, message in (
        (tmp_path / "nowhere", "cannot be read"),
        (tmp_path / "text", "expected an Ed25519 public key in PEM"),
        (keys["ours"][0], "expected an Ed25519 public key in PEM"),
        (tmp_path / "rsa.pub", "expected an Ed25519 key, found RSA"),
    ):
        with pytest.raises(EngineError, match=message):
            Engine.open(engine, trusted_keys=[path])
    for path, message in (
        (tmp_path / "nowhere", "cannot be read"),
        (tmp_path / "text", "expected an Ed25519 private key in PEM"),
        (keys["ours"][1], "expected an Ed25519 private key in PEM"),
        (tmp_path / "rsa.pem", "found RSA"),
    ):
        with pytest.raises(CompileError, match=message):
            sign(engine, path)


@pytest.mark.parametrize("given", [[], None, "key.pem", b"key.pem", [b"key.pem"], [5]])
def test_a_list_of_paths_is_expected(engine: Path, given: object) -> None:
    with pytest.raises(EngineError, match="trusted_keys: expected"):
        Engine.open(engine, trusted_keys=given)  # type: ignore[arg-type]


def test_an_encrypted_key_asks_for_its_passphrase(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = make_key(tmp_path, "locked", "-aes256", "-passout", "pass:open sesame")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", lambda *_, **__: "open sesame")
    assert main(["sign", str(engine), "--key", str(private)]) == 0
    assert capsys.readouterr().out.strip() == read_signatures(engine)[0].key_id
    read_engine_directory(engine, trusted_keys=[public])
    monkeypatch.setattr("click.prompt", lambda *_, **__: "wrong")
    assert main(["sign", str(engine), "--key", str(private)]) == 1
    assert "the passphrase is wrong" in capsys.readouterr().err


def test_without_a_terminal_the_passphrase_comes_from_the_environment(
    engine: Path, tmp_path: Path, keys: dict[str, tuple[Path, Path]]
) -> None:
    private, public = make_key(tmp_path, "locked", "-aes256", "-passout", "pass:open sesame")

    def run(key: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; from qwen3_compile.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", code, "sign", str(engine), "--key", str(key)]
        environment = {**os.environ, **variables}
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    given = {"QWEN3_COMPILE_PASSPHRASE": "open sesame"}
    done = run(private)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "sign in a terminal, or set QWEN3_COMPILE_PASSPHRASE" in done.stderr
    assert run(private, **given).returncode == 0
    read_engine_directory(engine, trusted_keys=[public])
    assert run(keys["ours"][0], **given).returncode == 0  # not encrypted


def test_inspect_checks_a_signature(
    engine: Path, keys: dict[str, tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    sign(engine, keys["ours"][0])
    assert main(["inspect", str(engine), "--trusted-key", str(keys["ours"][1])]) == 0
    assert "checked: a trusted key signed it" in capsys.readouterr().out
    assert main(["inspect", str(engine), "--trusted-key", str(keys["theirs"][1])]) == 1
    assert "expected a signature of a trusted key" in capsys.readouterr().err


def test_inspect_names_the_signers_and_a_rebuild_replaces_a_signed_engine(
    engine: Path, keys: dict[str, tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    signer = sign(engine, keys["ours"][0])
    assert main(["inspect", str(engine), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["signed_by"] == [signer]
    assert main(["inspect", str(engine)]) == 0
    assert f"signature of key {signer[:16]}, not checked: --trusted-key checks it" in capsys.readouterr().out
    assert main(["build", "specs/tiny-dense.yaml", "-o", str(engine), "--force", "--no-validate"]) == 0
    assert not (engine / "manifest.sig").exists()


def test_without_the_package_the_way_to_get_it_is_named(engine: Path, keys: dict[str, tuple[Path, Path]]) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from qwen3_runtime import Engine, EngineError\n"
        f"try: Engine.open({str(engine)!r}, trusted_keys=[{str(keys['ours'][1])!r}])\n"
        "except EngineError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs the package cryptography" in done.stdout
