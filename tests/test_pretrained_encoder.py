"""The encoder pretrained: trained parameters, frozen layers, masks, checkpointing, and files of models."""

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from torch import Tensor, nn

from lib.core import parameters
from lib.core.errors import InputError, SettingError
from lib.data.batch import Sample, collate
from lib.model import checkpoint, encoders
from lib.model.checkpoint import TrainingSummary
from lib.model.encoders import pretrained
from lib.model.network import Network
from lib.model.settings import check_settings
from lib.model.tokens import Tokens
from lib.streams.base import Steps, StreamInfo
from lib.training import prepare, run
from lib.training.data import TrainData
from lib.training.hooks import Hook
from lib.training.optim import build_optimizer
from lib.training.settings import Parameters, Train
from tests.conftest import ROOT
from tests.pretrained_folders import (
    IMAGE_FAMILIES,
    SPEECH_FAMILIES,
    make_image_folder,
    make_speech_folder,
    make_text_folder,
)
from tests.small_network import TRAIN_SETTINGS, TRAITS_GROUP, InMemoryClips, cpu_fabric, make_settings, same_weights
from tools.parameters import merge_parameters, plain

CHUNK = 320
SETTINGS: dict[str, Any] = {
    "kind": "pretrained", "take": "all", "steps": 1, "revision": None, "download": False, "allow_code": False,
    "layers": "last", "weights": "pretrained", "trainable": 1, "rank": 2, "alpha": 4.0, "checkpointing": False,
    "tokens": "steps",
}  # fmt: skip
AUDIO_CHANGES = ({"trainable": 0}, {"trainable": 1}, {"trainable": "lora"})


def make_encoder(folder: Path, reads: str = "waveform", **changes: Any) -> pretrained.Encoder:
    values = SETTINGS | {"network": str(folder), "reads": [reads]} | changes
    torch.manual_seed(0)
    shape = [CHUNK] if reads == "waveform" else [3, 40, 40]
    return pretrained.Encoder(pretrained.Settings(**values), [shape])


def make_clip(chunks: int, seed: int = 0) -> Steps:
    values = np.random.default_rng(seed).uniform(-0.5, 0.5, (chunks, CHUNK)).astype(np.float32)
    times = (0.02 * np.arange(chunks) + 0.31).astype(np.float32)
    return Steps(values, times, np.ones(chunks, bool))


def make_images(count: int, seed: int = 0) -> Steps:
    values = np.random.default_rng(seed).integers(0, 255, (count, 3, 40, 40), np.uint8)
    return Steps(values, np.arange(count, dtype=np.float32), np.ones(count, bool))


def make_batch(reads: str, *clips: Steps) -> dict[str, Steps]:
    return collate([Sample({"encoder": {reads: clip}}, {}, index) for index, clip in enumerate(clips)]).inputs[
        "encoder"
    ]


def audio_batch(*chunks: int) -> dict[str, Steps]:
    return make_batch("waveform", *(make_clip(count, seed) for seed, count in enumerate(chunks)))


def image_batch(*counts: int) -> dict[str, Steps]:
    return make_batch("faces", *(make_images(count, seed) for seed, count in enumerate(counts)))


def loss_of(tokens: Tokens) -> Tensor:
    weights = torch.linspace(-1, 1, tokens.values[0].numel()).view(tokens.values[0].shape)
    return (tokens.values * weights).sum()


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_speech_folder(tmp_path_factory.mktemp("wavlm"))


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_folder(tmp_path_factory.mktemp("dinov2"))


# ---- outputs ----


@pytest.mark.parametrize("family", SPEECH_FAMILIES)
def test_audio_tokens_equal_a_direct_call(family: str, tmp_path: Path) -> None:
    folder = make_speech_folder(tmp_path, family)
    processor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    inputs = processor(make_clip(40).values.ravel(), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        expected = network(**inputs, output_hidden_states=True)
        tokens = make_encoder(folder).eval()(audio_batch(40))
        mean = make_encoder(folder, layers="mean", tokens="clip").eval()(audio_batch(40))
        chosen = make_encoder(folder, layers=[1]).eval()(audio_batch(40))
    torch.testing.assert_close(tokens.values, expected.last_hidden_state, atol=1e-5, rtol=1e-5)
    assert tokens.times[0, :2].tolist() == pytest.approx([0.3 + 0.0125, 0.32 + 0.0125], abs=1e-5)
    of_layers = torch.stack(expected.hidden_states).mean(0).mean(1, keepdim=True)
    torch.testing.assert_close(mean.values, of_layers, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(chosen.values, expected.hidden_states[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_image_tokens_equal_a_direct_call(family: str, tmp_path: Path) -> None:
    folder = make_image_folder(tmp_path, family)
    network = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    batch = image_batch(3)
    pixels = processor(images=batch["faces"].values[0], do_rescale=False, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output = network(pixels, output_hidden_states=True)
        tokens = make_encoder(folder, "faces").eval()(batch)
        second = make_encoder(folder, "faces", layers=[1]).eval()(batch)
    torch.testing.assert_close(tokens.values[0], output.pooler_output, atol=1e-5, rtol=1e-5)
    states = output.hidden_states[1]
    torch.testing.assert_close(second.values[0], states.mean(1) if family == "siglip" else states[:, 0])
    assert tokens.times.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("family", SPEECH_FAMILIES)
@pytest.mark.parametrize("tokens", ["clip", "steps"])
@pytest.mark.parametrize("training", [False, True])
def test_clip_alone_and_in_a_padded_batch_are_equal(family: str, tokens: str, training: bool, tmp_path: Path) -> None:
    encoder = make_encoder(make_speech_folder(tmp_path, family), tokens=tokens, trainable="lora").train(training)
    lengths = (30, 7, 1, 30)
    together = encoder(audio_batch(*lengths))
    for index, length in enumerate(lengths):
        alone = encoder(make_batch("waveform", make_clip(length, index)))
        count = 1 if tokens == "clip" else max(1, length - 1)
        assert together.present[index].tolist() == [place < count for place in range(together.values.shape[1])]
        torch.testing.assert_close(together.values[index, :count], alone.values[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.times[index, :count], alone.times[0])
        assert not together.values[index, count:].any()


def test_images_alone_and_in_a_padded_batch_are_equal(dinov2: Path) -> None:
    for tokens in ("clip", "steps"):
        encoder = make_encoder(dinov2, "faces", tokens=tokens).eval()
        together = encoder(image_batch(4, 2))
        alone = encoder(make_batch("faces", make_images(2, 1)))
        count = 1 if tokens == "clip" else 2
        torch.testing.assert_close(together.values[1, :count], alone.values[0], atol=1e-5, rtol=1e-5)
        assert together.present.sum(1).tolist() == ([1, 1] if tokens == "clip" else [4, 2])
        expected = encoder(image_batch(40)).values
        with torch.no_grad():  # in parts
            torch.testing.assert_close(encoder(image_batch(40)).values, expected, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def timm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network as timm saves it."""
    folder = tmp_path_factory.mktemp("timm")
    torch.manual_seed(5)
    timm.models.save_for_hf(timm.create_model("test_vit", num_classes=0), folder, safe_serialization=True)
    return folder


def test_timm_tokens_equal_a_direct_call(timm_folder: Path) -> None:
    network = timm.create_model(f"local-dir:{timm_folder}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    batch = image_batch(3, 1)
    with torch.no_grad():
        expected = network(transform(batch["faces"].values[0]))
        tokens = make_encoder(timm_folder, "faces").eval()(batch)
    torch.testing.assert_close(tokens.values[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext"])
@pytest.mark.parametrize("trainable", [0, 1, "lora"])
def test_timm_networks_train_only_chosen_parameters(name: str, trainable: object) -> None:
    options = {"trainable": trainable, "weights": None, "checkpointing": trainable == 1}
    if (name, trainable) == ("test_resnet", "lora"):
        with pytest.raises(InputError, match=r"^trainable = 'lora', but the layers of ResNet have no linear module"):
            make_encoder(Path(f"timm/{name}"), "faces", **options)
        return
    encoder = make_encoder(Path(f"timm/{name}"), "faces", **options).train()
    for parameter in encoder.parameters():  # some are zero at first, and stop the gradients of others
        parameter.data += 0.05 * torch.randn_like(parameter)
    last = {"test_vit": ".blocks.5.", "test_resnet": ".layer4.", "test_convnext": ".stages.3."}[name]
    expected = expected_names(encoder, trainable, last)
    assert bool(expected) == (trainable != 0)
    assert {key for key, parameter in encoder.named_parameters() if parameter.requires_grad} == expected
    if expected:
        assert names_with_gradient(encoder, image_batch(3, 2)) == expected


# ---- training ----


def names_with_gradient(encoder: nn.Module, batch: dict[str, Steps]) -> set[str]:
    encoder.zero_grad()
    loss_of(encoder(batch)).backward()
    return {
        name for name, parameter in encoder.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }


def expected_names(encoder: nn.Module, trainable: object, last: str) -> set[str]:
    names = {name for name, _ in encoder.named_parameters()}
    if trainable == "lora":
        return {name for name in names if ".lora_" in name}
    return {name for name in names if last in name} if trainable else set()


@pytest.mark.parametrize("trainable", [0, 1, "lora"])
@pytest.mark.parametrize("family", SPEECH_FAMILIES)
def test_audio_gradients_exist_exactly_where_trained(family: str, trainable: object, tmp_path: Path) -> None:
    encoder = make_encoder(make_speech_folder(tmp_path, family), trainable=trainable, layers="all").train()
    for name, parameter in encoder.named_parameters():
        if "lora_B" in name:  # zero at first, so that lora_A has no gradient yet
            nn.init.normal_(parameter)
    expected = expected_names(encoder, trainable, ".layers.1.") | {"layer_weights"}
    assert {name for name, parameter in encoder.named_parameters() if parameter.requires_grad} == expected
    zero = {name for name in expected if name.endswith("k_proj.bias")}  # softmax ignores a constant
    assert names_with_gradient(encoder, audio_batch(20, 9)) | zero == expected
    assert len(expected) > 1 or trainable == 0


@pytest.mark.parametrize("trainable", [0, 1, "lora"])
@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_image_gradients_exist_exactly_where_trained(family: str, trainable: object, tmp_path: Path) -> None:
    encoder = make_encoder(make_image_folder(tmp_path, family), "faces", trainable=trainable, layers="all").train()
    for name, parameter in encoder.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    last = ".layer.1." if family == "dinov2" else ".layers.1."
    expected = expected_names(encoder, trainable, last) | {"layer_weights"}
    assert {name for name, parameter in encoder.named_parameters() if parameter.requires_grad} == expected
    zero = {name for name in expected if name.endswith(("k_proj.bias", "key.bias"))}
    assert names_with_gradient(encoder, image_batch(3, 1)) | zero == expected


@pytest.mark.parametrize("trainable", [1, "lora"])
def test_a_step_changes_exactly_the_trained_parameters(trainable: object, wavlm: Path) -> None:
    network = make_network(wavlm, trainable=trainable)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    settings = Train(**TRAIN_SETTINGS | {"learning_rate": {"default": 1e-3, "voice": 1e-4}, "weight_decay": 0.0})  # type: ignore[arg-type]
    optimizer = build_optimizer(network, settings)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [1e-4, 1e-3]
    network.train()
    for _ in range(2):  # after the first step, both parts of an adapter have gradients
        network({"voice": audio_batch(20, 9)}).predicted["traits"].square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    of_encoder = {name.removeprefix("encoders.voice.") for name in changed if name.startswith("encoders.voice.")}
    expected = expected_names(network.encoders["voice"], trainable, ".layers.1.")
    assert of_encoder == expected
    assert any(name.startswith("heads.") for name in changed)


def test_frozen_layers_stay_in_evaluation_mode(wavlm: Path) -> None:
    training = {name for name, module in make_encoder(wavlm).train().network.named_modules() if module.training}
    assert training
    assert all(name.startswith("encoder.layers.1") for name in training)
    encoder = make_encoder(wavlm, trainable="lora").train()
    assert not any(module.training for module in encoder.network.modules())
    assert torch.equal(encoder(audio_batch(9)).values, encoder(audio_batch(9)).values)  # no dropout
    assert not any(module.training for module in make_encoder(wavlm).train().eval().modules())


@pytest.mark.parametrize("trainable", [1, "lora"])
@pytest.mark.parametrize("layers", ["last", "all"])
@pytest.mark.parametrize("reads", ["waveform", "faces"])
def test_checkpointing_gives_equal_gradients(
    trainable: object, layers: str, reads: str, wavlm: Path, dinov2: Path
) -> None:
    folder, batch = (wavlm, audio_batch(20, 9)) if reads == "waveform" else (dinov2, image_batch(3, 2))
    gradients, calls = [], []
    for checkpointing in (False, True):
        encoder = make_encoder(folder, reads, trainable=trainable, layers=layers, checkpointing=checkpointing)
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter)
        encoder.train()
        (linear,) = [
            module
            for name, module in encoder.network.named_modules()
            if name.endswith(("layers.1.feed_forward.intermediate_dense", "layer.1.mlp.fc1"))
        ]
        count = [0]
        linear.register_forward_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        torch.manual_seed(3)  # of dropout
        loss_of(encoder(batch)).backward()
        calls.append(count[0])
        gradients.append([parameter.grad for parameter in encoder.parameters() if parameter.grad is not None])
    assert calls[1] == 2 * calls[0]  # each activation is computed again
    assert len(gradients[0]) == len(gradients[1]) > 0
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_layer_weights_are_learned_and_sum_to_one(wavlm: Path) -> None:
    encoder = make_encoder(wavlm, layers="all", trainable=0).eval()
    mean = make_encoder(wavlm, layers="mean", trainable=0).eval()
    torch.testing.assert_close(encoder(audio_batch(9)).values, mean(audio_batch(9)).values)  # equal at first
    assert encoder.layer_weights is not None
    assert encoder.layer_weights.shape == (3,)
    encoder.layer_weights.data[1] = 50.0
    single = make_encoder(wavlm, layers=[1], trainable=0).eval()
    torch.testing.assert_close(encoder(audio_batch(9)).values, single(audio_batch(9)).values)


# ---- models ----


def make_model_settings(folder: Path, reads: str = "waveform", **changes: Any) -> Any:
    voice = SETTINGS | {"network": str(folder), "reads": [reads]} | changes
    return make_settings(["voice"], encoders={"voice": voice})


def make_streams(reads: str = "waveform") -> dict[str, StreamInfo]:
    if reads == "waveform":
        return {"waveform": StreamInfo({"enabled": True, "sample_rate": 16_000}, {"": [CHUNK]})}
    return {"faces": StreamInfo({}, {"": [3, 40, 40]})}


def make_network(folder: Path, reads: str = "waveform", **changes: Any) -> Network:
    torch.manual_seed(0)
    return Network.from_settings(make_model_settings(folder, reads, **changes), TRAITS_GROUP, make_streams(reads))


@pytest.mark.parametrize("changes", AUDIO_CHANGES, ids=["frozen", "last", "lora"])
@pytest.mark.parametrize("reads", ["waveform", "faces"])
def test_saved_model_predicts_the_same_without_the_folder(changes: dict[str, Any], reads: str, tmp_path: Path) -> None:
    folder = (make_speech_folder if reads == "waveform" else make_image_folder)(tmp_path / "network")
    settings = make_model_settings(folder, reads, layers="all", **changes).fill_from_clips(lambda name: [])
    streams = make_streams(reads)
    if reads == "faces":
        streams["faces"] = StreamInfo(_faces_settings(), streams["faces"].shapes)
    torch.manual_seed(0)
    network = Network.from_settings(settings, TRAITS_GROUP, streams).eval()
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    batch = {"voice": audio_batch(20, 9) if reads == "waveform" else image_batch(3, 1)}
    with torch.no_grad():
        expected = network(batch).predicted["traits"]
    checkpoint.save(
        tmp_path / "model.pt", network.state_dict(), settings, TRAITS_GROUP, streams, TrainingSummary(["demo"])
    )
    folder.rename(tmp_path / "elsewhere")
    model = checkpoint.load(tmp_path / "model.pt", torch.device("cpu"))
    with torch.no_grad():
        assert torch.equal(model.network(batch).predicted["traits"], expected)
    assert not model.network.training


def _faces_settings() -> dict[str, Any]:
    return parameters.read_yaml(ROOT / "params.yaml")["faces"]


def test_pretrained_features_need_the_folder(wavlm: Path, tmp_path: Path) -> None:
    folder = make_speech_folder(tmp_path / "network")
    settings = make_model_settings(folder).fill_from_clips(lambda name: [])
    network = Network.from_settings(settings, TRAITS_GROUP, make_streams())
    weights = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    checkpoint.save(tmp_path / "model.pt", weights, settings, TRAITS_GROUP, make_streams(), TrainingSummary(["demo"]))
    (encoder,) = checkpoint.pretrained(tmp_path / "model.pt").values()
    torch.testing.assert_close(encoder(audio_batch(9)).values, make_encoder(folder).eval()(audio_batch(9)).values)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"^model\.encoders\.voice\.network = .*network' is not a folder"):
        checkpoint.pretrained(tmp_path / "model.pt")


def test_random_weights_need_only_the_description(tmp_path: Path) -> None:
    folder = make_speech_folder(tmp_path)
    pretrained_weights = make_encoder(folder).network.state_dict()
    (folder / "model.safetensors").unlink()
    torch.manual_seed(1)
    encoder = pretrained.Encoder(
        pretrained.Settings(**SETTINGS | {"network": str(folder), "reads": ["waveform"], "weights": None}), [[CHUNK]]
    )
    assert encoder.network.state_dict().keys() == pretrained_weights.keys()
    first = "encoder.layers.0.attention.q_proj.weight"
    assert not torch.equal(encoder.network.state_dict()[first], pretrained_weights[first])
    with pytest.raises(InputError, match=r"^network = .* can't be loaded"):
        make_encoder(folder)


def test_encoder_can_be_copied_for_an_average_of_weights(wavlm: Path) -> None:
    encoder = make_encoder(wavlm, trainable="lora").eval()
    assert torch.equal(copy.deepcopy(encoder)(audio_batch(9)).values, encoder(audio_batch(9)).values)


def test_folder_files_enter_the_fingerprint_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_speech_folder(tmp_path / "network")
    values = plain(merge_parameters("demo", ["model.use=[waveform]", f"model.encoders.waveform.network={folder}"]))
    sections = parameters.check({name: values[name] for name in Parameters.model_fields}, Parameters)
    monkeypatch.chdir(tmp_path)

    def fingerprint() -> str:
        return prepare.fingerprint(sections, sections.model.settings_by_encoder(), make_streams())

    before = fingerprint()
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b" ")
    assert fingerprint() != before


# ---- bad input ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"take": "parts"}, r"^model\.encoders\.voice\.take = parts with audio; allowed: all, window"),
        ({"trainable": -1}, r"^model\.encoders\.voice\.trainable = -1; allowed: a number of layers .*, or lora"),
        ({"trainable": "all"}, r"^model\.encoders\.voice\.trainable = 'all'; allowed: a number of layers .*, or lora"),
        ({"network": " "}, r"^model\.encoders\.voice\.network = ' '; allowed: the name or folder"),
    ],
)
def test_invalid_settings_name_key_and_remedy(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        check_settings({"voice": SETTINGS | {"network": "folder", "reads": ["waveform"]} | changes})


def test_networks_that_do_not_fit_are_rejected(wavlm: Path, dinov2: Path, tmp_path: Path) -> None:
    def build(folder: Path, reads: str, shape: list[int], **changes: Any) -> Any:
        values = SETTINGS | {"network": str(folder), "reads": [reads]} | changes
        return encoders.build("voice", pretrained.Settings(**values), [shape])

    text = make_text_folder(tmp_path / "text")
    prefix = r"^model\.encoders\.voice\."
    with pytest.raises(
        SettingError, match=prefix + r"trainable = 3, but the network has 2 layers; allowed: 0 to 2, or lora"
    ):
        build(wavlm, "waveform", [CHUNK], trainable=3)
    with pytest.raises(
        SettingError, match=prefix + r"reads has chunks of 160 samples, .* set waveform\.sample_rate to 16000"
    ):
        build(wavlm, "waveform", [160])
    with pytest.raises(SettingError, match=prefix + r"network = .* is of the type dinov2; allowed: .* WavLM"):
        build(dinov2, "waveform", [CHUNK])
    with pytest.raises(
        SettingError, match=prefix + r"network = .* reads input_ids; allowed: networks that read images"
    ):
        build(text, "faces", [3, 40, 40])
    with pytest.raises(
        SettingError, match=prefix + r"reads = \['audio'\]; allowed for pretrained: waveform, or one stream"
    ):
        build(wavlm, "audio", [64])
    with pytest.raises(SettingError, match=prefix + r"layers = \[5\]; allowed for this network: .* from 0 to 2"):
        build(wavlm, "waveform", [CHUNK], layers=[5])
    with pytest.raises(SettingError, match=prefix + r"network = 'nowhere/at-all' is neither a folder"):
        build(Path("nowhere/at-all"), "waveform", [CHUNK])
    with pytest.raises(
        SettingError, match=prefix + r"network = 'timm/test_vit', .*; allowed for timm: images and last"
    ):
        build(Path("timm/test_vit"), "faces", [3, 40, 40], weights=None, layers="mean")
    with pytest.raises(SettingError, match=prefix + r"network = 'timm/test_vyt' is unknown to timm"):
        build(Path("timm/test_vyt"), "faces", [3, 40, 40], weights=None)
    with pytest.raises(SettingError, match=prefix + r"weights = 'w.pt'; allowed with network = .*: null or pretrained"):
        build(wavlm, "waveform", [CHUNK], weights="w.pt")
    (dinov2 / "preprocessor_config.json").rename(tmp_path / "preprocessor_config.json")
    with pytest.raises(SettingError, match=prefix + r"network = .* has no image processor"):
        build(dinov2, "faces", [3, 40, 40])
    (tmp_path / "preprocessor_config.json").rename(dinov2 / "preprocessor_config.json")


def test_images_of_a_wrong_size_for_the_network_are_rejected(tmp_path: Path) -> None:
    folder = make_image_folder(tmp_path, "vit")
    transformers.ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    with pytest.raises(InputError, match=r"^network = .* can't compute its output \(Input image size .*; check config"):
        make_encoder(folder, "faces")


def test_pooling_layer_without_weights_is_not_rebuilt(tmp_path: Path) -> None:
    folder = make_image_folder(tmp_path / "network", "vit")
    transformers.ViTModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(folder)
    settings = make_model_settings(folder, "faces").fill_from_clips(lambda name: [])
    streams = {"faces": StreamInfo(_faces_settings(), {"": [3, 40, 40]})}
    network = Network.from_settings(settings, TRAITS_GROUP, streams).eval()
    checkpoint.save(
        tmp_path / "model.pt", network.state_dict(), settings, TRAITS_GROUP, streams, TrainingSummary(["demo"])
    )
    model = checkpoint.load(tmp_path / "model.pt", torch.device("cpu"))
    batch = {"voice": image_batch(2)}
    assert torch.equal(model.network(batch).predicted["traits"], network(batch).predicted["traits"])


@pytest.mark.parametrize("name", ["timm/test_vit", "folder"])
def test_saved_timm_model_predicts_the_same_without_the_folder(name: str, timm_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(timm_folder, tmp_path / "network")
    folder, weights = (Path(name), None) if name != "folder" else (tmp_path / "network", "pretrained")
    settings = make_model_settings(folder, "faces", weights=weights).fill_from_clips(lambda name: [])
    streams = {"faces": StreamInfo(_faces_settings(), {"": [3, 40, 40]})}
    network = Network.from_settings(settings, TRAITS_GROUP, streams).eval()
    checkpoint.save(
        tmp_path / "model.pt", network.state_dict(), settings, TRAITS_GROUP, streams, TrainingSummary(["demo"])
    )
    shutil.rmtree(tmp_path / "network")
    model = checkpoint.load(tmp_path / "model.pt", torch.device("cpu"))
    batch = {"voice": image_batch(2)}
    assert torch.equal(model.network(batch).predicted["traits"], network(batch).predicted["traits"])


def test_interrupted_training_resumes_to_the_same_weights(wavlm: Path, tmp_path: Path) -> None:
    def train(folder: Path, epochs: int, hooks: tuple[Any, ...] = ()) -> Any:
        network = make_network(wavlm, trainable="lora", layers="all")
        data = TrainData(
            _Clips(6),
            _Clips(3),
            TRAITS_GROUP,
            Train(**TRAIN_SETTINGS | {"epochs": epochs}),
            network.settings_by_encoder,
        )
        return run.train(cpu_fabric(), network, data, folder, hooks)

    class Stop(Hook):
        def on_epoch(self, state: Any, row: Any) -> None:
            if len(state.history) == 1:
                raise KeyboardInterrupt

    for name in ("complete", "interrupted"):
        (tmp_path / name).mkdir()
    weights, history = train(tmp_path / "complete", 2)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "interrupted", 2, (Stop(),))
    resumed, resumed_history = train(tmp_path / "interrupted", 2)
    assert same_weights(weights, resumed)
    assert [row["validation_loss"] for row in history] == [row["validation_loss"] for row in resumed_history]


class _Clips(InMemoryClips):
    """Clips of noise of different lengths."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        for index, sample in enumerate(self.samples):
            clip = make_clip(8 + index % 3, index)
            self.samples[index] = sample._replace(inputs={"voice": {"waveform": clip}})


def test_missing_peft_is_named(wavlm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(
        InputError, match=r"^trainable = 'lora' needs peft, .* pip install -r requirements-transformers"
    ):
        make_encoder(wavlm, trainable="lora")
