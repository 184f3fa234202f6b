"""Text on a run's provenance: commit, newest input and versions of packages."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def format_commit(commit: str, digits: int = 40) -> str:
    """Return a provenance's commit, shortened to a number of digits, with a note if files were changed."""
    return commit.removesuffix("+")[:digits] + (", with changed files" if commit.endswith("+") else "")


def describe_newest_input(provenance: Mapping[str, Any]) -> str:
    """Return the date of a training's newest input: the date of the newest archive, else of the commit."""
    if newest := provenance.get("newest_input"):
        return f"{_day(newest)} (newest archive)"
    date = provenance.get("commit_date")
    return f"{_day(date)} (date of the commit, because rendered clips have no date)" if date else "unknown"


def _day(date: str) -> str:
    try:
        return f"{datetime.fromisoformat(date):%-d %b %Y}"
    except ValueError:  # older provenances have other texts
        return date


def list_versions(provenance: Mapping[str, Any]) -> str:
    """Return the packages of a data/provenance.json with their versions."""
    return ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
