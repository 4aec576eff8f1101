"""The shipped comparison of methods takes in all of them, and profile cpu leaves none of their terms off.

Cards of sources (``bcp_source``) differ in recipe, which the comparison has the same for all.
"""

from __future__ import annotations

from sfrbench.catalog import Catalog
from sfrbench.components.base import Ssl
from sfrbench.plan import build_plan
from sfrbench.spec_reader import locate, read_spec


def test_every_method_is_in_the_comparison_and_none_is_off_in_profile_cpu() -> None:
    """What a source counts in steps lies within the shortened training."""
    spec = read_spec(locate("all_methods_smoke"), "cpu")
    cells = build_plan(spec, Catalog.read(), lambda resolved: "").cells
    plain = {name for name in Catalog.read().names("ssl") if not name.endswith("_source")}
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
