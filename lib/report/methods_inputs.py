"""Sentences of the paper on the streams that a model reads, and on augmentation: LaTeX, from the parameters."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from lib.report.latex import escape
from lib.report.verdict import join

INPUTS = {
    "faces": ("frames",), "flow": ("faces",), "landmarks": ("faces",), "sound_descriptors": ("audio",),
    "behaviour": ("frames", "faces", "landmarks", "flow"),
}  # fmt: skip
"""Streams from which a stream is computed; for embeddings, scenes and descriptors their key `source` decides."""
IMAGES = frozenset({"frames", "faces", "flow", "landmarks", "pictures"})
"""Streams to which augmentation of images applies."""
_OWN_WEIGHTS = ("dlib_face", "sface", "efficientnet_lite0", "pyemotion")
_TEXTS = {
    "hashing": "hashed n-grams of words and characters",
    "counts": "numbers of words, questions and fillers",
}
_SOUNDS = {
    "spectra": "statistics of the spectra over time",
    "prosody": "ten numbers on pitch, level and pauses",
    "egemaps": "the 88 features of eGeMAPS \\cite{eyben2016}",
    "speaker": "resemblyzer's speaker embedding",
}


def find_references(model: Mapping[str, Any]) -> list[str]:
    """Return the references to streams (`audio.mfcc`) that the encoders in use read, each once."""
    return list(dict.fromkeys(ref for encoder in model["use"] for ref in model["encoders"][encoder]["reads"]))


def find_streams(parameters: Mapping[str, Any], references: Iterable[str]) -> set[str]:
    """Return the streams of these references, and all streams from which they are computed."""
    streams: set[str] = set()
    waiting = [reference.partition(".")[0] for reference in references]
    while waiting:
        if (name := waiting.pop()) not in streams:
            streams.add(name)
            source = parameters[name].get("source")
            inputs = INPUTS.get(name, () if source is None else (source,))
            waiting += ("faces", "flow") if (name, source) == ("descriptors", "faces") else inputs
    return streams


def describe_streams(parameters: Mapping[str, Any], references: list[str]) -> Iterator[str]:
    """Yield sentences on all streams that the encoders read, and on those from which they are computed."""
    streams = find_streams(parameters, references)
    for name, describe in _DESCRIPTIONS.items():
        if name in streams:
            arrays = [ref.partition(".")[2] for ref in references if ref.partition(".")[0] == name]
            yield from describe(parameters[name], arrays)


def _frames(frames: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    yield f"Frames were sampled at {frames['fps']:g} per second."


def _pictures(pictures: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    side = pictures["side"]
    yield rf"Our own images of each clip were scaled to {side} $\times$ {side} pixels, {pictures['fps']:g} per second."


def _faces(faces: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    if faces["detector"] == "yunet":
        yield (
            "YuNet \\cite{wu2023} detected the speaker's face, and the last network of MTCNN \\cite{zhang2016} placed five"
            " points."
        )
    else:
        yield "MTCNN \\cite{zhang2016} detected the speaker's face."
    if faces["identity"] == "sface":
        yield "After a cut, embeddings of SFace \\cite{zhong2021} recognised the speaker."
    side = faces["side"]
    yield rf"A similarity transform aligned it to a template of five points ({side} $\times$ {side} pixels)."


def _landmarks(landmarks: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    if landmarks["detector"] == "dlib":
        yield "Landmarks are dlib's 68 points \\cite{king2009} on the aligned face."
    else:
        yield "Landmarks are the five points of the face detector on the aligned face."


def _embeddings(settings: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    images = {"faces": "aligned faces", "frames": "frames", "pictures": "our own images"}[settings["source"]]
    network, weights = escape(_name(settings["network"])), settings["weights"]
    if weights is None:
        is_loaded = settings["network"] in _OWN_WEIGHTS or "/" in settings["network"]
        origin = "" if is_loaded else ", randomly initialised"
    elif weights in ("imagenet", "pretrained"):
        origin = {"imagenet": ", trained on ImageNet", "pretrained": ", with its published weights"}[weights]
    else:
        origin = f", with the weights {escape(_name(weights))}"
    yield f"Up to {settings['steps']} {images} of a clip were embedded by the frozen network {network}{origin}."


def _flow(flow: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    is_ours = flow["backend"] == "torch"
    theta = rf" $\theta={flow['theta']:g}$," if is_ours else ""  # OpenCV has its own
    method = "with a primal-dual scheme \\cite{chambolle2011}" if is_ours else "with OpenCV's DualTVL1"
    yield (
        f"TV-L1 optical flow \\cite{{zach2007}} between consecutive faces was computed {method}"
        rf" ($\lambda={flow['lambda']:g}$,{theta} {flow['scales']} scales, {flow['warps']} warps)."
    )


def _audio(audio: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    yield (
        f"Audio ({audio['sample_rate']} Hz) was represented by {audio['mels']} log-mel bands and {audio['mfcc']} MFCC,"
        f" in windows of {1000 * audio['window']:g} ms every {1000 * audio['step']:g} ms."
    )


def _waveform(waveform: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    yield f"The audio track was read as samples at {waveform['sample_rate']} Hz."


def _speech(speech: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    rate = "" if speech["rate"] is None else f", averaged to {speech['rate']:g} per second"
    yield f"Speech was represented by hidden states of the frozen network {escape(_name(speech['network']))}{rate}."


def _sound_descriptors(settings: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    kinds = [kind for kind in settings["kinds"] if kind in arrays or "" in arrays]
    yield f"Audio was summarised by {join([_SOUNDS[kind] for kind in kinds])}."


def _text(text: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    network = escape(_name(text["network"]))
    kinds = _TEXTS | {
        "sentence": f"a sentence embedding ({escape(_name(text['sentence'] or 'all-MiniLM-L6-v2'))})",
        "transformer": f"the mean hidden state of the frozen network {network}",
        "words": f"hidden states of the frozen network {network} for each word",
    }
    yield f"Transcripts were represented by {join([kinds[array or 'hashing'] for array in dict.fromkeys(arrays)])}."


def _features(features: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    yield f"Feature vectors were read from files ({escape(', '.join(features['files']))})."


def _behaviour(behaviour: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    yield (
        "Named measures describe the behaviour of the tracked person: head pose, position, eyes, mouth, brows and motion"
        f" (a camera with a focal length of {behaviour['focal_length']:g} image sides was assumed)."
    )


def _voice(voice: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    activity = {"energy": "by its level", "silero": "by silero-vad"}[voice["activity"]]
    yield (
        "Named measures describe the voice: turns, pauses, pitch, level, speech rate, jitter and shimmer. Speech was"
        f" detected {activity}, and pitch by pYIN \\cite{{mauch2014}}, from {voice['lowest_pitch']:g} to"
        f" {voice['highest_pitch']:g} Hz."
    )


def _descriptors(descriptors: Mapping[str, Any], arrays: list[str]) -> Iterator[str]:
    source = "the mean face and the energy of the flow" if descriptors["source"] == "faces" else "the mean image"
    yield f"A hand-crafted vector has {source} on a grid."


_DESCRIPTIONS = {
    "pictures": _pictures, "frames": _frames, "faces": _faces, "landmarks": _landmarks, "embeddings": _embeddings,
    "scenes": _embeddings, "flow": _flow, "descriptors": _descriptors, "audio": _audio, "waveform": _waveform,
    "speech": _speech, "sound_descriptors": _sound_descriptors, "text": _text, "features": _features,
    "behaviour": _behaviour, "voice": _voice,
}  # fmt: skip


def _name(network: str) -> str:
    """Return a network's name; of an absolute path only its last part."""
    return PurePath(network).name if PurePath(network).is_absolute() else network


def describe_augmentation(augment: Mapping[str, Any], streams: set[str]) -> Iterator[str]:
    """Yield a sentence on the augmentation that applies to these streams. augment: the section train.augment."""
    values = dict.fromkeys(_CHANGES, 0) | dict(augment)
    reach = {
        "images": bool(streams & IMAGES),
        "audio": bool(streams & {"audio", "waveform"}),
        "words": "text" in streams,
    }
    changes = [
        text.format(values[key], percent=f"{100 * values[key]:g} \\%")
        for key, (kind, text) in _CHANGES.items()
        if values[key] and reach.get(kind, True)
    ]
    if changes:
        yield f"Augmentation: {join(changes)}."
    elif reach["images"]:
        yield "No augmentation was used."


_CHANGES = {
    "mirror": ("images", "mirroring half of the clips"),
    "shift": ("images", "shifts of up to {0} pixels"),
    "rotation": ("images", "rotations of up to {0:g} degrees"),
    "scale": ("images", "changes of scale of up to {percent}"),
    "brightness": ("images", "brightness changes of up to {percent}"),
    "contrast": ("images", "contrast changes of up to {percent}"),
    "saturation": ("images", "changes of saturation of up to {percent}"),
    "hue": ("images", "changes of hue of up to {percent} of the colour wheel"),
    "erasing": ("images", "random erasing \\cite{{zhong2020}} in {percent} of the clips"),
    "time_mask": ("", "masks of up to {percent} of a clip's time"),
    "jitter": ("", "jitter of up to {0} steps in time"),
    "frequency_mask": ("audio", "SpecAugment \\cite{{park2019}} on up to {percent} of the bands"),
    "noise": ("audio", "noise with {0:g} times the standard deviation of the audio"),
    "word_dropout": ("words", "removal of {percent} of the words"),
    "mixup": ("", "mixup \\cite{{zhang2018}} with $\\alpha={0:g}$"),
    "cutmix": ("", "CutMix \\cite{{yun2019}} with $\\alpha={0:g}$"),
}
"""Key of train.augment -> what it applies to ("" for all streams), and its words."""
