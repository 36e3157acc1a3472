"""Values drawn from recipes, the same in pieces of any size."""

from __future__ import annotations

import numpy as np
import pytest

from vla_edge.export.family_samples import Recipe
from vla_edge.export.sample.draw import draw


class TestSeeds:
    def test_chunks_do_not_change_the_values(self, monkeypatch: pytest.MonkeyPatch) -> None:
        how = Recipe(0.5, 1.0, rows={700: 3.0}, columns={5: 0.1})
        whole = np.concatenate(list(draw(how, "x", (900, 33), seed=1)))
        monkeypatch.setattr("vla_edge.export.sample.draw.CHUNK_VALUES", 1000)
        pieces = list(draw(how, "x", (900, 33), seed=1))
        assert len(pieces) == 30
        assert np.array_equal(np.concatenate(pieces), whole)

    def test_recipes_scale_rows_and_columns_and_fix_values(self) -> None:
        plain = np.concatenate(list(draw(Recipe(1.0), "x", (8, 4), seed=0)))
        scaled = np.concatenate(
            list(draw(Recipe(1.0, rows={2: 10.0}, columns={1: 0.5}), "x", (8, 4), seed=0))
        )
        assert scaled[2, 1] == pytest.approx(plain[2, 1] * 5)
        assert scaled[0, 1] == pytest.approx(plain[0, 1] * 0.5)
        vector = next(draw(Recipe(0.1, 2.0, fixed={3: -7.0}), "y", (6,), seed=0))
        assert vector[3] == -7.0
        assert np.delete(vector, 3) == pytest.approx(2.0, abs=1.0)
