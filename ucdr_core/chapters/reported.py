"""What the papers print, number by number, each with the terms it stands on."""

from __future__ import annotations

from functools import lru_cache

import pandas as pd

from ucdr_core import paths
from ucdr_core.evidence.rows import Terms


@lru_cache
def reported(paper: str, file: str = "reported") -> pd.DataFrame:
    """Every number that the paper prints, one a line."""
    return pd.read_csv(paths.PACKAGE / "chapters" / paper / f"{file}.csv")


def rows_where(paper: str, **where: str) -> pd.DataFrame:
    """The printed numbers with these values in these columns."""
    rows = reported(paper)
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows


def printed(paper: str, **where: str) -> tuple[float | None, float | None, Terms | None]:
    """The one printed number with these columns, its standard deviation and its terms; None where the paper prints
    none.

    Raises LookupError where several fit.
    """
    rows = rows_where(paper, **where)
    if len(rows) > 1:
        raise LookupError(f"{paper}: {len(rows)} printed numbers fit {where}")
    if rows.empty:
        return None, None, None
    row = rows.iloc[0]
    value, deviation = (None if pd.isna(number) else float(number) for number in (row["value"], row["std"]))
    return (
        value,
        deviation,
        Terms(row["split"], row["variant"], "" if pd.isna(row["quoted_from"]) else row["quoted_from"]),
    )


def reported_value(paper: str, **where: str) -> float | None:
    """The number alone."""
    return printed(paper, **where)[0]
