"""The demo's targets in addition to those of FIV2: names, columns and annotation files."""

PLANTED = {"nods": "nodding", "speaking": "speaking", "together": "together"}
"""Name in download.demo.planted -> the target's column, from 0 to 1, in the annotation file PLANTED_TABLE."""

RANGES = {"nods": (0.4, 1.6), "speaking": (0.2, 0.8)}
"""The planted property at the lowest and the highest value of the target: nods in Hz, fraction of the time with voice."""

EMOTION_TABLE, PLANTED_TABLE = "emotions.csv", "planted.csv"
"""Annotation files: intensities (0 to 3) of the clips that have emotion labels; and the targets in PLANTED."""
