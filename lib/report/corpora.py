"""What is known about each corpus, for the data sheet and the paper."""

from typing import NamedTuple

from lib.core.clips import SYNTHETIC


class Corpus(NamedTuple):
    """The description of a corpus: its purpose, its people, how it was collected and labelled, and where to obtain it."""

    motivation: str
    people: str
    collection: str
    distribution: str


_KNOWN = {
    "fiv2": Corpus(
        "For the ChaLearn challenges on first impressions: to predict the apparent Big Five of a person who speaks to a"
        " camera (Ponce-López et al. 2016; Escalante et al. 2020).",
        "People who speak to a camera in YouTube videos, in English. They did not speak for this purpose, and the"
        " distribution does not document their consent. Faces and voices identify them.",
        "Clips of about 15 seconds were cut from the videos. Workers of Amazon Mechanical Turk compared pairs of clips trait"
        " by trait. Numbers between 0 and 1 were fitted to these comparisons. The distribution does not say who judged which"
        " clip.",
        "By ChaLearn after registration; the test videos are encrypted. ChaLearn's terms apply. This project distributes"
        " none of it.",
    ),
    "mosei": Corpus(
        "For research on sentiment and emotion in language, voice and face together (Zadeh et al. 2018).",
        "Speakers of monologues on YouTube, in English. They did not speak for this purpose. Faces and voices identify"
        " them.",
        "Sentences were cut from the videos. Three workers of Amazon Mechanical Turk rated the sentiment of each and the"
        " intensity of six emotions.",
        "Labels by Carnegie Mellon University. The videos are on YouTube, and their uploaders may delete them.",
    ),
    "vlogs": Corpus(
        "For research on how viewers perceive the personality of vloggers (Biel and Gatica-Perez 2013).",
        "People who talk to a camera in YouTube videos, in English, one video each. They did not speak for this purpose. The"
        " distribution has no video; transcripts are anonymised.",
        "Five workers of Amazon Mechanical Turk watched each vlog and rated the Big Five from 1 to 7. Scores are means over"
        " raters. Reliability, ICC(1,k): extraversion .76, agreeableness .64, conscientiousness .45, emotional stability"
        " .42, openness .47. R² of a perfect model of what raters agree on is at most this number.",
        "By Idiap Research Institute, for research. Features: Biel and Gatica-Perez 2013; transcripts: Biel et al. 2013."
        " This project distributes none of it.",
    ),
    "demo": Corpus(
        "To try and test this project. Its labels are planted, so the truth is known.",
        "One person: all clips are rendered from a photograph of Eileen Collins by NASA, in the public domain.",
        "Rendered by `lib/sources/demo`. Labels are factors of the rendering plus noise (data/README.md).",
        "Rendered from a seed by whoever runs the project.",
    ),
}
_KNOWN |= dict.fromkeys(SYNTHETIC, _KNOWN["demo"])
TO_FILL_IN = "*To fill in"
OWN = Corpus(
    "*To fill in: for which purpose, by whom and with which funding the clips were collected.*",
    "*To fill in: the people in the clips, how they gave consent, what they agreed to, and how they can withdraw.*",
    "*To fill in: how the clips were recorded or chosen, who rated them, what raters were asked, and how well they agreed.*",
    "*To fill in: under which terms others may have the clips and the ratings, and who maintains them.*",
)
USES = "Research on how people are perceived. Do not use it to judge people or to decide about them."
BIASES = (
    "A corpus of one language, one platform and one group of raters says nothing about others. People who are rare in it are"
    " predicted worse."
)


def find_corpus(source: str) -> Corpus:
    """Return the description of a source's corpus; for your own clips, texts that you fill in."""
    return _KNOWN.get(source, OWN)
