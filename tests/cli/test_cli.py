"""The command line as a stranger meets it: messages, exit codes, what is imported."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import sfrbench
from sfrbench.cli import doctor, main
from tests.support.data_writers import la_file, volume, write_decathlon, write_la, write_la_case
from tests.support.loaded import Process
from tests.support.runs import QUIET, SPEC, cli, environment, here


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SPEC)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["list"],
        ["show", "finetune/lora"],
        ["show", "experiment/quickstart", "--resolved"],
        ["schema"],
        ["validate", "small.yaml", "--profile", "smoke"],
        ["plan", "small.yaml", "--profile", "smoke"],
        ["report", "small.yaml", "--profile", "smoke"],
        ["results", "small.yaml", "--profile", "smoke"],
        ["weights", "list"],
        ["status", "."],
        ["data", "list"],
    ],
    ids=" ".join,
)
def test_what_does_not_compute_does_not_import_torch(folder: Path, command: list[str]) -> None:
    code = (
        "import atexit, sys; from sfrbench.cli import main; "
        "names = ('torch', 'peft', 'mlflow'); "
        "atexit.register(lambda: print([name for name in names if name in sys.modules])); main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("[]")


def test_a_report_before_any_run_says_that_nothing_ran(folder: Path) -> None:
    here("report", "small.yaml", "--profile", "smoke", "--out", "page", cwd=folder)
    assert "not run yet" in (folder / "page" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["run", "nothing"], "no experiment 'nothing'"),
        (["run", "small.yaml", "--profile", "cpus"], "did you mean 'cpu'"),
        (["run", "small.yaml", "--data", "la"], "write NAME=DIR"),
        (["plan", "small.yaml", "--registry", "nowhere"], "no such registry folder"),
        (["plan", "small.yaml", "--registry", "empty"], "this registry folder holds no card"),
        (["run", "small.yaml", "--profile", "smoke", "--device", "cuda:99"], "--device cuda:99  "),
        (["data", "check", "lla"], "did you mean 'la'"),
        (["data", "check", "la"], "no folder with 'la' is known"),
        (["weights", "get", "lite"], "lite_medsam"),
        (["results", "small.yaml", "--profile", "smoke", "--format", "parquet"], "give --out"),
    ],
)
def test_wrong_input_is_exit_2(
    folder: Path, arguments: list[str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SFRBENCH_DATA", raising=False)
    (folder / "empty").mkdir(exist_ok=True)
    assert wanted in here(*arguments, cwd=folder, check=2).stderr


@pytest.mark.parametrize("command", [["plan"], ["validate"], ["run", "--dry-run"], ["run", *QUIET]])
def test_what_a_profile_replaces_is_said_by_every_command(folder: Path, command: list[str]) -> None:
    """And data that nothing asks for, and arms that differ in name alone."""
    text = (
        SPEC.split("arms:")[0]
        .replace("name: phantom", "name: decathlon")
        .replace("test_cases: 2", "test_cases: 1")
    )
    text = text.replace("train_cases: 4, ", "").replace(", shape: [32, 32, 16]", "")
    (folder / "other.yaml").write_text(text + "stages: [retrain]\narms: [{name: a}, {name: b}]\n")
    options = ["--profile", "smoke", "--data", f"decathlon={folder}", "--workspace", "other"]
    said = here(command[0], "other.yaml", *command[1:], *options, cwd=folder).stdout
    assert "profile smoke uses dataset: phantom in the place of decathlon" in said
    assert "profile smoke sets dataset.test_cases: 2 in the place of 1" in said
    assert "to keep it: profiles: {smoke: {dataset.test_cases: 1}}" in said
    assert "warning: --data decathlon=… is used by nothing here; the dataset is phantom" in said
    assert said.count("warning: a = b: the same work") == 1


def test_a_dry_run_says_what_a_run_would_refuse(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    (folder / "file").write_text("")
    common = ["run", "small.yaml", "--profile", "smoke", "--device", "cuda:99", "--workspace", "file/w"]
    said = here(*common, "--dry-run", cwd=folder).stdout
    assert "note: --device cuda:99: not known yet whether torch sees one here; 'sfrbench doctor'" in said
    assert "not ready here:\n" in said
    assert "file  Not a directory" in said
    refused = here(*common, cwd=folder, check=2).stderr
    assert "--device cuda:99  " in refused
    said = here(*common, "--dry-run", cwd=folder).stdout
    assert "not ready here:\n  --device cuda:99  " in said
    assert "not known yet" not in said


def test_data_commands(folder: Path) -> None:
    root = write_la(folder / "la")
    checked = here("data", "check", "la", "--data", f"la={root}", cwd=folder)
    assert "4 cases, 0 broken" in checked.stdout
    assert "left atrium" in checked.stdout
    listed = here("data", "list", "--data", f"la={root}", cwd=folder)
    assert "3 train, 1 test" in listed.stdout
    first = here("data", "prepare", "la", "--data", f"la={root}", "--profile", "cpu", cwd=folder)
    again = here("data", "prepare", "la", "--data", f"la={root}", "--profile", "cpu", cwd=folder)
    assert first.stdout.splitlines()[-1] == again.stdout.splitlines()[-1]
    assert "reuse prepare" in again.stdout


def test_data_check_fails_for_a_leak_and_draws(folder: Path) -> None:
    root = write_la(folder / "la")
    image, label = volume(seed=0)
    write_la_case(root, "D4", image=image, label=label)  # the image of training case A1
    options = ["--data", f"la={root}", "--set", "downsample=2", "--contact-sheet", "page.png"]
    said = here("data", "check", "la", *options, cwd=folder, check=1).stdout
    assert "D4  test  10x9x8 1.25x1.25x1.25 mm (raw 20x18x16" in said
    assert "SAME IMAGE AS A1 (a training and a test case)" in said
    assert "1 of them across training and test" in said
    assert "left atrium: in 4 of 4 cases" in said
    assert (folder / "page.png").stat().st_size > 10_000
    wrong = here("data", "check", "la", "--data", f"la={root}", "--set", "downsample=20", cwd=folder, check=2)
    assert "downsample" in wrong.stderr
    wrong = here("data", "prepare", "la", "--data", f"la={root}", "--set", "sample=2", cwd=folder, check=2)
    assert "did you mean" in wrong.stderr


def test_data_prepare_names_broken_cases_and_goes_on(folder: Path) -> None:
    root = write_la(folder / "la")
    la_file(root, "B2").write_bytes(la_file(root, "B2").read_bytes()[:900])
    prepare = ["data", "prepare", "la", "--data", f"la={root}", "--workers", "2"]
    broken = cli(*prepare, cwd=folder, check=2).stderr
    assert f"case B2, {la_file(root, 'B2')}" in broken
    image, label = volume(seed=1)
    write_la_case(root, "B2", image=image, label=label)
    place = Path(cli(*prepare, cwd=folder).stdout.splitlines()[-1].removeprefix("prepared: "))
    assert json.loads((folder / place / "record.json").read_text())["notes"]["adopted"] == 3


def test_a_configured_folder_that_is_not_there_hides_no_other_dataset(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "sfrbench").mkdir()
    (folder / "sfrbench" / "config.yaml").write_text("data: {la: /nowhere}\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    monkeypatch.delenv("SFRBENCH_DATA", raising=False)
    listed = CliRunner().invoke(main, ["data", "list"])
    assert listed.exit_code == 0
    assert "la             BROKEN" in listed.stdout
    assert "config.yaml: data.la  there is no folder /nowhere" in listed.stdout
    assert "phantom        24 train, 8 test, organ  generated" in listed.stdout
    refused = CliRunner().invoke(main, ["data", "list", "--data", "btcv=nowhere"])
    assert refused.exit_code == 2


def test_doctor(folder: Path) -> None:
    output = here("doctor", cwd=folder).stdout
    for part in ("torch ", "weights", "lite_medsam", "disk", "registry"):
        assert part in output


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ({}, "none: there is no 'sbatch' here"),
        ({"sbatch": "", "srun": ""}, "none: there is no 'squeue' here"),
        (
            {"sbatch": "", "srun": "", "squeue": "echo 'Unable to contact' >&2; exit 1"},
            "none: squeue: Unable",
        ),
        ({"sbatch": "", "srun": "", "squeue": ""}, ""),
        (
            {"sbatch": "", "srun": "", "squeue": "echo Welcome"},
            "none: squeue lists no jobs, it says: Welcome",
        ),
        (
            {"sbatch": "", "srun": "", "squeue": r"printf '\377' >&2; exit 1"},
            "none: squeue: \N{REPLACEMENT CHARACTER}",
        ),
        ({"sbatch": "", "srun": "", "squeue": "echo Welcome; echo '7|RUNNING|None|two\nlines'"}, ""),
    ],
)
def test_doctor_says_whether_jobs_can_be_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: dict[str, str], said: str
) -> None:
    pytest.importorskip("submitit")
    for command, script in commands.items():
        (tmp_path / command).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / command).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    lacks = doctor._lack_of_slurm()
    assert lacks.startswith(said) if said else lacks == ""


def test_doctor_with_a_slurm_that_is_half_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    for command in ("sbatch", "srun", "squeue"):
        (tmp_path / command).write_bytes(b"\x7fELF, cut short")
        (tmp_path / command).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor._lack_of_slurm() == "none: squeue cannot be started: Exec format error"


def test_predictions_return_to_the_raw_grid(folder: Path) -> None:
    import nibabel
    import numpy as np

    affine = np.array([[-2.0, 0, 0, 10], [0, 0, 1.5, -4], [0, 3.0, 0, 7], [0, 0, 0, 1]])
    root = write_decathlon(folder / "own", affine=affine)
    text = SPEC.split("arms:")[0].replace("mean_teacher", "supervised")
    data = "{name: phantom, labeled: 2, train_cases: 4, test_cases: 2, shape: [32, 32, 16]}"
    own = "{name: decathlon, labeled: 1, test_cases: 1, patch: [32, 32, 32], stride: [32, 32, 32]}"
    (folder / "own.yaml").write_text(text.replace(data, own))
    options = ["--profile", "cpu", "--data", f"decathlon={root}", "--set", "ssl.steps=2"]
    here("run", "own.yaml", *options, *QUIET, cwd=folder)
    here("results", "own.yaml", *options, "--labels", "labels", cwd=folder)
    found = list((folder / "labels").rglob("*.nii.gz"))
    assert len(found) == 1
    raw = nibabel.load(root / "imagesTr" / found[0].name)
    back = nibabel.load(found[0])
    assert back.shape == raw.shape
    np.testing.assert_allclose(back.affine, raw.affine)
    (names,) = back.header.extensions
    assert b">part 1</Label>" in names.content


def test_plan_as_json_has_the_promised_keys(folder: Path) -> None:
    counts = json.loads(here("plan", "small.yaml", "--profile", "smoke", "--json", cwd=folder).stdout)
    assert {"cells", "nodes", "naive_nodes", "reused", "to_run", "by_stage"} <= counts.keys()
    assert counts["precision"] == {"foundation": ["fp32"], "backbone": ["fp32"]}
    told = here(
        "plan", "small.yaml", "--profile", "smoke", "--set", "backbone.precision=bf16", cwd=folder
    ).stdout
    assert "precision: SAM fp32, segmenter bf16" in told


def test_interrupted_is_exit_130(folder: Path) -> None:
    import signal
    import time

    process = Process(
        "run", "small.yaml", "--profile", "smoke", *QUIET,
        "--set", "finetune.steps=2000", "--set", "finetune.checkpoint_every=5",
        cwd=folder, env=environment(),
    )  # fmt: skip
    partial = folder / "runs" / "store" / "partial"
    deadline = time.monotonic() + 120
    while not list(partial.glob("finetune-*/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from here" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("--device=tpu", "no device 'tpu'"),
        ("--device=cuda:x", "did you mean 'cuda"),
        ("--device=", "no device"),
        ("--device=cuda:99999", "known: auto, cpu, cuda, cuda:N"),
        ("--device=cuda:\N{ARABIC-INDIC DIGIT THREE}", "did you mean 'cuda"),
        ("--data=la=~no_such_user/x", "home directory"),
        ("--set=a=[", "--set a=["),
        ("--profile=smok", "did you mean 'smoke'?"),
        ("--registry=nowhere", "no such registry"),
    ],
)
def test_a_wrong_option_is_refused_at_once(tmp_path: Path, option: str, wanted: str) -> None:
    done = CliRunner().invoke(main, ["validate", "quickstart", f"--workspace={tmp_path}", option])
    assert (done.exit_code, done.exception.__class__) == (2, SystemExit)
    assert wanted in done.output


@pytest.mark.parametrize("hours", ["nan", "inf", "-1", "0", "x"])
def test_hours_that_never_end(hours: str) -> None:
    done = CliRunner().invoke(main, ["search", "quickstart", f"--hours={hours}"])
    assert (done.exit_code, done.exception.__class__) == (2, SystemExit)
    assert "--hours" in done.output


def test_codes_never_reach_the_terminal(tmp_path: Path) -> None:
    """Neither from the name of a file, nor from its text, nor from an option."""
    odd = tmp_path / "a\x1b[31m\u202eb.yaml"
    for text in (
        "title: x\n",
        'title: "\\e[31m"\n',
        "title: x\x1b[1m\n",
        '"\\e": 1\n',
        "ti\u009btle: x\n",
        "'\x07': 1",
    ):
        odd.write_text(text)
        for sets in ((), ("--set=\x1b[31mx=1",), ("--set=ssl=\u202ex",)):
            done = CliRunner().invoke(main, ["validate", str(odd), *sets])
            assert done.exit_code == 2
            assert not set(done.output) & set("\x07\x1b\r\x9b\u202e")


def test_only_one_function_prints() -> None:
    """All text for a terminal goes through ``terminal.echo``, which takes such codes out."""
    package = Path(sfrbench.__file__).parent
    found = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "click.echo", "click.secho")
    ]
    assert [place.partition(":")[0] for place in found] == ["files/terminal.py"], found


def test_a_thousand_faults_are_not_listed_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC + f"\naxes: {{ssl.steps: {[-n for n in range(1, 1001)]}}}\n")
    done = CliRunner().invoke(main, ["validate", str(tmp_path / "spec.yaml"), "--profile=smoke"])
    assert done.exit_code == 2
    assert "and 900 more" in done.output
    assert done.output.count("below the bound") == 100


@pytest.mark.parametrize(
    "typed",
    [
        ["CODES"],
        ["data", "CODES"],
        ["run", "--CODES"],
        ["results", "x", "--format", "CODES"],
        ["search", "x", "--workers", "CODES"],
        ["run", "x", "CODES"],
        ["run", "x", "--data", "CODES"],
        ["show", "CODES"],
    ],
    ids=" ".join,
)
def test_what_was_typed_does_not_reach_the_terminal_as_codes(typed: list[str]) -> None:
    """Nor is it left out: it stands as escapes."""
    codes = "\x1b[31m\x1b]0;title\x07\x9b1m\u202e"
    done = CliRunner().invoke(main, [part.replace("CODES", f"odd{codes}") for part in typed])
    assert done.exit_code == 2
    assert "odd" in done.stderr
    assert r"\x1b[31m\x1b]0;title\x07\x9b1m\u202e" in done.stderr
    assert not [mark for mark in codes if ord(mark) < 32 or ord(mark) > 126 if mark in done.output]


def test_a_warning_in_the_log_is_cleaned_as_well(folder: Path) -> None:
    code = (
        "import logging; from sfrbench.cli import main; from sfrbench.cli import commands\n"
        "main.commands['list'].callback = lambda **_: logging.getLogger('x').warning('a %s', '\\x1b[31m')\n"
        "main(['list'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == rb"a \x1b[31m"


def test_help_that_cannot_be_written_ends_without_a_traceback(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sfrbench", "--help"],
            cwd=folder, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 2
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
