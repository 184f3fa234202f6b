"""The measures of the stream voice: names, units and meanings."""

from lib.streams._measures import EVENT, Measure

_CLIP = ("value",)

MEASURES = (
    Measure(
        "speech", "0 or 1", "turns", "the person speaks: a turn, whose gaps are shorter than `voice.min_pause`", EVENT
    ),
    Measure("pause", "0 or 1", "turns", "silence between two turns", EVENT),
    Measure("voiced", "0 or 1", "pitch", "the audio has a pitch (pYIN), in speech", ("fraction",)),
    Measure(
        "pitch", "Hz", "pitch", "fundamental frequency by pYIN (Mauch and Dixon 2014), where voiced",
        ("mean", "std", "p10", "median", "p90"),
    ),
    Measure("semitones", "semitones above 55 Hz", "pitch", "the same on a logarithmic scale", ("std", "slope")),
    Measure(
        "level", "dB", "energy", "power relative to full scale in 25 ms; statistics: in speech",
        ("mean", "std", "p10", "median", "p90", "slope"),
    ),
    Measure(
        "syllable", "0 or 1", "rate",
        "peak of the level in voiced speech, at least 2 dB above the dips around it (after de Jong and Wempe 2009)",
        ("number",),
    ),
    Measure("speech_rate", "syllables per second", "rate", "syllables per second of speech", _CLIP, by_clip=True),
    Measure(
        "jitter", "ratio", "voice quality", "mean difference of consecutive periods over the mean period", _CLIP,
        by_clip=True,
    ),
    Measure(
        "shimmer", "ratio", "voice quality", "mean difference of the amplitudes of consecutive periods over their mean",
        _CLIP, by_clip=True,
    ),
)  # fmt: skip
"""All measures, in the order of the columns of the array `steps`."""
