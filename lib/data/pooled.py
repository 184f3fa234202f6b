"""Each clip's vectors averaged over time: what a linear baseline reads."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from lib.core import shards
from lib.streams import base


def pool_vectors(data: Path) -> dict[str, pd.DataFrame]:
    """Return for each stream of vectors that is on a row of numbers for each clip that it has, by name, and where the stream
    says that they are of several `parts` (a record's attribute: the numbers of each, in order) STREAM.PART for each too;
    `data` holds the streams' folders."""
    found = {}
    for name in base.names():
        stream = base.load(name)
        if stream.kind == "vectors" and (data / name / base.ABOUT).exists():
            records = (one for path in sorted((data / name).glob("*.h5")) for one in shards.read_records(path))
            pooled: dict[str, np.ndarray] = {}
            parts: dict[str, int] = {}
            for one in records:
                if not one.refused:
                    pooled[one.clip] = base.pool_steps(stream, one)
                    parts |= json.loads(one.attributes.get("parts", "{}"))
            found[name] = pd.DataFrame.from_dict(pooled, orient="index")
            ends = np.cumsum([0, *parts.values()])
            for part, start, stop in zip(parts, ends, ends[1:], strict=False) if len(parts) > 1 else ():
                # over several times the standard deviations follow the means
                chosen = (found[name].columns % ends[-1] >= start) & (found[name].columns % ends[-1] < stop)
                found[f"{name}.{part}"] = found[name].loc[:, chosen]
    return found
