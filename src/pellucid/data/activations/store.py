"""A finished store of activations: figures and contexts of every unit, and SQL over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
from jaxtyping import Float32, Float64

from pellucid.data.activations.files import contexts_file, units_file
from pellucid.data.activations.manifest import Manifest, program_fingerprint, read_manifest
from pellucid.data.activations.tables import QUANTILES, rank_error
from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.ir.program import Program
from pellucid.ir.units import Site, Unit

How = Literal["top", "quantile", "random"]


@dataclass(frozen=True)
class Moments:
    """Figures of the units of a site, one entry each.

    Attributes:
        count: positions they are taken over.
        mean, variance, low, high: of the activation.
        active: share of the positions with an activation above 0.
        quantiles: by column ("q01", "q05", "q25", "q50", "q75", "q95", "q99"); see `Store.quantile_error`.
    """

    count: int
    mean: Float64[np.ndarray, " units"]
    variance: Float64[np.ndarray, " units"]
    low: Float32[np.ndarray, " units"]
    high: Float32[np.ndarray, " units"]
    active: Float64[np.ndarray, " units"]
    quantiles: Mapping[str, Float32[np.ndarray, " units"]]


@dataclass(frozen=True)
class Context:
    """A position with a unit's activation there.

    Attributes:
        window, token: row and column in the ids of the corpus.
        how: why it was chosen; `stratum` of the active ones it is from (0 the weakest), 0 where it is of none.
        rank: from 0 on: of "top" the highest first, of "quantile" the lowest first.
    """

    window: int
    token: int
    activation: float
    how: How
    stratum: int
    rank: int


@dataclass(frozen=True)
class Store:
    """A directory that `capture` filled. Positions of windows are those of the corpus it was captured on."""

    directory: Path
    manifest: Manifest

    @staticmethod
    def open(directory: str | PathLike[str], program: Program | None = None, corpus: Corpus | None = None) -> Store:
        """A finished store, checked to be of this program and corpus where they are given.

        Raises:
            BadInput: there is none, it is damaged or not finished, or of another model or corpus.
        """
        place = Path(directory)
        manifest = read_manifest(place)
        if manifest is None:
            raise BadInput(f"{place}: no store of activations; capture some there first")
        if not manifest.complete:
            raise BadInput(
                f"{place}: the capture ended after {manifest.done} of {manifest.shards} shards; run it again to go on"
            )
        store = Store(place, manifest)
        store.check(program, corpus)
        return store

    def check(self, program: Program | None = None, corpus: Corpus | None = None) -> None:
        """Check that the activations are of this program and of this corpus. Raises BadInput when they are not."""
        for name, right in (
            ("model", program is None or program_fingerprint(program) == self.manifest.program),
            ("corpus", corpus is None or corpus.fingerprint == self.manifest.corpus),
        ):
            if not right:
                raise BadInput(
                    f"{self.directory}: these activations are of another {name}; capture this one in another directory"
                )

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that were captured."""
        return self.manifest.sites

    @property
    def quantile_error(self) -> float:
        """How far quantiles (and strata) may be off in rank, with 95%; see `pellucid.data.activations.tables`."""
        positions = self.manifest.windows * (self.manifest.context - self.manifest.wanted.first)
        return rank_error(self.manifest.wanted.sample, positions)

    def moments(self, site: Site | str) -> Moments:
        """The figures of all units of a site. Raises BadInput when it was not captured."""
        table = self._read(units_file(self.directory, self._number(site)))
        columns = {name: table[name].to_numpy() for name in table.column_names if name not in ("site", "unit", "count")}
        quantiles = {name: columns.pop(name) for name in QUANTILES}
        return Moments(int(table["count"][0].as_py()), **columns, quantiles=quantiles)

    def contexts(self, unit: Unit | str, how: How | None = None) -> tuple[Context, ...]:
        """The contexts of a unit, all or those chosen in one way, in the order of their ranks.

        Raises:
            BadInput: the unit was not captured.
        """
        site, index = (unit.site, unit.index) if isinstance(unit, Unit) else _told(unit)
        number = self._number(site)
        found = self.sites[number][index]
        table = self._read(contexts_file(self.directory, number), [("unit", "=", index)])
        return _by_unit(table, how).get(found.index, ())

    def all_contexts(self, site: Site | str, how: How | None = None) -> dict[int, tuple[Context, ...]]:
        """The contexts of all units of a site that have any, by index. Raises BadInput when it was not captured."""
        return _by_unit(self._read(contexts_file(self.directory, self._number(site))), how)

    def query(self, sql: str) -> pa.Table:
        """What a question in SQL over the tables `units` and `contexts` gives (see `pellucid.data.activations.tables`).

        Raises:
            BadInput: duckdb does not understand it; the files of this machine cannot be reached from it.
        """
        with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as session:
            for name, file in (("units", units_file), ("contexts", contexts_file)):
                paths = [file(self.directory, number) for number in range(len(self.sites))]
                session.register(name, pyarrow.dataset.dataset(paths))
            try:
                relation = session.sql(sql)
                found = None if relation is None else relation.to_arrow_table()
            except duckdb.Error as error:
                raise BadInput(f"query: {str(error).splitlines()[0]}; ask of the tables units and contexts") from error
        if found is None:
            raise BadInput("query: it gives no table; begin it with SELECT")
        return found

    def _number(self, site: Site | str) -> int:
        for number, known in enumerate(self.sites):
            if site == known or site == str(known):
                return number
        raise BadInput(f"{self.directory}: {site} was not captured; there are, for example, {_some(self.sites)}")

    def _read(self, file: Path, filters: list[tuple[str, str, int]] | None = None) -> pa.Table:
        try:
            return pq.read_table(file, filters=filters)
        except (OSError, pa.ArrowInvalid) as error:
            raise BadInput(f"{file}: cannot be read ({str(error).splitlines()[0]}); capture anew") from error


def _by_unit(table: pa.Table, how: How | None) -> dict[int, tuple[Context, ...]]:
    found: dict[int, list[Context]] = {}
    for row in table.drop_columns(["site"]).to_pylist():
        index = row.pop("unit")
        if how in (None, row["how"]):
            found.setdefault(index, []).append(Context(**row))
    return {index: tuple(contexts) for index, contexts in found.items()}


def _told(unit: str) -> tuple[str, int]:
    site, _, index = unit.rstrip("]").rpartition("[")
    if not index.isdecimal():
        raise BadInput(f"unit {unit!r} is not of the form function:value[index]")
    return site, int(index)


def _some(sites: tuple[Site, ...]) -> str:
    return ", ".join(str(site) for site in sites[:3])
