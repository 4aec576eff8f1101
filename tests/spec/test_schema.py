"""The JSON Schemas for editors: they agree with ``validate`` on faults of form, and never refuse more."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from docs.tools.pages import pages
from sfrbench.catalog.cards import Catalog, read_card
from sfrbench.catalog.schema import dumped
from sfrbench.cli.schema import WHAT, schema_of
from sfrbench.errors import InputError
from sfrbench.files.roots import shipped
from sfrbench.files.yamlio import load
from sfrbench.run.executors.ray.settings import RaySettings
from sfrbench.run.executors.settings import LocalSettings, settings_of
from sfrbench.run.executors.slurm.settings import SlurmSettings
from tests.support.broken_specs import BROKEN
from tests.support.runs import environment, here
from tests.support.specs import GOOD, faults, plan_of

SHIPPED = shipped("experiments") / "spec.schema.json"
EXPERIMENTS = sorted(shipped("experiments").glob("*.yaml"))
CARDS = sorted(shipped("registry").glob("*/*.yaml"))


@cache
def checked(what: str) -> Draft202012Validator:
    schema = json.loads(dumped(schema_of(what)))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def faults_of(what: str, path: Path) -> list[str]:
    """What a schema has against a file."""
    return [
        f"{list(each.absolute_path)}: {each.message}" for each in checked(what).iter_errors(load(path).data)
    ]


def spec_faults(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "for_schema.yaml"
    path.write_text(text, encoding="utf-8")
    return faults_of("spec", path)


def test_the_shipped_schema_is_what_the_command_prints() -> None:
    """It is made anew by: sfrbench schema > experiments/spec.schema.json"""
    assert json.loads(SHIPPED.read_text(encoding="utf-8")) == json.loads(dumped(schema_of("spec")))
    assert len(SHIPPED.read_bytes()) < 400_000


@pytest.mark.parametrize("path", EXPERIMENTS, ids=[path.stem for path in EXPERIMENTS])
def test_shipped_experiments_name_it_and_hold_to_it(path: Path) -> None:
    line = path.read_text(encoding="utf-8").splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", line)
    assert named
    assert (path.parent / named[1]).resolve() == SHIPPED.resolve()  # beside it: in a checkout and in a wheel
    assert faults_of("spec", path) == []


def test_shipped_cards_hold_to_theirs() -> None:
    assert {str(path): found for path in CARDS if (found := faults_of("card", path))} == {}
    data = [path for path in CARDS if path.parent.name == "dataset"]
    assert len(data) > 5
    assert {str(path): found for path in data if (found := faults_of("dataset", path))} == {}


def test_specifications_of_the_documentation_hold_to_it(tmp_path: Path) -> None:
    """But for pages on cards of one's own, which the shipped schema does not know."""
    known = [page for page in pages() if not any("--registry" in block.text for block in page.blocks)]
    files = [block for page in known for block in page.blocks if block.file.endswith(".yaml")]
    specs = [block.text for block in files if re.search("^(title|extends):", block.text, re.MULTILINE)]
    assert len(specs) >= 3
    for text in specs:
        assert spec_faults(tmp_path, text) == []


#: Of ``BROKEN``: no YAML that can be read.
UNREAD = {"duplicate key", "bad yaml", "not a mapping", "given twice in base"}
#: What needs two places, counts, or code: an editor is silent, and ``validate`` says it.
BEYOND = {
    "no decay", "arm twice", "axis value twice", "exclusion of nothing", "report of no axis", "report of no arm",
    "gain of no arm", "gain against itself", "published: no table", "published: no arm is a row",
    "published: no arm", "published: no row", "published: nothing to be unbuilt", "published: built after all",
    "published: no such metric", "published: a footnote of no arm", "features of no arm",
    "features without a segmenter", "features drawn twice", "profile for no arm",
    "profile's exclusion of nothing", "points of no axis", "no ssl", "patch for V-Net", "axis tied to itself",
    "searched names are numbers", "searched switch", "effect of an axis of one value",
    "effect along half of tied axes", "pairs of one arm",
}  # fmt: skip
FORM = [(name, change) for name, change, _ in BROKEN if name not in UNREAD | BEYOND]


def test_there_are_enough_of_them() -> None:
    assert len(FORM) >= 50
    assert {name for name, _, _ in BROKEN} >= UNREAD | BEYOND


@pytest.mark.parametrize(("name", "change"), FORM, ids=[name for name, _ in FORM])
def test_faults_of_form_are_refused_by_both(tmp_path: Path, name: str, change: tuple[str, str]) -> None:
    """That ``validate`` refuses each with its place is tested where ``BROKEN`` is read."""
    assert spec_faults(tmp_path, GOOD) == []
    assert spec_faults(tmp_path, GOOD.replace(*change, 1)) != []


def test_what_it_cannot_know_it_lets_pass(tmp_path: Path) -> None:
    for name, change, _ in BROKEN:
        if name in BEYOND:
            assert (name, spec_faults(tmp_path, GOOD.replace(*change, 1))) == (name, [])


#: What ``validate`` takes, though it looks odd: (old, new) of ``GOOD``.
ODD = [
    ("labeled: 2", "labeled: 2.0"),
    ("labeled: 2}", "labeled: 2, rot_flip: off}"),
    ("labeled: 2}", "labeled: 2, rot_flip: 0, crops: released}"),
    ("labeled: 2}", 'labeled: 2, rot_flip: "Yes"}'),
    ("ssl: mean_teacher}", "ssl: {name: mean_teacher, optim.lr: 0.1, optim: {clip: 1}}}"),
    ("ssl: mean_teacher}", "ssl: {name: mean_teacher, optim: {}}}"),
    ("ssl: mean_teacher}", "ssl: {name: mean_teacher, optim: {clip: null}}}"),
    ("arms:\n", "arms:\n  - {name: magic, ssl: magicnet, ssl.cubes_per_side: [2, 1, 1]}\n"),
    ("ssl: mean_teacher}\narms:\n", "ssl: {name: mean_teacher, cubes_per_side: [2, 1, 1]}}\narms:\n  - {name: magic, ssl: magicnet}\n"),
    ("seeds: [0, 1]", "seeds:"),
    ("seeds: [0, 1]", "stages:\nsearch:\nseeds: [0]"),
    ("{name: mt,", "{name: mt, label: 5,"),
    ("{name: mt,", "{name: mt, label: ,"),
    ("seeds:", 'axes: {" ssl.ema ": [0.9, 0.99]}\nseeds:'),
    ("seeds:", 'axes: {"ssl.ema,ssl.w_pl": [[0.9, 1], [0.99, 2]]}\nseeds:'),
    ("{name: mt, ssl.lambda_cons: 0.2}\n", "{name: mt}\naxes: {ssl: [mean_teacher, {name: bcp, ema: 0.9}]}\n#"),
    ("seeds:", "axes: {ssl.optim: [{lr: 0.1}, {lr: 0.2}], stitch.scale: [1, 2.0]}\nseeds:"),
    ("seeds:", "report: []\nseeds:"),
    ("seeds:", "report: [{table: x, kde: null}]\nseeds:"),
    ("seeds:", "report: [{parameters: true}, {pairs: [[mt, sup]], metrics: [dice]}]\nseeds:"),
    ("seeds:", "exclude: [{when: {arm: [mt, sup]}, reason: r}]\nseeds:"),
    ("seeds:", "profiles: {paper: {search: null, seeds: null, axes: null}}\nseeds:"),
    ("seeds:", "profiles: {cpu: {replace: {pseudo: {offline: online}, dataset: {}, foundation: sam_toy}}}\nseeds:"),
    ("seeds:", "profiles: {smoke: {arms: {mt: {label: 7, ssl.ema: 0.5}}, points: [], exclude: []}}\nseeds:"),
    ("labeled: 2}", "labeled: 2, val: 1}\nsearch: {params: {ssl.w_pl: {low: 1, high: 3, log: 1, step: null}}, arm: sfr, trials: 2.0}"),
    ("labeled: 2}", "labeled: 2, val: 1}\nsearch: {params: {ssl.lambda_cons: card}, arm: sfr, hours: 1, metric: val.dice, score: val}"),
]  # fmt: skip
# ruff: noqa: E501


@pytest.mark.parametrize(("old", "new"), ODD, ids=range(len(ODD)))
def test_it_never_refuses_what_validate_takes(tmp_path: Path, old: str, new: str) -> None:
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    assert plan_of(tmp_path, text).cells
    assert spec_faults(tmp_path, text) == []


def test_an_arm_has_the_fields_of_what_it_names(tmp_path: Path) -> None:
    """In an arm a field of another class is a fault; not where an axis names other components, nor in base."""
    arms = "arms: [{name: a, ssl: {name: bcp, cubes_per_side: [2, 1, 1]}}]\n"
    text = GOOD.split("arms:")[0] + arms
    assert "no field 'cubes_per_side'" in faults(tmp_path, text)
    assert any("cubes_per_side" in each for each in spec_faults(tmp_path, text))
    assert spec_faults(tmp_path, text + "axes: {ssl: [magicnet, bcp]}\n") == []
    assert spec_faults(tmp_path, f"extends: x.yaml\n{arms}") == []
    base = GOOD.replace("ssl: mean_teacher}", "ssl: {name: bcp, cubes_per_side: [2, 1, 1]}}")
    assert spec_faults(tmp_path, base) == []


def test_what_extends_another_need_not_be_whole(tmp_path: Path) -> None:
    assert spec_faults(tmp_path, "extends: quickstart\ndataset: {labeled: 2}\n") == []
    assert spec_faults(tmp_path, "extends: quickstart\nsearch: {trials: 3}\narms: [{name: mt}]\n") == []
    assert len(spec_faults(tmp_path, "title: x\n")) == 1
    assert spec_faults(tmp_path, "extends: 5\n") != []
    assert spec_faults(tmp_path, "extends: quickstart\nbase: {ssl: mean_techer}\n") != []


def test_cards_are_judged_by_their_class(tmp_path: Path) -> None:
    good = (
        "target: sfrbench.components.stitch.grid:GridStitch\nsummary: s\nlabel: l\npreset:\n  order: random\n"
    )
    card = tmp_path / "stitch" / "mine.yaml"
    card.parent.mkdir()
    sound = [good, good + "figures: {x: 1}\n", re.sub("target: .*", "target: mine:Mine", good)]
    broken = [
        good + "sumary: x\n", re.sub("label: .*", "", good), re.sub("target: .*", "target: mine", good),
        good.replace("preset:", "preset:\n  scael: 3"), good.replace("preset:", "preset:\n  scale: 0"),
        good.replace("preset:", "search: {scael: [1, 2]}\npreset:"), good + "needs: gpu\n",
    ]  # fmt: skip
    for text in sound + broken:
        card.write_text(text, encoding="utf-8")
        refused = False
        if "mine:Mine" not in text:
            try:
                refused = bool(read_card(card).problems())
            except InputError:
                refused = True
        assert refused == (text in broken), text
        assert bool(faults_of("card", card)) == refused, text


def test_a_dataset_of_ones_own_has_what_every_dataset_has(tmp_path: Path) -> None:
    card = tmp_path / "mine.yaml"
    for preset, sound in (("{labeled: 3, mine: x}", True), ("{labeled: x}", False)):
        card.write_text(f"target: mine:Mine\nsummary: s\nlabel: l\npreset: {preset}\n", encoding="utf-8")
        assert (not faults_of("dataset", card)) == sound
        assert faults_of("card", card) == []


CONFIGS = [
    ("", True),
    ("data: {la: /data/la}\nweights: {mine: ~/weights}\nworkspace: /runs\n", True),
    ("data:\nexecutors:\nother: [1]\n", True),
    ("executors: {local: {workers_per_gpu: 2}, ray: {gpus_per_task: 1}, slurm: }\n", True),
    (
        "executors: {slurm: {partition: gpu, memory: 8, options: {nice: 5}, stages: {retrain: {hours: 3}}}}\n",
        True,
    ),
    ("weights: /shared/weights\n", True),
    ("weights: 5\n", False),
    ("data: 5\n", False),
    ("executors: {local: {workers_per_gpu: 0}}\n", False),
    ("executors: {local: {workers: 2}}\n", False),
    ("executors: {slrum: {}}\n", False),
    ("executors: {slurm: {stages: {retain: {hours: 3}}}}\n", False),
    ("executors: {slurm: {retries: two}}\n", False),
    ("executors: [local]\n", False),
    ("workspace: 5\n", False),
]


@pytest.mark.parametrize(("text", "sound"), CONFIGS, ids=range(len(CONFIGS)))
def test_the_configuration_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sound: bool
) -> None:
    """The schema and those who read the file say the same of it."""
    from sfrbench.places.locations import config, configured_weights, workspace

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("SFRBENCH_WORKSPACE", raising=False)
    path = tmp_path / "sfrbench" / "config.yaml"
    path.parent.mkdir()
    path.write_text(text or "{}", encoding="utf-8")
    read = True
    try:
        config("data"), configured_weights(), workspace()
        for name, cls in (("local", LocalSettings), ("slurm", SlurmSettings), ("ray", RaySettings)):
            settings_of(name, cls)  # type: ignore[type-var]
    except InputError:
        read = False
    assert (read, not faults_of("config", path)) == (sound, sound)


def test_it_tells_names_defaults_bounds_and_meanings() -> None:
    whole: dict[str, Any] = checked("spec").schema  # type: ignore[assignment]
    named = whole["$defs"]
    names = named["ssl.name"]
    catalog = Catalog.read()
    assert sorted(names["enum"]) == sorted(catalog.names("ssl"))
    assert names["enumDescriptions"][names["enum"].index("bcp")] == catalog.card("ssl", "bcp").summary.strip()
    assert named["dataset.labeled"]["minimum"] == 1
    assert named["stitch.scale"]["description"]
    assert named["ssl.optim.lr"] == {
        "default": 0.01, "description": "initial learning rate", "exclusiveMinimum": 0, "maximum": 1, "type": "number",
    }  # fmt: skip
    magic = named["ssl MagicNet"]["properties"]
    assert "cubes_per_side" in magic
    assert "cubes_per_side" not in named["ssl Bcp"]["properties"]


def test_the_command_prints_each_and_imports_no_torch(tmp_path: Path) -> None:
    for what in WHAT:
        assert json.loads(here("schema", what, cwd=tmp_path).stdout) == json.loads(dumped(schema_of(what)))
    assert here("schema", cwd=tmp_path).stdout == here("schema", "spec", cwd=tmp_path).stdout
    assert "spec" in here("schema", "specs", cwd=tmp_path, check=2).stderr
    code = (
        "import sys; from sfrbench.cli import main\n"
        "try: main(['schema'])\n"
        "except SystemExit: print([name for name in ('torch', 'peft', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.stdout.rstrip().endswith("[]"), done.stderr


def test_further_registries_are_named_too(tmp_path: Path) -> None:
    card = tmp_path / "cards" / "stitch" / "mine.yaml"
    card.parent.mkdir(parents=True)
    card.write_text((shipped("registry") / "stitch" / "grid.yaml").read_text(encoding="utf-8"))
    schema = json.loads(here("schema", "--registry", "cards", cwd=tmp_path).stdout)
    text = GOOD.replace("stitch: grid", "stitch: mine")
    (tmp_path / "own.yaml").write_text(text)
    assert Draft202012Validator(schema).is_valid(load(tmp_path / "own.yaml").data)
    assert spec_faults(tmp_path, text) != []
