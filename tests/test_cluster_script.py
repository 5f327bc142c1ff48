"""The script for a SLURM array: what a task starts, after a requeue too. Commands of nerfstudio are stand-ins here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "train.sbatch"
STAND_IN = """#!/bin/bash
echo "$(basename "$0")|$(printf '%s|' "$@")" >> commands.txt
if [ "$(basename "$0")" = ns-train ]; then
    mkdir -p "$RUN/nerfstudio_models"
    touch "$RUN/nerfstudio_models/step-000000500.ckpt"
    exit "${TRAINING_ENDS_WITH:-0}"
fi
"""


@pytest.fixture
def task(tmp_path: Path):
    """``task(ends_with)`` runs task 1 of job 77, whose training ends so; gives its exit code and all commands so far."""
    for name in ("ns-train", "ns-eval"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(STAND_IN)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "scenes.txt").write_text("first\nsome where/my clip\n")

    def run(ends_with: int = 0, number: int = 1) -> tuple[int, list[list[str]]]:
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        run = "outputs/my clip/dyn-som/77-1"
        environment = {**os.environ, "PATH": path, "RUN": run, "TRAINING_ENDS_WITH": str(ends_with)}
        environment |= {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": str(number)}
        command = ["bash", str(SCRIPT), "scenes.txt", "dyn-som", "--max-num-iterations", "9"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=30)
        log = tmp_path / "commands.txt"
        lines = log.read_text().splitlines() if log.exists() else []
        return done.returncode, [line.split("|")[:-1] for line in lines]

    return run


def test_a_task_trains_its_scene_and_scores_it(task):
    code, (train, score) = task()
    assert code == 0
    assert train[:4] == ["ns-train", "dyn-som", "--data", "some where/my clip"]
    assert train[-2:] == ["--max-num-iterations", "9"]
    assert "--load-dir" not in train
    assert score[:3] == ["ns-eval", "--load-config", "outputs/my clip/dyn-som/77-1/config.yml"]


def test_a_requeued_task_goes_on_and_a_finished_one_does_not_train_again(task):
    code, commands = task(ends_with=143)
    assert code == 143
    assert len(commands) == 1, "what was stopped is not scored"
    code, commands = task()
    assert code == 0
    place = commands[1].index("--load-dir")
    assert commands[1][place + 1] == "outputs/my clip/dyn-som/77-1/nerfstudio_models"
    assert commands[1][commands[1].index("--timestamp") + 1] == "77-1"
    assert task()[1][3:] == [commands[2]]


def test_a_task_without_a_line_says_so(task):
    assert task(number=5) == (2, [])
