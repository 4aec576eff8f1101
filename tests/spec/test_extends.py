"""``extends``: what is inherited is as if it were written out; faults are named where they stand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfrbench.catalog.cards import Catalog
from sfrbench.errors import InputError
from sfrbench.files.roots import shipped
from sfrbench.files.yamlio import load
from sfrbench.plan.build import Plan, build_plan
from sfrbench.plan.study import Study, Trial
from sfrbench.report.items import kinds
from sfrbench.report.notebook import _put_spec
from sfrbench.run.experiment import claim
from sfrbench.run.tracking.cells import parent_run
from sfrbench.search.best import write_best_spec
from sfrbench.spec.extends import fingerprint, load_spec, locate
from sfrbench.spec.overlay import Told, laid_over, told
from sfrbench.spec.reader import read_spec
from sfrbench.spec.written import written
from tests.support.runs import QUIET, SPEC, here
from tests.support.specs import GOOD


def write(folder: Path, **files: str) -> Path:
    """Files of these names; returns the last one's path."""
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path


def plan_at(path: Path, profile: str = "smoke") -> Plan:
    return build_plan(read_spec(path, profile, items=kinds()), Catalog.read(), lambda dataset: "none")


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        plan_at(path)
    return str(caught.value).replace(f"{path.parent}/", "")


def same_plan(one: Plan, two: Plan) -> bool:
    """The same nodes for the same cells, in the same order, and the same report."""
    cells = [[(cell.title, cell.label, cell.nodes) for cell in plan.cells] for plan in (one, two)]
    return (
        cells[0] == cells[1] and one.nodes.keys() == two.nodes.keys() and one.spec.report == two.spec.report
    )


#: What is said of GOOD, and what GOOD would be if that were written into it: (text, its substitute) pairs.
WRITTEN_OUT = [
    ("", []),
    ("title: B\nseeds: [3]\n", [("A test", "B"), ("[0, 1]", "[3]")]),
    ("base: {backbone: unet3d}\n", [("vnet", "unet3d")]),
    ("base: {ssl: {steps: 3}}\n", [("ssl: mean_teacher", "ssl: mean_teacher, ssl.steps: 3")]),
    ("base: {ssl.optim: {lr: 0.3}, ssl.steps: 3}\n",
     [("ssl: mean_teacher", "ssl: {name: mean_teacher, steps: 3, optim: {lr: 0.3}}")]),
    ("dataset: {labeled: 3}\n", [("labeled: 2", "labeled: 3")]),
    ("base: {dataset.labeled: 3, dataset: {val: 1}}\n", [("labeled: 2", "labeled: 3, val: 1")]),
    ("dataset: phantom\nprotocol: paper\n", [("strict", "paper")]),
    ("protocol: {spacing: voxel}\n", [("protocol: strict", "protocol: {name: strict, spacing: voxel}")]),
    ("arms:\n  - {name: mt, ssl: {lambda_cons: 0.4}, label: M}\n",
     [("lambda_cons: 0.2}", "lambda_cons: 0.4, label: M}")]),
    ("arms:\n  - {name: bcp, ssl: bcp}\n  - {name: sup, ssl.steps: 3}\n",
     [("ssl: supervised}", "ssl: supervised, ssl.steps: 3}"),
      ("seeds:", "  - {name: bcp, ssl: bcp}\nseeds:")]),
    ("axes: {stitch.scale: [1, 2]}\nreport: [{curve: {x: stitch.scale, y: dice}}]\n",
     [("seeds:", "axes: {stitch.scale: [1, 2]}\nreport: [{curve: {x: stitch.scale, y: dice}}]\nseeds:")]),
    ("profiles: {paper: {ssl: {steps: 4}, arms: {mt: {ssl.lambda_cons: 0.6}}, seeds: [9]}}\n",
     [("seeds:", "profiles: {paper: {ssl.steps: 4, arms: {mt: {ssl: {lambda_cons: 0.6}}}, seeds: [9]}}\n#")]),
]  # fmt: skip


@pytest.mark.parametrize(("said", "changes"), WRITTEN_OUT, ids=range(len(WRITTEN_OUT)))
def test_it_is_as_if_it_were_written_out(tmp_path: Path, said: str, changes: list[tuple[str, str]]) -> None:
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    by_hand = plan_at(write(tmp_path, whole=text), "paper")
    base = plan_at(write(tmp_path, base=GOOD), "paper")
    inherits = plan_at(write(tmp_path, own=f"extends: base.yaml\n{said}"), "paper")
    assert same_plan(inherits, by_hand)
    assert same_plan(base, by_hand) == (not changes)
    # twice removed, and as the text that is recorded
    again = write(tmp_path, **{"deep/more": "extends: ../own.yaml\n"})
    assert load_spec(again).data == inherits.spec.document.data
    assert same_plan(plan_at(write(tmp_path, recorded=inherits.spec.document.text), "paper"), by_hand)


def test_profiles_axes_and_searches_merge_key_by_key(tmp_path: Path) -> None:
    base = """
axes: {"stitch.scale": [1, 2], ssl.w_pl: [1, 3]}
search: {params: {ssl.w_pl: {low: 0.1, high: 10, log: true}, selector.tau: card}, trials: 9, arm: sfr}
profiles:
  smoke:
    replace: {foundation: sam_toy, dataset: {la: phantom}}
    search: {trials: 2}
    arms: {mt: {ssl.steps: 2}}
  cpu: {ssl.steps: 4}
"""
    own = """
extends: base.yaml
axes: {ssl.w_pl: [5], ssl.ema: [0.9]}
search: {params: {ssl.w_pl: {low: 2, high: 3}}, trials: 4}
profiles:
  smoke:
    replace: {dataset: {btcv: phantom}}
    search: {seeds: [3]}
    arms: {mt: {label: M}, sup: {ssl.steps: 1}}
"""
    data = load_spec(write(tmp_path, base=GOOD + base, own=own)).data
    assert data["axes"] == {"stitch.scale": [1, 2], "ssl.w_pl": [5], "ssl.ema": [0.9]}
    assert list(data["axes"]) == ["stitch.scale", "ssl.w_pl", "ssl.ema"]
    assert data["search"] == {
        "params": {"ssl.w_pl": {"low": 2, "high": 3}, "selector.tau": "card"}, "trials": 4, "arm": "sfr",
    }  # fmt: skip
    assert data["profiles"]["cpu"] == {"ssl.steps": 4}
    assert data["profiles"]["smoke"] == {
        "replace": {"foundation": "sam_toy", "dataset": {"la": "phantom", "btcv": "phantom"}},
        "search": {"trials": 2, "seeds": [3]},
        "arms": {"mt": {"ssl.steps": 2, "label": "M"}, "sup": {"ssl.steps": 1}},
    }
    assert "extends" not in data


def test_a_search_is_taken_away_by_null(tmp_path: Path) -> None:
    search = "search: {params: {ssl.w_pl: [1, 2]}, trials: 3, arm: sfr}\n"
    dataset = GOOD.replace("labeled: 2", "labeled: 2, val: 1")
    path = write(tmp_path, base=dataset + search, own="extends: base.yaml\nsearch: null\n")
    assert plan_at(path).spec.search is None
    assert plan_at(path.with_name("base.yaml")).spec.search is not None


@pytest.mark.parametrize("name", sorted(path.stem for path in shipped("experiments").glob("*.yaml")))
def test_every_shipped_experiment_can_be_extended(tmp_path: Path, name: str) -> None:
    """By its name and without a word of one's own it is what it was; so is the text that is recorded."""
    original = load(shipped("experiments") / f"{name}.yaml")
    found = load_spec(write(tmp_path, own=f"extends: {name}\n"))
    assert found.data == original.data
    assert list(found.data) == list(original.data)
    assert {at: found.where(*at) for at in original.places if at} == {
        at: original.where(*at) for at in original.places if at
    }
    assert load(write(tmp_path, recorded=found.text)).data == original.data


#: What is wrong in the base, what in the file itself, and where that is said.
FAULTS = [
    (("strict", "strikt"), "", ["base.yaml:3:1", "no component 'strikt'"]),
    (("lambda_cons: 0.2", "lambda_cons: -3"), "", ["base.yaml:7:16", "-3 is below the bound"]),
    (("name: mt,", "name: sup,"), "", ["base.yaml:7:5", "given twice"]),
    (("seeds:", "sedes:"), "", ["base.yaml:9:1", "no field 'sedes'"]),
    (("[0, 1]", "[0, one]"), "", ["base.yaml:9:12", "a seed is an integer"]),
    (("[0, 1]", "[0, one]"), "seeds: [two]\n", ["own.yaml:2:9", "a seed is an integer, got 'two'"]),
    (("", ""), "base: {backbone: vnett}\n", ["own.yaml:2:8", "no component 'vnett'"]),
    (("", ""), "base: {ssl: {lambda_kons: 1}}\n", ["own.yaml:2:14", "lambda_kons"]),
    (("", ""), "arms: [{name: mt, ssl: {lambda_cons: -1}}]\n", ["own.yaml:2:25", "-1 is below"]),
    (("", ""), "arms: [{name: mt}, {name: mt}]\n", ["own.yaml:2:20", "'mt' is given twice"]),
    (("", ""), "arms: [{label: x}]\n", ["own.yaml:2:8", "an arm needs a name"]),
    (("", ""), "dataset: {labeled: 0}\n", ["own.yaml:2:11", "0 is below the bound 1"]),
    (("", ""), "base: {ssl.steps: 3, ssl: {steps: 4}}\n", ["own.yaml:2:28", "'ssl.steps' is given twice"]),
    (("ssl: mean_teacher", "ssl: [a]"), "base: {ssl.steps: 3}\n", ["base.yaml:4:75", "give a component's"]),
    (("", ""), "base: {ssl: 3}\n", ["own.yaml:2:8", "give a component's name"]),
    (("", ""), "arms: {mt: 3}\n", ["own.yaml:2:1", "arms: a list is needed"]),
    (("", ""), "extend: x\n", ["own.yaml:2:1", "no field 'extend'", "did you mean 'extends'?"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said", "wanted"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_is_named_where_it_stands(
    tmp_path: Path, change: tuple[str, str], said: str, wanted: list[str]
) -> None:
    base = GOOD.replace(*change) if change[0] else GOOD
    message = refused(write(tmp_path, base=base, own=f"extends: base.yaml\n{said}"))
    assert all(part in message for part in wanted)
    assert message.count("yaml:") == 1  # and nothing else is said for its sake


#: What stands behind ``extends``, and what is said of it.
WRONG = [
    ("quickstrt", ["own.yaml:2:1", "no experiment 'quickstrt'", "did you mean 'quickstart'?"]),
    ("base", ["no experiment 'base'", "a file of yours is named by its path, which ends in .yaml"]),
    ("bases.yaml", ["own.yaml:2:1", "extends: there is no file", "from the folder of own.yaml"]),
    ("[quickstart]", ["own.yaml:2:1", "the path of a file is needed"]),
    ("", ["own.yaml:2:1", "needed, got null"]),
    ("broken.yaml", ["broken.yaml:2:1", "duplicate key"]),
    ("list.yaml", ["list.yaml:1:1", "must hold a mapping"]),
]


@pytest.mark.parametrize(("named", "wanted"), WRONG, ids=[named for named, _ in WRONG])
def test_what_cannot_be_extended(tmp_path: Path, named: str, wanted: list[str]) -> None:
    files = {"base": GOOD, "broken": "title: a\ntitle: b\n", "list": "- a\n"}
    message = refused(write(tmp_path, **files, own=f"title: x\nextends: {named}\n"))
    assert all(part in message for part in wanted)


def test_cycles_are_refused_with_the_chain(tmp_path: Path) -> None:
    files = {"a": "extends: b.yaml\n", "b": "title: b\nextends: ./sub/../c.yaml\n", "c": "extends: b.yaml\n"}
    (tmp_path / "sub").mkdir()
    write(tmp_path, **files)
    message = refused(tmp_path / "a.yaml")
    assert "c.yaml:1:1  a specification cannot extend itself: a.yaml -> b.yaml -> c.yaml -> b.yaml" in message
    own = write(tmp_path, own="extends: own.yaml\n")
    assert "own.yaml:1:1  a specification cannot extend itself: own.yaml -> own.yaml" in refused(own)
    (tmp_path / "link.yaml").symlink_to(own)
    own.write_text("extends: link.yaml\n")
    assert "own.yaml -> link.yaml" in refused(own)
    # a chain may be longer than Python's own recursion
    long = {f"n{number}": f"extends: n{number + 1}.yaml\n" for number in range(1100)}
    assert load_spec(write(tmp_path, **long, n1100=GOOD).with_name("n0.yaml")).data["seeds"] == [0, 1]


def test_a_name_of_ones_own_file_is_no_shipped_experiment(tmp_path: Path) -> None:
    """A file called quickstart.yaml may extend the shipped one of its name."""
    own = write(tmp_path, quickstart="extends: quickstart\nseeds: [5]\n")
    assert load_spec(own).data["seeds"] == [5]
    assert load_spec(own).where("title").startswith(str(shipped("experiments")))


def test_an_inherited_folder_of_predictions_is_beside_the_file_that_names_it(tmp_path: Path) -> None:
    arms = "arms: [{name: a, predictions: maps}, {name: b, predictions: {folder: more/maps}}]\n"
    base = GOOD.split("arms:")[0] + arms
    own = write(tmp_path, **{"lib/base": base, "work/own": "extends: ../lib/base.yaml\n"})
    recorded = write(tmp_path, **{"work/recorded": load_spec(own).text})
    for path in (own, recorded):
        found = [arm.predictions for arm in read_spec(path, "smoke", items=kinds()).arms]
        assert [each.folder for each in found if each] == [tmp_path / "lib/maps", tmp_path / "lib/more/maps"]


#: Codes that no YAML file of ours may hold (see test_yamlio); surrogates are none either.
_CODES = [*range(9), *range(11, 32), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, _CODES))))
_SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | _TEXTS
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["null", "1e5", "off", "<<", "- a", "a: b", "a #b", "0x1F", "a ", "-1", "~", "*a"])
)  # fmt: skip
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


def _told(value: Any) -> Told:
    if isinstance(value, dict):
        value = {key: _told(item) for key, item in value.items()}
    elif isinstance(value, list):
        value = [_told(item) for item in value]
    return Told(value, Path("a\nb.yaml"), (len(str(value)) % 2, 1))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.dictionaries(_TEXTS, _TREES, min_size=1, max_size=5))
def test_what_is_written_reads_back(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "back.yaml"
    for origin in (lambda item: "", lambda item: f"file:{item.place[0]}"):
        path.write_text(written(_told(data), origin), encoding="utf-8", newline="")
        assert repr(load(path).data) == repr(data)


def test_laying_over_changes_neither_side(tmp_path: Path) -> None:
    old, new = (told(load(write(tmp_path, **{name: text}))) for name, text in (
        ("a", GOOD), ("b", "base: {ssl.steps: 3}\narms: [{name: mt, ssl.steps: 1}]\n"),
    ))  # fmt: skip
    before = repr(old), repr(new)
    laid_over(old, new)
    assert (repr(old), repr(new)) == before


def opened(folder: Path, spec: Path) -> Any:
    """What recording asks of an experiment."""
    plan, workspace = plan_at(spec), folder / "runs"
    return SimpleNamespace(
        plan=plan, name=plan.spec.name, profile="smoke", machine=SimpleNamespace(workspace=workspace),
        journal_path=workspace / "journal" / f"{plan.spec.name}-smoke.json",
        report_folder=workspace / "reports" / plan.spec.name / "smoke",
    )  # fmt: skip


class Client:
    """Takes what MLflow would be told."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def search_runs(self, *args: Any, **options: Any) -> list[Any]:
        class Page(list[Any]):
            token = None

        return Page()

    def create_run(self, *args: Any, **options: Any) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="1"))

    def log_text(self, run: str, text: str, name: str) -> None:
        self.texts[name] = text

    def set_terminated(self, run: str) -> None:
        pass


def test_what_is_recorded_stands_without_the_base(tmp_path: Path) -> None:
    """MLflow's copy, the notebook's and that with the best values are whole, though the base is gone."""
    search = "search: {params: {ssl.w_pl: [1, 2]}, trials: 3, arm: sfr}\n"
    base = GOOD.replace("labeled: 2", "labeled: 2, val: 1") + search
    own = write(tmp_path, base=base, own="extends: base.yaml\narms: [{name: sfr, ssl.steps: 3}]\n")
    experiment, client = opened(tmp_path, own), Client()
    own.with_name("base.yaml").unlink()
    parent_run(client, "0", experiment.plan)  # type: ignore[arg-type]
    (tmp_path / "page").mkdir()
    _put_spec(experiment, tmp_path / "page")
    best = Trial(number=0, state="complete", values={"ssl.w_pl": 1.5}, value=0.5)
    study = Study("own", "dice", True, "%", (0,), {}, "tpe", "none", [best], {}, "4")
    write_best_spec(experiment, study, tmp_path / "best.yaml")
    recorded = write(tmp_path, recorded=client.texts["spec.yaml"])
    for copy in (recorded, tmp_path / "page" / "own.yaml"):
        assert same_plan(plan_at(copy), experiment.plan)
    arms = load(tmp_path / "best.yaml").data["arms"]
    assert arms[2] == {"name": "sfr", "pseudo": "offline", "ssl": {"steps": 3, "w_pl": 1.5}} or arms[2] == {
        "name": "sfr", "pseudo": "offline", "ssl.steps": 3, "ssl.w_pl": 1.5,
    }  # fmt: skip
    assert plan_at(tmp_path / "best.yaml").spec.search is None


def test_a_claim_and_a_hash_are_of_the_whole(tmp_path: Path) -> None:
    """A changed base is another content; where it is gone, another specification of the name is refused."""
    base, said = GOOD, "extends: ../base.yaml\n"
    write(tmp_path, base=base)
    one, two = (write(tmp_path, **{f"{name}/own": said}) for name in ("one", "two"))
    before = fingerprint(one)
    claim(opened(tmp_path, one))
    claim(opened(tmp_path, two))  # the same content
    write(tmp_path, base=f"# a remark\n{base}")
    assert fingerprint(one) == before
    write(tmp_path, base=base.replace("[0, 1]", "[0, 2]"))
    assert fingerprint(one) != before
    three = opened(tmp_path, write(tmp_path, **{"three/own": f"{said}seeds: [7]\n"}))
    with pytest.raises(InputError, match="another specification called 'own'"):
        claim(three)
    (tmp_path / "base.yaml").unlink()
    assert fingerprint(one) == ""
    with pytest.raises(InputError, match="another specification called 'own'"):
        claim(three)


def test_commands_take_it_as_any_other(tmp_path: Path) -> None:
    write(tmp_path, base=SPEC, own="extends: base.yaml\ntitle: Mine # really\nseeds: [1]\n")
    options = ("--profile", "smoke")
    assert "own.yaml: sound, 3 cells" in here("validate", "own.yaml", *options, cwd=tmp_path).stdout
    plan = json.loads(here("plan", "own.yaml", *options, "--json", cwd=tmp_path).stdout)
    assert (plan["experiment"], plan["cells"]) == ("own", 3)
    here("report", "own.yaml", *options, "--out", "page", cwd=tmp_path)
    assert "Mine" in (tmp_path / "page/index.html").read_text(encoding="utf-8")
    told = json.loads((tmp_path / "page/provenance.json").read_text(encoding="utf-8"))
    assert (told["spec"], told["spec_sha256"]) == ("own.yaml", fingerprint(tmp_path / "own.yaml"))
    (tmp_path / "base.yaml").unlink()
    gone = here("run", "own.yaml", *options, *QUIET, cwd=tmp_path, check=2).stderr
    assert "own.yaml:1:1  extends: there is no file base.yaml" in gone


def test_show_resolved_is_a_specification_with_the_origin_of_every_value(tmp_path: Path) -> None:
    own = write(
        tmp_path, own='extends: quickstart\ntitle: "it\'s: mine # really"\nbase: {ssl.steps: 3}\nseeds: [7]\n'
    )
    quick = shipped("experiments") / "quickstart.yaml"
    for name in ("own.yaml", "experiment/own.yaml", str(own)):
        shown = here("show", name, "--resolved", cwd=tmp_path).stdout
        lines = shown.splitlines()
        assert "seeds: [7]  # own.yaml:4" in lines
        assert """title: "it's: mine # really"  # own.yaml:2""" in lines
        assert "    steps: 3  # own.yaml:3" in lines
        assert f"protocol: strict  # {quick}:7" in lines
        assert f"    name: mean_teacher  # {quick}:8" in lines
        ends = [line for line in lines if not line.endswith(":")]
        assert all("  # own.yaml:" in line or f"  # {quick}:" in line for line in ends)
        assert load(write(tmp_path, back=shown)).data == load_spec(own).data
    plain = here("show", "experiment/quickstart", "--resolved", cwd=tmp_path).stdout
    assert load(write(tmp_path, back=plain)).data == load(quick).data


def test_show_tells_what_an_experiment_is(tmp_path: Path) -> None:
    write(
        tmp_path,
        own="extends: sfr_for_all\ntitle: Mine\nseeds: [7]\nexclude: [{when: {arm: ict}, reason: long}]\n",
    )
    shown = here("show", "own.yaml", cwd=tmp_path).stdout
    for part in (
        "experiment/own   Mine", "Sixteen methods", "sfr_for_all.yaml", "dataset.labeled 1", "seeds    7",
        "pseudo: none, offline", "arm ict: long", "table results, metrics [dice, jaccard, asd, hd95]",
    ):  # fmt: skip
        assert part in shown
    assert "MagicNet    ssl magicnet, ssl.cubes_per_side [7, 7, 5]" in shown
    small = here("show", "own.yaml", "--profile", "smoke", cwd=tmp_path).stdout
    assert "seeds    0\n" in small
    assert "ssl.cubes_per_side [2, 1, 1]" in small
    assert "no experiment 'own'" in here("show", "experiment/own", cwd=tmp_path, check=2).stderr
    assert (
        "--resolved  this is for experiments"
        in here("show", "stitch/grid", "--resolved", cwd=tmp_path, check=2).stderr
    )
    write(tmp_path, own="extends: sfr_for_all\nseeds: [x]\n")
    assert "own.yaml:2:9" in here("show", "own.yaml", cwd=tmp_path, check=2).stderr


def test_lines_of_show_end_between_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wide in (40, 80, 140):
        monkeypatch.setenv("COLUMNS", str(wide))
        shown = here("show", "experiment/sfr_for_all", cwd=tmp_path).stdout
        pairs = shown.partition("pairs")[2].partition("ranks")[0]
        assert pairs.count("supervised]") == 15
        assert max(map(len, pairs.splitlines())) <= min(wide, 100)


def test_a_folder_does_not_hide_a_shipped_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart", "other"):
        (tmp_path / name).mkdir()
    assert locate("quickstart") == shipped("experiments") / "quickstart.yaml"
    with pytest.raises(InputError, match="other  a folder is no specification"):
        locate("other")
