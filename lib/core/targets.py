"""The Big Five traits, their fixed order, and the lattice that FIV2's scores lie on."""

TRAITS = ("extraversion", "agreeableness", "conscientiousness", "neuroticism", "openness")
"""Order of the traits in every array and table; in FIV2, `neuroticism` is scored as emotional stability."""

SCORES = (*TRAITS, "interview")
"""The traits and the score for inviting the person to a job interview, all in [0, 1]."""

LATTICE = {
    "extraversion": 107,
    "agreeableness": 91,
    "conscientiousness": 103,
    "neuroticism": 96,
    "openness": 90,
    "interview": 107,
}
"""Every FIV2 score times this number is a whole number (measured on all of the distributed annotations)."""
