"""File names are bytes: a run in a folder whose name is no UTF-8, from training to its report."""

import os

from gauntlet.files import read_json
from tests.conftest import QUICK


def test_a_run_in_a_folder_whose_name_is_no_utf8(door, outputs):
    name = os.fsdecode(b"l\xe4ufe")
    place = outputs / name
    place.mkdir()
    (place / "references").symlink_to(outputs / "references")
    words = ("defense=normal", "trainer.max_epochs=2", "attack_suite=clean", *QUICK, f'outputs="{place}"')
    said = door("train", *words)
    assert said.code == 0, said.err
    (run,) = (place / "digits").glob("*/*")
    (run / "checkpoints" / "final.safetensors").unlink()  # as if killed before the end: it goes on from last.ckpt
    said = door("train", *words)
    assert said.code == 0, said.err
    assert "going on from" in said.out
    assert door("evaluate", f'checkpoint="{run}"', *QUICK[2:4], "attack_suite=clean", "logger=csv").code == 0
    file = run / "checkpoints" / "last.ckpt"
    foreign = (f'checkpoint="{file}"', "evaluation.examples=5", "attack_suite=clean", "logger=csv")
    assert door("evaluate", *foreign).code == 0
    said = door("report", f'runs="{place}"', "suite=clean", f'folder="{place}/report"')
    assert said.code == 0, said.err
    assert (place / "report" / "report.html").read_text(encoding="utf-8")
    assert read_json(run / "provenance.json")[0]["command"][-1] == f'outputs="{place}"'
