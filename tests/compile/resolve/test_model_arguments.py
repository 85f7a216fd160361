"""What an argument of `build` stands for: precedence, the hub, folders, and the errors."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from qwen3_compile.cli import main
from qwen3_compile.errors import CheckpointError, CompileError, SpecError
from qwen3_compile.resolve import resolve
from qwen3_compile.resolve.identity import identify
from qwen3_compile.spec import FolderSource, HubSource, load_spec, parse_source, shipped_specs
from qwen3_compile.spec.checks import cross_problems

ROOT = Path(__file__).parents[3]
DENSE = ROOT / "examples" / "tiny" / "dense"
TEMPLATES = {
    "hybrid": "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
    "always": "<think>\n",
    "never": "",
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def checkpoint(tmp_path):
    """Write the small files of a checkpoint: checkpoint(name, config changes..., template=, generation=, files=)."""

    def write(name="mine", *, template="", generation=None, files=(), **changes):
        folder = tmp_path / name
        folder.mkdir()
        config = json.loads((DENSE / "config.json").read_text()) | {"num_hidden_layers": 5} | changes
        (folder / "config.json").write_text(json.dumps(config))
        if generation is not None:
            (folder / "generation_config.json").write_text(json.dumps(generation))
        if template is not None:
            (folder / "chat_template.jinja").write_text("{{ messages[0].content }}" + template)
        for file in files:
            (folder / file).write_text("{}")
        return folder

    return write


def failure(argument, error=CompileError):
    with pytest.raises(error) as caught:
        resolve(argument)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_released_repository_stands_for_its_shipped_spec_without_a_request(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    sources = {stem: parse_source(load_spec(path).model.source) for stem, path in shipped_specs().items()}
    released = {stem: source.repo for stem, source in sources.items() if isinstance(source, HubSource)}
    assert len(released) == len(set(released.values())) == len(shipped_specs()) - 2  # all but the tiny ones
    for stem, repo in released.items():
        expected = load_spec(shipped_specs()[stem])
        for written in (stem, repo, repo.lower(), f"hf://{repo}"):
            assert resolve(written).spec == expected
        assert resolve(f"{repo}@v1.0").spec.model.source == f"hf://{repo}@v1.0"


def test_a_file_goes_before_a_name_and_a_name_before_a_folder(tmp_path, checkpoint):
    checkpoint("qwen3-0.6b", num_hidden_layers=4)
    assert resolve("qwen3-0.6b").spec.model.source == "hf://Qwen/Qwen3-0.6B@main"
    assert resolve("./qwen3-0.6b").spec.model.source == "qwen3-0.6b"
    shutil.copy(ROOT / "specs" / "tiny-moe.yaml", tmp_path / "qwen3-4b")
    assert resolve("qwen3-4b").spec.name == "tiny-moe"
    (tmp_path / "Qwen").mkdir()
    shutil.copytree(tmp_path / "qwen3-0.6b", tmp_path / "Qwen" / "Qwen3-0.6B")
    assert resolve("Qwen/Qwen3-0.6B").spec.model.source == "Qwen/Qwen3-0.6B"
    assert resolve("hf://Qwen/Qwen3-0.6B").spec.model.source == "hf://Qwen/Qwen3-0.6B@main"


def test_a_folder_with_a_shipped_models_dimensions_gets_that_spec():
    found = resolve(str(DENSE))
    shipped = load_spec(ROOT / "specs" / "tiny-dense.yaml")
    assert found.spec.accuracy == shipped.accuracy
    assert (found.spec.name, found.spec.model.source) == ("dense", str(DENSE))
    assert found.origin == "the shipped spec tiny-dense, by dimensions"


def test_overrides_come_last(checkpoint):
    overrides = ["name=other", "limits.max_batch=7"]
    for argument in (str(DENSE), str(checkpoint()), "qwen3-0.6b", "Qwen/Qwen3-0.6B"):
        spec = resolve(argument, overrides).spec
        assert (spec.name, spec.limits.max_batch) == ("other", 7)


@pytest.mark.parametrize(
    ("made", "task", "thinking"),
    [
        ({"template": TEMPLATES["hybrid"]}, "chat", "hybrid"),
        ({"template": TEMPLATES["always"]}, "chat", "always"),
        ({"template": TEMPLATES["never"]}, "chat", "never"),
        ({"template": None}, "completion", "never"),
        ({"name": "My-8B-Base"}, "completion", "never"),
        ({"generation": {"bos_token_id": 400, "eos_token_id": 400}}, "completion", "never"),
        ({"generation": {"bos_token_id": 400, "eos_token_id": [402, 400]}}, "chat", "never"),
        ({"name": "My-Reranker"}, "reranker", None),
        ({"name": "My-Embedding"}, "embedding", None),
        ({"files": ["modules.json"]}, "embedding", None),
        ({"architectures": ["Qwen3Model"]}, "embedding", None),
    ],
)
def test_the_task_is_read_from_the_files_and_said(checkpoint, made, task, thinking):
    found = resolve(str(checkpoint(**made)))
    assert found.spec.model.task == task
    assert (found.spec.chat.thinking if found.spec.chat else None) == thinking
    assert f"task {task}, by " in found.origin


AWQ = {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}


@pytest.mark.parametrize(
    ("changes", "weights", "group", "scales"),
    [
        ({}, "int4", 32, None),
        ({"hidden_size": 40, "intermediate_size": 56}, "fp16", None, None),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "fp8", None, "block"),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}, "fp8", None, "channel"),
        ({"quantization_config": AWQ}, "int4", 128, None),
        ({"quantization_config": AWQ | {"group_size": 64}}, "int4", 64, None),
        ({"quantization_config": AWQ | {"group_size": 16}}, "int4", 32, None),  # no spec has such groups
    ],
)
def test_stored_number_formats_are_kept(checkpoint, changes, weights, group, scales):
    precision = resolve(str(checkpoint(**changes))).spec.precision
    assert (precision.weights, precision.group_size, precision.fp8_scales) == (weights, group, scales)


def test_sampling_of_generation_config_is_taken(checkpoint):
    generation = {"do_sample": True, "temperature": 0.3, "top_k": 7, "eos_token_id": 402, "bos_token_id": 400}
    spec = resolve(str(checkpoint(generation=generation, template=TEMPLATES["hybrid"]))).spec
    assert (spec.chat.sampling.thinking.temperature, spec.chat.sampling.thinking.top_k) == (0.3, 7)
    assert spec.chat.sampling.non_thinking.temperature == 0.7


def test_a_spec_that_init_writes_states_all_of_config_json_and_builds_the_same(checkpoint, tmp_path, capsys):
    folder = checkpoint("a 'name': with #", template=TEMPLATES["hybrid"])
    (tmp_path / "specs").mkdir()
    assert main(["specs", "init", folder.name, "-o", "specs/mine.yaml"]) == 0
    written = load_spec("specs/mine.yaml")
    assert (written.base_dir / written.model.source).resolve() == folder
    direct = resolve(str(folder)).spec
    assert written.resolved() | {"model": None} == direct.resolved() | {"model": None}
    assert written.model.architecture == direct.model.architecture
    assert not cross_problems(written)
    assert written.graph_architecture() == identify(FolderSource(folder)).architecture
    config = json.loads((folder / "config.json").read_text())
    for key, value in written.model.architecture.model_dump().items():
        assert value == config.get(key, {"norm_topk_prob": True}.get(key, 0))
    text = Path("specs/mine.yaml").read_text()
    bare = [line for line in text.splitlines() if re.match(r" +\w+: .", line) and "# [" not in line]
    assert [line.split(":")[0].strip() for line in bare] == ["source"]  # every other value says where it is from
    capsys.readouterr()
    assert main(["specs", "init", folder.name, "-o", "specs/mine.yaml"]) == 1
    assert "exists" in capsys.readouterr().err
    assert Path("specs/mine.yaml").read_text() == text


def test_layers_without_experts_reach_the_spec(checkpoint):
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
    folder = checkpoint(model_type="qwen3_moe", decoder_sparse_step=2, mlp_only_layers=[1], **experts)
    spec = resolve(str(folder)).spec
    assert spec.graph_architecture() == identify(FolderSource(folder)).architecture
    assert spec.graph_architecture().dense_layers == (0, 1, 2, 4)


def test_init_of_a_release_is_its_shipped_spec(capsys):
    assert main(["specs", "init", "Qwen/Qwen3-8B"]) == 0
    assert capsys.readouterr().out == shipped_specs()["qwen3-8b"].read_text(encoding="utf-8")


def test_an_unknown_repository_is_looked_at_without_its_weights(serve_hub, tmp_path):
    files = {path.name: path.read_bytes() for path in DENSE.iterdir()}
    config = json.loads(files["config.json"]) | {"num_hidden_layers": 5}
    hub = serve_hub(files | {"config.json": json.dumps(config).encode()})
    found = resolve("test/tiny", cache_dir=tmp_path / "cache").spec
    assert (found.name, found.model.source) == ("tiny", "hf://test/tiny@main")
    assert found.model.architecture.num_hidden_layers == 5
    assert resolve(f"test/tiny@{hub.commit}", cache_dir=tmp_path / "cache").spec.model.source.endswith(hub.commit)
    assert not hub.downloads("model.safetensors")
    assert "no such revision" in failure("test/tiny@other")


def test_a_misspelt_path_is_not_sent_to_the_hub(serve_hub, tmp_path):
    hub = serve_hub({"config.json": b"{}"})
    (tmp_path / "test").mkdir()
    assert "for a repository of the hub, write hf://test/tiny" in failure("test/tiny", SpecError)
    assert hub.served == []
    failure("hf://test/tiny")
    assert hub.served
    (tmp_path / "Qwen").mkdir()
    assert resolve("Qwen/Qwen3-0.6B").spec.name == "qwen3-0.6b"


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("qwen3-06b", "did you mean qwen3-0.6b?"),
        ("Qwen/Qwen3-0.6", "did you mean Qwen/Qwen3-0.6B?"),
        ("checkpoints/mine", "no such file or folder"),
        ("specs/mine.yaml", "no such file"),
        ("something", "specs list"),
        ("./nope", "./nope: no such file or folder"),
        ("/nope", "/nope: no such file or folder"),
        ("../nope/nope", "no such file or folder"),
    ],
)
def test_what_stands_for_nothing_is_one_line_with_the_nearest(monkeypatch, argument, said):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert said in failure(argument)


def test_a_misspelt_folder_gets_the_nearest_beside_it(tmp_path, capsys):
    (tmp_path / "build" / "tiny-dense").mkdir(parents=True)
    (tmp_path / "build" / "tiny-dense" / "manifest.json").write_text("{}")
    (tmp_path / "build" / "tiny-den").mkdir()
    told = "no such file or folder; did you mean build/tiny-dense?"
    assert main(["run", "build/tiny-dens", "x"]) == 1
    assert capsys.readouterr().err == f"error: build/tiny-dens: {told}\n"
    assert failure("./build/tiny-dens") == f"./build/tiny-dens: {told}"
    assert failure(f"{tmp_path}/build/tiny-dens").endswith(f"did you mean {tmp_path}/build/tiny-dense?")


def test_init_tells_the_task_and_where_it_is_from(checkpoint, capsys):
    assert main(["specs", "init", str(checkpoint("plain", template=None))]) == 0
    assert capsys.readouterr().err == "task completion: its files: there is no chat template\n"
    assert main(["specs", "init", str(checkpoint("talks"))]) == 0
    assert capsys.readouterr().err == "task chat: its chat template\n"


@pytest.mark.parametrize("kind", ["yarn", "linear"])
def test_init_mentions_the_scaling_of_the_checkpoint(checkpoint, capsys, kind):
    scaling = {"rope_type": kind, "factor": 4.0}
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = 512
    folder = checkpoint("scaled", rope_scaling=scaling)
    assert main(["specs", "init", str(folder)]) == 0
    assert f"# [config] RoPE is scaled ({kind}, factor 4): the build uses this scaling" in capsys.readouterr().out
    assert resolve(str(folder)).spec.rope_scaling is None


def test_a_broken_template_is_told_with_its_file(checkpoint):
    folder = checkpoint("broken", template="{% for %}")
    assert failure(str(folder)).startswith(f"{folder / 'chat_template.jinja'}: chat template default, line 1: ")
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{% for %}"}))
    assert failure(str(folder)).startswith(f"{folder / 'tokenizer_config.json'}: chat template default, line 1: ")


def test_folders_that_are_something_else_are_named(checkpoint, tmp_path):
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "manifest.json").write_text("{}")
    assert "an engine, expected a spec or a model; --locked engine" in failure("engine", SpecError)
    (tmp_path / "nothing").mkdir()
    assert "without config.json" in failure("nothing", SpecError)
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    assert "found an adapter" in failure("lora", CheckpointError)
    head = checkpoint(architectures=["Qwen3ForSequenceClassification"])
    assert "classification head is not supported" in failure(str(head), CheckpointError)
