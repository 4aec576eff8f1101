"""The shipped comparison of methods takes in all of them, and profile cpu leaves none of their terms off.

Cards of sources (``bcp_source``) differ in recipe, which the comparison has the same for all.
"""

from __future__ import annotations

import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Ssl
from sfrbench.plan.build import build_plan
from sfrbench.report.items import kinds
from sfrbench.spec.extends import locate
from sfrbench.spec.reader import read_spec


def test_every_method_is_in_the_comparison_and_none_is_off_in_profile_cpu() -> None:
    """What a source counts in steps lies within the shortened training."""
    spec = read_spec(locate("all_methods_smoke"), "cpu", items=kinds())
    cells = build_plan(spec, Catalog.read(), lambda resolved: "").cells
    plain = {name for name in Catalog.read().names("ssl") if not name.endswith(("_source", "_nnunet"))}
    assert {cell.components["ssl"].card.name for cell in cells} == plain
    for cell in cells:
        fields = cell.components["ssl"].component.model_dump()
        steps = fields["steps"]
        assert fields.get("ramp_length", 0) * fields.get("ramp_unit", 0) <= steps
        if fields.get("local_from") == "full_weight":
            assert fields["ramp_length"] * fields["ramp_unit"] < steps / 2
        late = {name: value for name, value in fields.items() if name.endswith(("_after", "_every"))}
        own = {name: value for name, value in late.items() if name not in Ssl.model_fields}
        assert all(value <= 0.1 * steps for value in own.values()), own


TABLES = [f"table{number:02d}" for number in range(1, 13)]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_one_recipe_for_all_its_methods(table: str) -> None:
    """Batch, length, optimiser, schedule and the ramp's end: the same in profile paper, on each dataset."""
    (path,) = locate("all_methods_smoke").parent.glob(f"{table}_*.yaml")
    cells = build_plan(read_spec(path, "paper", items=kinds()), Catalog.read(), lambda resolved: "").cells
    found: dict[tuple[str, str], list[object]] = {}
    for cell in cells:
        if "ssl" not in cell.components:
            continue
        fields, dataset = cell.components["ssl"].component.model_dump(), cell.components["dataset"].card.name
        for name in ("steps", "batch_labeled", "batch_unlabeled", "optim", "ramp_length", "ramp_unit"):
            if name in fields:
                found.setdefault((dataset, name), []).append(fields[name])
    assert found
    for (dataset, name), values in found.items():
        assert all(value == values[0] for value in values), (dataset, name, values)
