"""A sheet of pictures fits its budget and stays a picture."""

import base64
import io

import numpy as np
from PIL import Image

from gauntlet.reports.gallery import gallery
from tests.reports.folders import add_pictures


def content(picture):
    kind, data = picture.source.split(",", 1)
    assert kind == "data:image/webp;base64"
    return base64.b64decode(data)


def test_it_is_without_loss_where_there_is_room(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "sheet.png")
    picture = gallery(tmp_path / "sheet.png", 100_000)
    assert (picture.width, picture.height) == (60, 40)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content(picture))).convert("RGB")), pixels)


def test_it_keeps_to_its_budget_however_small(tmp_path):
    add_pictures(tmp_path, rows=4)
    file = tmp_path / "pictures" / "paper.png"
    sizes = [len(content(gallery(file, budget))) for budget in (90_000, 30_000, 2_000)]
    assert sizes[0] <= 90_000
    assert sizes[1] <= 30_000
    assert sizes[2] <= 2_000
    assert gallery(file, 2_000).width == 918  # shown as large as before


def test_what_is_no_picture_is_left_out(tmp_path):
    (tmp_path / "sheet.png").write_text("nothing")
    assert gallery(tmp_path / "sheet.png", 1000) is None
    assert gallery(tmp_path / "absent.png", 1000) is None
