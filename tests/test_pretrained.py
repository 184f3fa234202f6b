"""Networks of `transformers` in local folders: equal outputs, and one clear error for every unusable folder."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lib.core import pretrained
from lib.core.errors import InputError, SettingError
from lib.core.hidden_states import select_layers
from lib.core.parameters import check
from lib.core.pretrained import PretrainedSettings
from tests.conftest import ROOT
from tests.pretrained_folders import (
    IMAGE_FAMILIES,
    SPEECH_FAMILIES,
    make_image_folder,
    make_speech_folder,
    make_text_folder,
)

SETTINGS = {
    "network": "facebook/dinov2-small",
    "revision": None,
    "download": False,
    "allow_code": False,
    "layers": "last",
}


def load(folder: Path) -> Any:
    return pretrained.load_network(folder, allow_code=False)


def rewrite_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace the weights whose names end with a key; None removes them."""
    weights = load_file(folder / "model.safetensors")
    for end, value in changes.items():
        for name in [name for name in weights if name.endswith(end.replace("__", "."))]:
            del weights[name]
            if value is not None:
                weights[name] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_import_loads_neither_torch_nor_transformers() -> None:
    script = "import sys; from lib.core import pretrained; print({'torch', 'transformers'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_image_network_equals_saved_network(family: str, tmp_path: Path) -> None:
    network = load(make_image_folder(tmp_path, family))
    expected = transformers.AutoModel.from_pretrained(tmp_path, local_files_only=True).eval()
    images = torch.rand(2, 3, 40, 50)
    pixels = pretrained.load_image_processor(tmp_path)(images, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(pixels).pooler_output, expected(pixels).pooler_output)
    assert not network.training


@pytest.mark.parametrize("family", SPEECH_FAMILIES)
def test_speech_network_equals_saved_network(family: str, tmp_path: Path) -> None:
    network = load(make_speech_folder(tmp_path, family))
    expected = transformers.AutoModel.from_pretrained(tmp_path, local_files_only=True).eval()
    processor = pretrained.load_audio_processor(tmp_path)
    audio = processor(torch.randn(8000).numpy(), sampling_rate=16000, return_tensors="pt")["input_values"]
    with torch.no_grad():
        torch.testing.assert_close(network(audio).last_hidden_state, expected(audio).last_hidden_state)
    assert processor.sampling_rate == 16000


def test_text_network_and_tokenizer_equal_saved_ones(tmp_path: Path) -> None:
    network, tokenizer = load(make_text_folder(tmp_path)), pretrained.load_tokenizer(tmp_path)
    expected = transformers.AutoModel.from_pretrained(tmp_path, local_files_only=True).eval()
    tokens = tokenizer("you like it", return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(network(**tokens).last_hidden_state, expected(**tokens).last_hidden_state)
    assert tokenizer.model_max_length == 64


def test_half_precision_weights_are_loaded_as_float32(tmp_path: Path) -> None:
    make_image_folder(tmp_path, "vit")
    transformers.AutoModel.from_pretrained(tmp_path).half().save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in load(tmp_path).parameters()} == {torch.float32}


def test_pooling_layer_without_weights_is_removed(tmp_path: Path) -> None:
    rewrite_weights(make_image_folder(tmp_path, "vit"), pooler__dense__weight=None, pooler__dense__bias=None)
    with torch.no_grad():
        assert load(tmp_path)(torch.rand(1, 3, 32, 32)).pooler_output is None


def test_weights_only_pretraining_uses_may_be_missing(tmp_path: Path) -> None:
    rewrite_weights(make_speech_folder(tmp_path, "wav2vec2"), masked_spec_embed=None)
    load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cls_token": None}, r"its weights do not fit its config\.json: embeddings\.cls_token is missing; allowed: "),
        (
            {"layernorm__bias": torch.zeros(8)},
            r"its weights do not fit its config\.json: layernorm\.bias is \[8\], not \[16\]; allowed",
        ),
    ],
)
def test_weights_that_fit_only_in_part_are_rejected(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    rewrite_weights(make_image_folder(tmp_path, "dinov2"), **changes)
    with pytest.raises(InputError, match=rf"^network = '{tmp_path}': {message}.*; get the files again$"):
        load(tmp_path)


def test_folder_without_network_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.json, but nothing; allowed: .*; correct the path$"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    with pytest.raises(InputError, match=r"^network = .* can't be loaded \(Error no file named .*get the files again$"):
        load(tmp_path)
    for content, message in (
        ("{", r"config\.json is not valid JSON \(.*; get the file again$"),
        ('{"model_type": "mine"}', r"config\.json has model_type = 'mine'; allowed: .* knows; name another network$"),
        ("[]", r"config\.json has model_type = None; allowed: "),
    ):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match=message):
            load(tmp_path)


def test_damaged_weights_are_rejected_and_code_does_not_run(tmp_path: Path) -> None:
    make_image_folder(tmp_path / "a")
    (tmp_path / "a/model.safetensors").write_bytes(b"damaged weights")
    with pytest.raises(InputError, match=r"can't be loaded \(Error while deserializing .*; get the files again$"):
        load(tmp_path / "a")
    (tmp_path / "a/model.safetensors").unlink()
    torch.save({"weight": os.system}, tmp_path / "a/pytorch_model.bin")
    with pytest.raises(InputError, match=r"its weights are damaged or contain code, which was not run; allowed: "):
        load(tmp_path / "a")


def test_code_of_a_folder_runs_only_if_allowed(tmp_path: Path) -> None:
    own = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnNetwork"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": own}))
    (tmp_path / "own.py").write_text("raise ValueError('the code runs')\n")
    with pytest.raises(InputError, match=r"own Python code, which was not run; .* set allow_code to true, or name"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"can't be loaded \(the code runs\)"):
        pretrained.load_network(tmp_path, allow_code=True)


@pytest.mark.parametrize("kind", ["image_processor", "audio_processor", "tokenizer"])
def test_folder_without_processor_is_rejected(kind: str, tmp_path: Path) -> None:
    make_image_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=rf"^network = .* has no {kind.replace('_', ' ')} that can be loaded .*; copy"):
        getattr(pretrained, f"load_{kind}")(tmp_path)


@pytest.mark.parametrize("package", ["transformers", "huggingface_hub"])
def test_missing_library_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_image_folder(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    name = str(tmp_path) if package == "transformers" else "facebook/dinov2-small"
    with pytest.raises(InputError, match=rf"needs {package}, .* run pip install -r requirements-transformers\.txt, or"):
        load(pretrained.find_folder(name, revision=None, download=False))


def test_find_folder_prefers_folder_and_names_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert pretrained.find_folder(str(tmp_path), revision=None, download=False) == tmp_path
    for network, download, message in (
        ("/nowhere/network", False, r"^network = '/nowhere/network' is not a folder; allowed: .*; correct the path$"),
        (
            "a/b",
            False,
            r"^network = 'a/b' with revision = 'v1' is neither a folder nor in .*; run .*tools\.weights a/b, set download",
        ),
        ("a/b", True, r"^network = 'a/b' with revision = 'v1' can't be downloaded \(.*; correct the name, or copy"),
    ):
        with pytest.raises(InputError, match=message):
            pretrained.find_folder(network, revision="v1", download=download)


def test_find_folder_reads_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import snapshot_download

    commit = "0123456789012345678901234567890123456789"
    folder = make_image_folder(tmp_path / "models--a--b/snapshots" / commit)
    (tmp_path / "models--a--b/refs").mkdir()
    (tmp_path / "models--a--b/refs/main").write_text(commit)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda *names, **options: snapshot_download(*names, cache_dir=tmp_path, **options),
    )
    for revision in (None, commit):
        assert pretrained.find_folder("a/b", revision=revision, download=False) == folder


def test_list_files_omits_readme_and_hidden_files(tmp_path: Path) -> None:
    make_image_folder(tmp_path)
    (tmp_path / "README.md").touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/head").touch()
    names = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert [path.name for path in pretrained.list_files(tmp_path)] == names


def test_select_layers_combines_hidden_states() -> None:
    states = [torch.full((2, 3, 4), float(number)) for number in range(5)]
    assert torch.equal(select_layers(states, "last"), states[4])
    assert torch.equal(select_layers(states, "mean"), states[2])
    assert select_layers(states, "all")[0, 0, :, 0].tolist() == [0, 1, 2, 3, 4]
    assert select_layers(states, [4, 1])[1, 2, :, 3].tolist() == [4, 1]
    with pytest.raises(
        InputError, match=r"^layers = \[5\]; allowed for this network: last, mean, all, .* from 0 to 4$"
    ):
        select_layers(states, [5])
    with pytest.raises(InputError, match=r"^layers = 'all', but this network's layers have different shapes; allowed"):
        select_layers([*states, torch.zeros(2, 3, 8)], "all")


@pytest.mark.parametrize("layers", ["first", [], [1, 1], [-1], [1.5], ["last"], True, 3])
def test_settings_reject_invalid_layers(layers: Any) -> None:
    with pytest.raises(SettingError, match=r"^speech\.layers = .*; allowed: last, mean, all, or a list of different"):
        check(SETTINGS | {"layers": layers}, PretrainedSettings, "speech")


def test_settings_accept_all_choices_of_layers() -> None:
    for layers in ("last", "mean", "all", [6, 9, 12], [0]):
        assert check(SETTINGS | {"layers": layers}, PretrainedSettings).layers == layers
    with pytest.raises(SettingError, match=r"^speech\.network = ' '; allowed: the name or folder of a network$"):
        check(SETTINGS | {"network": " "}, PretrainedSettings, "speech")


def test_cost_is_described_in_readable_units() -> None:
    assert pretrained.describe_cost(10_000, 1.4, 300_000) == (
        "10000 clips need about 3.9 h and 3.0 GB (1.4 s and 300000 bytes per clip)"
    )
    assert pretrained.describe_cost(20, 0.5, 2048).startswith("20 clips need about < 1 min and 0.1 MB")
    assert pretrained.describe_cost(200, 1.0, 2048).startswith("200 clips need about 3.3 min and 0.4 MB")
