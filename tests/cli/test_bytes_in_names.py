"""File names are bytes: a run in a folder whose name is no UTF-8, from training to its report."""

import os

from gauntlet.files import read_json
from tests.conftest import QUICK


def test_a_run_in_a_folder_whose_name_is_no_utf8(door, outputs):
    name = os.fsdecode(b"l\xe4ufe")
    folder = outputs / name
    folder.mkdir()
    (folder / "references").symlink_to(outputs / "references")
    words = ("defense=normal", "trainer.max_epochs=2", "attack_suite=clean", *QUICK, f'outputs="{folder}"')
    result = door("train", *words)
    assert result.code == 0, result.err
    (run,) = (folder / "digits").glob("*/*")
    (run / "checkpoints" / "final.safetensors").unlink()  # as if killed before the end: it goes on from last.ckpt
    result = door("train", *words)
    assert result.code == 0, result.err
    assert "going on from" in result.out
    assert door("evaluate", f'checkpoint="{run}"', *QUICK[2:4], "attack_suite=clean", "logger=csv").code == 0
    file = run / "checkpoints" / "last.ckpt"
    foreign = (f'checkpoint="{file}"', "evaluation.examples=5", "attack_suite=clean", "logger=csv")
    assert door("evaluate", *foreign).code == 0
    result = door("report", f'runs="{folder}"', "suite=clean", f'folder="{folder}/report"')
    assert result.code == 0, result.err
    assert (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert read_json(run / "provenance.json")[0]["command"][-1] == f'outputs="{folder}"'
