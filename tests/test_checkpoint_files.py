"""What is wrong with a checkpoint to resume from is said before anything is loaded."""

from pathlib import Path

import pytest
import torch

from dyngs_plugins.checkpoint_files import check_complete, check_load_dir, folder_for_partial, remove_others


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """RUN/nerfstudio_models with the checkpoints of two steps."""
    found = tmp_path / "run" / "nerfstudio_models"
    found.mkdir(parents=True)
    for step in (1000, 2000):
        torch.save({"step": step}, found / f"step-{step:09d}.ckpt")
    return found


def message(folder: Path, step: int | None = None) -> str:
    with pytest.raises((FileNotFoundError, ValueError)) as error:
        check_load_dir(folder, step)
    return str(error.value)


def test_whole_checkpoints_pass(folder: Path):
    check_load_dir(folder, None)
    check_load_dir(folder, 1000)
    check_complete(folder / "step-000002000.ckpt", "")


def test_no_such_folder(tmp_path: Path):
    assert "no such folder. Expected a run's folder of checkpoints, RUN/nerfstudio_models" in message(tmp_path / "no")


def test_the_runs_own_folder(folder: Path):
    (folder.parent / "config.yml").touch()
    said = message(folder.parent)
    assert "found 0 of them and config.yml, nerfstudio_models" in said
    assert said.endswith(f"Pass --load-dir {folder}.")


def test_a_stray_file_that_the_host_would_stumble_over(folder: Path):
    (folder / "notes.txt").touch()
    assert "found 2 of them and notes.txt" in message(folder)


def test_an_empty_folder(tmp_path: Path):
    assert "expected step-NUMBER.ckpt and nothing else, found 0 of them" in message(tmp_path)


def test_a_step_that_was_not_kept(folder: Path):
    assert "has no such checkpoint; it has those of steps 1000, 2000" in message(folder, 1500)


def test_a_checkpoint_that_was_cut_off(folder: Path):
    last = folder / "step-000002000.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    said = message(folder)
    assert f"{last}: " in said
    assert "it was cut off while it was written" in said
    assert said.endswith(f"Move it away to resume from {folder / 'step-000001000.ckpt'}.")
    check_load_dir(folder, 1000)
    with pytest.raises(ValueError, match="cut off"):
        check_complete(last, "Give another one.")
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        check_complete(folder / "other.ckpt", "")


def test_what_a_killed_process_left_beside_the_checkpoints_is_removed_by_the_next(folder: Path):
    left = folder.with_name(".nerfstudio_models.partial")
    left.mkdir()
    (left / "step-000003000.ckpt").touch()
    with folder_for_partial(folder) as partial:
        assert partial == left
        assert list(partial.iterdir()) == []
    assert not left.exists()
    check_load_dir(folder, None)


def test_one_checkpoint_is_kept(folder: Path):
    remove_others(folder / "step-000002000.ckpt")
    assert [path.name for path in folder.iterdir()] == ["step-000002000.ckpt"]
