"""Values and words of the stream's arrays and arguments, which need no detector."""

ABSENT, INTERPOLATED, DETECTED = 0, 1, 2
"""Values of the array `found`: whether a frame has no face, or how the points of its face were found."""

MAIN = "main"
"""The person who is tracked by default: large, visible long, and moving."""

ASKED = (MAIN, "left", "right", "largest")
"""The persons who can be asked for; also a number N as text: the Nth from the left, from 1 on."""
