"""Small random networks in folders that `transformers` loads, with their image processor, audio processor or tokenizer."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before huggingface_hub: tests read local folders only

from pathlib import Path
from typing import Any

import torch
import transformers

IMAGE_FAMILIES = ("dinov2", "clip", "siglip", "vit")
SPEECH_FAMILIES = ("wavlm", "hubert", "wav2vec2")

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_SQUARE = {"height": 32, "width": 32}
_CROP = {"size": {"shortest_edge": 36}, "crop_size": _SQUARE}
_IMAGES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "dinov2": ("Dinov2Config", "Dinov2Model", "BitImageProcessor", _CROP),
    "clip": ("CLIPVisionConfig", "CLIPVisionModel", "CLIPImageProcessor", _CROP),
    "siglip": ("SiglipVisionConfig", "SiglipVisionModel", "SiglipImageProcessor", {"size": _SQUARE}),
    "vit": ("ViTConfig", "ViTModel", "ViTImageProcessor", {"size": _SQUARE}),
}
_SPEECH = {"wavlm": "WavLM", "hubert": "Hubert", "wav2vec2": "Wav2Vec2"}
_SENTENCES = ["I think that this is a very good question, and I like it.", "Well, you know, we were not there."]


def make_image_folder(path: Path, family: str = "dinov2") -> Path:
    """Write a vision transformer for images of 32 x 32 pixels with vectors of 16 numbers and two layers; return `path`.

    Its hidden states have 5 tokens (4 patches and the class token), those of siglip 4.
    """
    config, network, processor, sizes = _IMAGES[family]
    sides = {"image_size": 32, "patch_size": 16}
    _save(path, network, getattr(transformers, config)(**SMALL | sides, initializer_range=0.2))
    getattr(transformers, processor)(**sizes).save_pretrained(path)
    return path


def make_speech_folder(path: Path, family: str = "wavlm") -> Path:
    """Write a speech transformer with vectors of 16 numbers, 50 per second of audio of 16 kHz, and two layers."""
    settings = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    config = getattr(transformers, f"{_SPEECH[family]}Config")(**SMALL | settings, initializer_range=0.2)
    _save(path, f"{_SPEECH[family]}Model", config)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=16000, do_normalize=True).save_pretrained(path)
    return path


def make_text_folder(path: Path, positions: int = 66) -> Path:
    """Write a RoBERTa with vectors of 16 numbers, two layers and a tokenizer of bytes and a few words.

    positions: of the network; two more than the number of tokens that a text can have, as in RoBERTa.
    """
    tokenizer = _make_tokenizer(positions - 2)
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=positions, type_vocab_size=1, initializer_range=0.2, **SMALL
    )
    _save(path, "RobertaModel", config)
    tokenizer.save_pretrained(path)
    return path


def _save(path: Path, network: str, config: Any) -> None:
    transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(transformers, network)(config).save_pretrained(path)


def _make_tokenizer(longest: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), special, strict=True))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="<s>", sep_token="</s>", model_max_length=longest, **names
    )
