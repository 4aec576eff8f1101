"""What a plan will take: by records where there are any, else by formulas, and never 0 for the unknown."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sfrbench.cli import main
from sfrbench.errors import NotReadyError
from sfrbench.files.units import bytes_of, size
from sfrbench.machine import accelerator, driver, speed
from sfrbench.machine.needs import Machine
from sfrbench.machine.speed import Target, known_card, same_device, target
from sfrbench.plan.build import Plan
from sfrbench.report.items import kinds
from sfrbench.run import limits
from sfrbench.run.experiment import Experiment, open_experiment
from sfrbench.run.forecast import Forecast
from sfrbench.run.limits import check_limits
from sfrbench.run.past import Past
from sfrbench.run.summary import summary, together
from sfrbench.stages.recipe import Link
from sfrbench.store.store import Store
from tests.support.torches import CPU, H200, NEW, RTX_5090, Torch, install

SPEC = """
title: t
dataset: {name: la, labeled: 2}
protocol: paper
base: {stitch: grid, foundation: sam_vit_b, finetune: lora, backbone: vnet}
arms:
  - {name: mt, ssl: mean_teacher}
  - {name: sfr, ssl: mean_teacher, pseudo: offline}
seeds: [0]
report: [{table: results}]
"""


def opened(folder: Path, text: str = SPEC, profile: str = "smoke", sets: tuple[str, ...] = ()) -> Experiment:
    (folder / "t.yaml").write_text(text, encoding="utf-8")
    machine = Machine(folder / "runs", device="cpu")
    return open_experiment(str(folder / "t.yaml"), profile, machine, items=kinds(), sets=sets)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the specification has run, with times that tests can tell."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "t.yaml").write_text(SPEC, encoding="utf-8")
    arguments = ["run", str(folder / "t.yaml"), "--profile", "smoke", "--device", "cpu", "--workspace"]
    done = CliRunner().invoke(main, [*arguments, str(folder / "runs"), "--tracking-uri", "none"])
    assert done.exit_code == 0, done.output
    for stage in ("retrain", "finetune", "pseudolabel", "predict", "evaluate"):
        timed(folder, stage, 100.0)
    return folder


@pytest.fixture
def there(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


def timed(folder: Path, stage: str, seconds: float, **more: Any) -> None:
    """Gives all records of a stage another time."""
    from sfrbench.store.artefact import digest_of

    for path in (folder / "runs" / "store" / stage).glob("*/record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        record.pop("sha256")
        record |= {"seconds": seconds, **more}
        record["sha256"] = digest_of(record)
        path.write_text(json.dumps(record), encoding="utf-8")


def forecast(experiment: Experiment) -> Forecast:
    return Forecast(experiment.plan, experiment.store, experiment.machine)


def links(experiment: Experiment, stage: str) -> list[Link]:
    return [link for link in experiment.plan.nodes if link[0] == stage]


def test_before_the_first_run_all_is_estimated(tmp_path: Path) -> None:
    experiment = opened(tmp_path)
    known = forecast(experiment)
    for link in experiment.plan.nodes:
        cost = known.cost(link)
        assert cost.how == cost.kept == "estimated", link
        assert cost.seconds is not None
        assert cost.seconds > 0
        assert cost.bytes is not None
        assert cost.bytes > 0
    by_hand = {
        "prepare": 10 * 32 * 32 * 16 * 5,
        "predict": 2 * 32 * 32 * 16,
        "pseudolabel": 6 * 32 * 32 * 16,
    }
    for stage, count in by_hand.items():  # volumes by voxels by bytes
        assert known.bytes(links(experiment, stage)[0]) == count
    soft = opened(tmp_path, sets=("ssl.pseudo_labels=soft",))  # K = 2, so one map of half precision
    assert forecast(soft).bytes(links(soft, "pseudolabel")[0]) == 2 * by_hand["pseudolabel"]


def test_bytes_are_those_that_a_run_keeps(there: Path) -> None:
    experiment = opened(there)
    store = experiment.store
    fresh = Forecast(experiment.plan, Store(there / "other"), experiment.machine)
    for link in experiment.plan.nodes:
        kept, expected = store.get(*link).record["bytes"], fresh.bytes(link)
        # heads of files, indices, and histories of two steps stand beside what the formulas count
        assert expected == pytest.approx(kept, rel=0.12, abs=6000), link


def test_another_seed_of_the_same_settings_is_measured(there: Path) -> None:
    timed(there, "retrain", 321.0)
    experiment = opened(there, sets=("seeds=[7]",))
    known = forecast(experiment)
    for link in links(experiment, "retrain"):
        assert not experiment.store.has(*link)
        assert (known.seconds(link), known.how(link)) == (321.0, "measured")
        assert known.cost(link).kept == "measured"
    (prepared,) = links(experiment, "prepare")
    assert known.how(prepared) == "measured"


def test_other_settings_are_scaled_by_their_work(there: Path) -> None:
    before = opened(there)
    experiment = opened(there, sets=("ssl.steps=8",))  # four times those of the profile
    fresh = Forecast(experiment.plan, Store(there / "other"), experiment.machine)
    known = forecast(experiment)
    old = Forecast(before.plan, Store(there / "other"), before.machine)
    for mine, theirs in zip(links(experiment, "retrain"), links(before, "retrain"), strict=True):
        assert known.how(mine) == "scaled"
        expected, formula = known.seconds(mine), (fresh.seconds(mine), old.seconds(theirs))
        assert expected is not None
        assert formula[0]
        assert formula[1]
        assert expected == pytest.approx(100.0 * formula[0] / formula[1], rel=0.2)
    (stored,) = links(experiment, "prepare")
    assert known.how(stored) == "measured"


def test_a_network_is_as_fast_as_in_other_stages(there: Path) -> None:
    """SAM predicts, and only V-Net's predictions are recorded: its speed is that of tuning and labelling."""
    timed(there, "predict", 1e4)
    timed(there, "finetune", 30.0)
    more = SPEC.replace("seeds: [0]", "  - {name: ft, stages: [finetune, predict, evaluate]}\nseeds: [0]")
    experiment = opened(there, more)
    fresh = Forecast(experiment.plan, Store(there / "other"), experiment.machine)
    by_sam = experiment.plan.cells[-1].nodes["predict"]
    assert not experiment.store.has(*by_sam)
    ratios = []
    for stage, took in (("finetune", 30.0), ("pseudolabel", 100.0)):
        formula = fresh.seconds(links(experiment, stage)[0])
        assert formula
        ratios.append(took / formula)
    formula, known = fresh.seconds(by_sam), forecast(experiment)
    assert formula
    assert known.seconds(by_sam) == pytest.approx(formula * math.sqrt(ratios[0] * ratios[1]), rel=0.01)
    assert known.how(by_sam) == "scaled"


def test_records_of_another_device_do_not_time(there: Path) -> None:
    for stage in ("retrain", "predict"):  # those of V-Net
        timed(there, stage, 1.0, device="cuda:0 NVIDIA H200")
    experiment = opened(there, sets=("seeds=[7]",))
    known = forecast(experiment)
    cost = known.cost(links(experiment, "retrain")[0])
    assert cost.how == "estimated"
    assert cost.kept == "measured"  # bytes are the same anywhere


def test_copies_and_resumed_nodes_do_not_time(there: Path) -> None:
    for stage in ("retrain", "predict"):
        timed(there, stage, 1e6, notes={"resumed_at": 1})
    for stage in ("finetune", "pseudolabel"):
        timed(there, stage, 1e6, equal_to="f" * 32)
    experiment = opened(there, sets=("seeds=[7]",))
    known = forecast(experiment)
    for stage in ("retrain", "finetune"):
        for link in links(experiment, stage):
            assert known.how(link) == "estimated"


def test_a_method_that_states_no_cost_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sfrbench.components.ssl.mean_teacher import MeanTeacher

    monkeypatch.setattr(MeanTeacher, "cost", lambda *args: None)
    experiment = opened(tmp_path)
    known = forecast(experiment)
    cost = known.cost(links(experiment, "retrain")[0])
    assert (cost.seconds, cost.how, cost.bytes, cost.kept) == (None, "unknown", None, "unknown")
    counts = summary(experiment)
    assert counts["by_stage"]["retrain"]["seconds"] is None
    assert counts["time_known_by"]["unknown"] == 2
    assert counts["seconds"] > 0
    notes = check_limits(experiment, 1000, 10**12)
    assert notes == [
        "--max-hours does not cover 2 nodes whose time is unknown",
        "--max-disk does not cover 2 nodes whose disk is unknown",
    ]


def test_labels_of_a_sam_that_no_round_updates_take_nothing(tmp_path: Path) -> None:
    text = SPEC.replace("pseudo: offline}", "pseudo: offline, selector: none}")
    experiment = opened(tmp_path, text)
    known = forecast(experiment)
    labels = [known.cost(link) for link in links(experiment, "pseudolabel")]
    assert [(cost.seconds, cost.bytes) for cost in labels[1:]] == [(0.0, 0)] * 2  # two rounds
    assert labels[0].seconds
    assert labels[0].bytes


def test_a_round_s_labels_are_of_the_cases_that_it_reads(tmp_path: Path) -> None:
    """Of eight training cases six are unlabelled; a threshold may leave out any of them."""
    kept = {}
    for name in ("all", "quantile", "tau", "both"):
        experiment = opened(tmp_path, SPEC.replace("offline}", f"offline, selector: {name}}}"))
        known, (first, later, _) = forecast(experiment), links(experiment, "pseudolabel")
        kept[name] = [known.cost(link).bytes for link in (first, later)]
    whole = kept["both"][0]
    assert whole
    assert kept == {
        "all": [whole, 0],
        "quantile": [whole, whole // 2],
        "tau": [whole, whole],
        "both": [whole, whole],
    }


def test_labels_of_fewer_cases_do_not_time_a_device(there: Path) -> None:
    """That of a threshold may be of none, as here."""
    text = SPEC.replace("offline}", "offline, selector: {name: tau, tau: 0.0}}")
    (there / "rounds.yaml").write_text(text, encoding="utf-8")
    arguments = ["run", str(there / "rounds.yaml"), "--profile", "smoke", "--device", "cpu", "--workspace"]
    done = CliRunner().invoke(main, [*arguments, str(there / "runs"), "--tracking-uri", "none"])
    assert done.exit_code == 0, done.output
    past = forecast(opened(there, text)).past
    assert len(past._records("pseudolabel")) > len(past._ratios("pseudolabel")) > 0


def test_damaged_records_tell_nothing(there: Path) -> None:
    for stage in ("retrain", "predict"):
        for path in (there / "runs" / "store" / stage).glob("*/record.json"):
            path.write_text("{", encoding="utf-8")
    experiment = opened(there, sets=("seeds=[7]",))
    assert forecast(experiment).how(links(experiment, "retrain")[0]) == "estimated"


def test_sums_are_of_what_is_to_run(there: Path) -> None:
    experiment = opened(there)
    done = summary(experiment)
    assert (done["to_run"], done["seconds"], done["bytes"], done["longest_path"]) == (0, 0.0, 0, 0.0)
    more = opened(there, sets=("seeds=[0, 1]",))
    counts, known = summary(more), forecast(more)
    todo = [link for link in more.plan.nodes if not more.store.has(*link)]
    assert counts["seconds"] == pytest.approx(sum(known.seconds(link) or 0 for link in todo), abs=0.1)
    assert counts["bytes"] == sum(known.bytes(link) or 0 for link in todo)
    on = {name: counts["on_workers"][name] for name in ("1", "2", "4", "8")}
    assert on["1"] == counts["seconds"]
    assert on["1"] >= on["2"] >= on["4"] >= on["8"] >= counts["longest_path"] > 0
    both = together([experiment, more])
    assert (both["to_run"], both["bytes"]) == (len(todo), counts["bytes"])


def test_one_forecast_serves_limits_order_and_plan(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sfrbench.run.experiment import weights_of

    made: list[str] = []
    monkeypatch.setattr(Forecast, "__init__", counted(Forecast.__init__, made))
    experiment = opened(there, sets=("seeds=[7]",))
    check_limits(experiment, 10, None)
    assert weights_of(experiment.forecast()).keys() == experiment.plan.nodes.keys()
    together([experiment, experiment])
    assert len(made) == 1
    assert summary(experiment, "RTX 4090")["device"] == "RTX 4090"
    assert made[1:] == ["RTX 4090"]


def counted(made_by: Callable[..., None], seen: list[str]) -> Callable[..., None]:
    def make(self: Forecast, plan: Plan, store: Store, machine: Machine, past: Past) -> None:
        seen.append(past.target.name)
        made_by(self, plan, store, machine, past)

    return make


def test_workers_of_one_machine_share_its_cores(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    for stage in ("finetune", "pseudolabel", "predict", "retrain"):
        timed(there, stage, 100.0, threads=2)
    experiment = opened(there, sets=("seeds=[7]",))
    link = links(experiment, "retrain")[0]
    shared = experiment.forecast(workers=4)
    assert (shared.target.threads, shared.seconds(link), shared.how(link)) == (2, 100.0, "measured")
    alone = experiment.forecast()
    assert (alone.target.threads, alone.how(link)) == (8, "scaled")
    assert 0 < (alone.seconds(link) or 0) < 100  # the networks of the toys are a small part


def test_a_plan_of_several_adds_up_and_says_once_what_is_missing(tmp_path: Path) -> None:
    common = ["plan", "table01_la", "table07_la_scarce", "--on", "RTX 4090", "--workspace", str(tmp_path)]
    told = json.loads(CliRunner().invoke(main, [*common, "--json"]).stdout)
    for one in [*told["specs"], told["together"]]:
        assert sum(one["by_device"].values()) == pytest.approx(one["seconds"], abs=0.5)
    for one in told["specs"]:
        for what, rounding in (("seconds", 0.5), ("bytes", 0), ("to_run", 0)):
            parts = sum(entry[what] for entry in one["by_stage"].values())
            assert parts == pytest.approx(one[what], abs=rounding, rel=0)
    shared = sum(one["seconds"] for one in told["specs"]) - told["together"]["seconds"]
    assert shared > 60, "the volumes are prepared once for both"
    said = CliRunner().invoke(main, common).stdout
    assert said.count("not ready here:") == 1
    assert said.count("no folder with this dataset is known") <= 1


def test_too_many_hours_are_refused(there: Path) -> None:
    experiment = opened(there, sets=("seeds=[7]",))
    assert check_limits(experiment, 10, None) == []
    with pytest.raises(NotReadyError) as refused:
        check_limits(experiment, 0.01, 1000)
    hours, disk = refused.value.problems
    assert hours.where == "--max-hours 0.01"
    assert "measured" in hours.what
    assert disk.where == "--max-disk 1.0 kB"


def test_a_full_disk_is_refused_unless_one_insists(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = opened(there, sets=("seeds=[7]",))
    needed = summary(experiment)["bytes"]
    monkeypatch.setattr(limits, "free_bytes", lambda workspace: needed)
    assert check_limits(experiment, None, None) == []  # not clearly more
    monkeypatch.setattr(limits, "free_bytes", lambda workspace: needed // 2)
    with pytest.raises(NotReadyError) as refused:
        check_limits(experiment, None, None)
    (problem,) = refused.value.problems
    assert problem.where == "disk"
    insisted = problem.hint.rpartition("--max-disk '")[2].rstrip("'")
    assert check_limits(experiment, None, bytes_of(insisted)) == []


def test_run_refuses_before_the_first_node(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(SPEC, encoding="utf-8")
    common = [str(tmp_path / "t.yaml"), "--profile", "smoke", "--device", "cpu", "--workspace"]
    arguments = ["run", *common, str(tmp_path / "runs"), "--max-disk", "1kB"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "--max-disk 1.0 kB" in done.output
    assert not (tmp_path / "runs" / "store").exists()
    wrong = CliRunner().invoke(main, [*arguments[:-1], "much"])
    assert wrong.exit_code == 2
    assert "'much' is no size" in wrong.output


def test_plan_prints_what_it_knows(there: Path) -> None:
    spec, runs = str(there / "t.yaml"), str(there / "runs")
    common = [spec, "--profile", "smoke", "--device", "cpu", "--workspace", runs]
    said = CliRunner().invoke(main, ["plan", *common, "--set", "seeds=[7]"]).output
    (row,) = [line for line in said.splitlines() if line.startswith("retrain")]
    assert row.split()[:5] == ["retrain", "2", "0", "2", "3m20s"]
    assert row.endswith("measured")
    assert "longest path" in said
    assert "measured: by records of the same settings" in said
    other = CliRunner().invoke(main, ["plan", *common, "--set", "seeds=[7]", "--on", "rtx 3090"])
    assert other.exit_code == 0
    assert "on RTX 3090" in other.output
    unknown = CliRunner().invoke(main, ["plan", *common, "--on", "RTX 1"])
    assert unknown.exit_code == 2
    assert "no speed is known of a card 'RTX 1'" in unknown.output


def test_a_profile_for_gpus_is_forecast_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card that torch saw, else the one that the driver names, else a usual one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    install(monkeypatch, Torch(cards=[H200, RTX_5090]), NEW)
    monkeypatch.setattr(driver, "first_card", lambda: "")
    machine = Machine(tmp_path)
    assert target(machine, wants_gpu=True) == Target("RTX 4090", here=False)
    assert not target(machine, wants_gpu=False).is_gpu
    assert not target(Machine(tmp_path, device="cpu"), wants_gpu=True).is_gpu
    monkeypatch.setattr(driver, "first_card", lambda: "NVIDIA A100")
    assert target(machine, wants_gpu=False) == Target("NVIDIA A100")
    accelerator.ask()
    assert target(machine, wants_gpu=False) == Target("NVIDIA H200")
    assert target(Machine(tmp_path, device="cuda:1"), wants_gpu=False) == Target("NVIDIA GeForce RTX 5090")
    install(monkeypatch, CPU, NEW)  # the card is of no use to it
    accelerator.ask()
    assert target(machine, wants_gpu=True) == Target("RTX 4090", here=False)
    assert not target(machine, wants_gpu=False).is_gpu


def test_a_card_s_speed_by_precision() -> None:
    """NVIDIA's data sheets, dense TFLOP/s: TF32 has half of bf16's, and cards before Ampere have neither."""
    sheets = {"A100": 156.0, "H100": 494.5, "RTX 4090": 82.6, "RTX A6000": 77.4, "L40S": 181.0, "V100": 15.7}
    for card, tf32 in sheets.items():
        assert speed.peak(card, "tf32") == pytest.approx(tf32, rel=0.01), card
    rates = [Target("NVIDIA A100-SXM4-80GB").flops(precision) for precision in ("fp32", "tf32", "bf16")]
    assert rates == pytest.approx([7.8e12, 62.4e12, 124.8e12])
    here = Target("cpu x2", threads=2)
    assert here.flops("tf32") == here.flops("fp32") == 80e9
    assert here.flops("bf16") == 120e9


def test_a_prediction_is_forecast_at_its_own_precision(tmp_path: Path) -> None:
    def work(*sets: str) -> tuple[str, float | None]:
        experiment = opened(tmp_path, sets=sets)
        known = forecast(experiment)
        (link,) = links(experiment, "predict")[:1]
        found = known._work(experiment.plan.nodes[link], link)
        assert found is not None
        return found.precision, known.seconds(link)

    trained, own = work("backbone.precision=tf32"), work("backbone.precision=tf32", "protocol.precision=bf16")
    assert (trained[0], own[0]) == ("tf32", "bf16")
    assert own[1] is not None
    assert trained[1] is not None
    assert own[1] < trained[1]


def test_names_of_cards(tmp_path: Path) -> None:
    assert known_card("cuda:0 NVIDIA GeForce RTX 4090") == "RTX 4090"
    assert known_card("NVIDIA A100-SXM4-80GB") == "A100"
    assert known_card("NVIDIA L40S") == "L40S"
    assert known_card("NVIDIA RTX A6000") == "RTX A6000"
    assert known_card("cpu x2") is None
    assert same_device("cuda:3 NVIDIA GeForce RTX 4090", "RTX 4090")
    assert not same_device("cuda NVIDIA H200", "RTX 4090")
    folder = tmp_path / "proc" / "driver" / "nvidia" / "gpus" / "0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA H200\nIRQ: 5\n", encoding="utf-8")
    assert driver.first_card(tmp_path) == "NVIDIA H200"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("200GB", 2 * 10**11),
        ("1.5 TB", 15 * 10**11),
        ("3b", 3),
        ("7 mb", 7 * 10**6),
        ("1e9", None),
        ("", None),
    ],
)
def test_sizes(text: str, count: int | None) -> None:
    assert bytes_of(text) == count
    if count is not None:
        assert bytes_of(size(count)) == count


def test_a_factor_is_the_middle_of_the_records(there: Path) -> None:
    experiment = opened(there)
    here = Past(experiment.store, Target(target(experiment.machine, wants_gpu=False).name, 1))
    parts = experiment.plan.nodes[links(experiment, "predict")[0]].components
    classes = {kind: resolved.component.identity() for kind, resolved in parts.items()}
    timed(there, "predict", 50.0)
    first = here.factor("predict", classes, 0.1)
    timed(there, "predict", 500.0)
    again = Past(experiment.store, here.target).factor("predict", classes, 0.1)
    other = Past(experiment.store, here.target).factor("predict", {"backbone": "backbone/Another"}, 0.1)
    assert first is not None
    assert again is not None
    assert again == other == pytest.approx(10 * first)


def test_a_toy_does_not_time_what_is_large(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rehearsal leaves the forecast of the real run as it is; records of real work scale it."""
    for stage, field in (("retrain", "ssl.steps"), ("finetune", "finetune.steps")):
        like, large = (opened(there, sets=(f"{field}={steps}",)) for steps in (8, 20000))
        assert forecast(like).how(links(like, stage)[0]) == "scaled"
        known, link = forecast(large), links(large, stage)[0]
        fresh = Forecast(large.plan, Store(there / "other"), large.machine)
        assert (known.how(link), known.seconds(link)) == ("estimated", fresh.seconds(link))
        with monkeypatch.context() as patch:
            patch.setattr("sfrbench.run.past.ENOUGH", 0.0)
            assert forecast(large).how(link) == "scaled"


def test_a_dry_run_says_which_limit_a_run_would_break(tmp_path: Path) -> None:
    common = ["run", "quickstart", "--profile", "smoke", "--workspace", str(tmp_path), "--dry-run"]
    allowed = CliRunner().invoke(main, [*common, "--max-disk", "20GB"])
    assert allowed.exit_code == 0, allowed.output
    refused = CliRunner().invoke(main, [*common, "--max-disk", "1kB"])
    assert refused.exit_code == 2
    assert "--max-disk 1.0 kB  35 nodes keep about" in refused.stderr
    assert not list(tmp_path.iterdir())
