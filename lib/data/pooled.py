"""Each clip's vectors averaged over time: what a linear baseline reads."""

from pathlib import Path

import pandas as pd

from lib.core import shards
from lib.streams import base


def vectors(data: Path) -> dict[str, pd.DataFrame]:
    """Return for each stream of vectors that is on a row of numbers for each clip that it has, by name; `data` holds the
    streams' folders."""
    found = {}
    for name in base.names():
        stream = base.load(name)
        if stream.kind == "vectors" and (data / name / base.ABOUT).exists():
            records = (one for path in sorted((data / name).glob("*.h5")) for one in shards.read(path))
            pooled = {one.clip: base.pooled(stream, one) for one in records if not one.refused}
            found[name] = pd.DataFrame.from_dict(pooled, orient="index")
    return found
