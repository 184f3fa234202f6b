"""The works that the paper cites, as BibTeX entries and as LaTeX bibliography items."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from lib.report.latex import escape


class Work(NamedTuple):
    """A cited work; `venue` is a journal, a proceedings or a publisher."""

    kind: str
    authors: str
    title: str
    venue: str
    year: int


WORKS = {
    "adebayo2018": Work("inproceedings", "J. Adebayo and others", "Sanity checks for saliency maps", "NeurIPS", 2018),
    "biel2013": Work(
        "article", "J.-I. Biel and D. Gatica-Perez",
        "The YouTube lens: crowdsourced personality impressions and audiovisual analysis of vlogs",
        "IEEE Transactions on Multimedia", 2013,
    ),
    "biel2013words": Work(
        "inproceedings", "J.-I. Biel and V. Tsiminaki and J. Dines and D. Gatica-Perez",
        "Hi YouTube! Personality impressions and verbal content in social video", "ICMI", 2013,
    ),
    "breiman2001": Work("article", "L. Breiman", "Random forests", "Machine Learning", 2001),
    "chambolle2011": Work(
        "article", "A. Chambolle and T. Pock",
        "A first-order primal-dual algorithm for convex problems with applications to imaging",
        "Journal of Mathematical Imaging and Vision", 2011,
    ),
    "efron1993": Work("book", "B. Efron and R. J. Tibshirani", "An introduction to the bootstrap", "Chapman and Hall", 1993),
    "escalante2020": Work(
        "article", "H. J. Escalante and others", "Modeling, recognizing, and explaining apparent personality from videos",
        "IEEE Transactions on Affective Computing", 2020,
    ),
    "eyben2016": Work(
        "article", "F. Eyben and others",
        "The Geneva minimalistic acoustic parameter set (GeMAPS) for voice research and affective computing",
        "IEEE Transactions on Affective Computing", 2016,
    ),
    "gebru2021": Work("article", "T. Gebru and others", "Datasheets for datasets", "Communications of the ACM", 2021),
    "hendrycks2019": Work(
        "inproceedings", "D. Hendrycks and T. Dietterich",
        "Benchmarking neural network robustness to common corruptions and perturbations", "ICLR", 2019,
    ),
    "holm1979": Work(
        "article", "S. Holm", "A simple sequentially rejective multiple test procedure",
        "Scandinavian Journal of Statistics", 1979,
    ),
    "jain2019": Work("inproceedings", "S. Jain and B. C. Wallace", "Attention is not explanation", "NAACL", 2019),
    "king2009": Work("article", "D. E. King", "Dlib-ml: a machine learning toolkit", "JMLR", 2009),
    "loshchilov2019": Work(
        "inproceedings", "I. Loshchilov and F. Hutter", "Decoupled weight decay regularization", "ICLR", 2019
    ),
    "mauch2014": Work(
        "inproceedings", "M. Mauch and S. Dixon",
        "pYIN: a fundamental frequency estimator using probabilistic threshold distributions", "ICASSP", 2014,
    ),
    "mitchell2019": Work("inproceedings", "M. Mitchell and others", "Model cards for model reporting", "FAT*", 2019),
    "park2019": Work(
        "inproceedings", "D. S. Park and others",
        "SpecAugment: a simple data augmentation method for automatic speech recognition", "Interspeech", 2019,
    ),
    "ponce2016": Work(
        "inproceedings", "V. Ponce-López and others",
        "ChaLearn LAP 2016: first round challenge on first impressions - dataset and results", "ECCV workshops", 2016,
    ),
    "sundararajan2017": Work(
        "inproceedings", "M. Sundararajan and A. Taly and Q. Yan", "Axiomatic attribution for deep networks", "ICML", 2017
    ),
    "vaswani2017": Work("inproceedings", "A. Vaswani and others", "Attention is all you need", "NeurIPS", 2017),
    "wu2023": Work(
        "article", "W. Wu and H. Peng and S. Yu", "YuNet: a tiny millisecond-level face detector",
        "Machine Intelligence Research", 2023,
    ),
    "yun2019": Work(
        "inproceedings", "S. Yun and others",
        "CutMix: regularization strategy to train strong classifiers with localizable features", "ICCV", 2019,
    ),
    "zach2007": Work(
        "inproceedings", "C. Zach and T. Pock and H. Bischof", "A duality based approach for realtime TV-L1 optical flow",
        "DAGM", 2007,
    ),
    "zadeh2018": Work(
        "inproceedings", "A. Zadeh and others",
        "Multimodal language analysis in the wild: CMU-MOSEI dataset and interpretable dynamic fusion graph", "ACL", 2018,
    ),
    "zeiler2014": Work(
        "inproceedings", "M. D. Zeiler and R. Fergus", "Visualizing and understanding convolutional networks", "ECCV", 2014
    ),
    "zhang2016": Work(
        "article", "K. Zhang and others",
        "Joint face detection and alignment using multitask cascaded convolutional networks",
        "IEEE Signal Processing Letters", 2016,
    ),
    "zhang2018": Work(
        "inproceedings", "H. Zhang and others", "mixup: beyond empirical risk minimization", "ICLR", 2018
    ),
    "zhong2020": Work("inproceedings", "Z. Zhong and others", "Random erasing data augmentation", "AAAI", 2020),
    "zhong2021": Work(
        "article", "Y. Zhong and others", "SFace: sigmoid-constrained hypersphere loss for robust face recognition",
        "IEEE Transactions on Image Processing", 2021,
    ),
}  # fmt: skip
_VENUES = {"article": "journal", "inproceedings": "booktitle", "book": "publisher"}


def find_cited(text: str) -> dict[str, Work]:
    """Return the works that a LaTeX text cites, by key, in the order of WORKS."""
    keys = {key for keys in re.findall(r"\\cite\{([^}]+)\}", text) for key in keys.split(",")}
    return {key: work for key, work in WORKS.items() if key in keys}


def format_bibtex(works: Mapping[str, Work]) -> str:
    """Return the works as a BibTeX file."""
    entries = []
    for key, (kind, authors, title, venue, year) in works.items():
        fields = {"author": authors, "title": f"{{{title}}}", _VENUES[kind]: venue, "year": str(year)}
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        entries.append(f"@{kind}{{{key},\n{lines}\n}}\n")
    return "\n".join(entries)


def format_items(works: Mapping[str, Work]) -> str:
    r"""Return the works as \bibitem lines."""
    lines = []
    for key, work in works.items():
        names = work.authors.replace(" and others", " et al").replace(" and ", ", ")
        lines.append(rf"\bibitem{{{key}}} {escape(f'{names}. {work.title}. {work.venue}, {work.year}.')}")
    return "\n".join(lines)
