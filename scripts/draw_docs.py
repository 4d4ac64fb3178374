"""Draw the pictures of README.md from finished runs.

python train.py -m defense=pat_alexnet,normal,at_linf,at_l2,pat_self
python scripts/draw_docs.py outputs/digits
"""

import argparse
import re
import shutil
from pathlib import Path

from rich.console import Console

from gauntlet.reports import make_paper_table, markdown, read_run, run_table

DOCS = Path(__file__).parents[1] / "docs"
ORDER = ("normal", "at_linf", "at_l2", "pat_self", "pat_alexnet")


def main() -> None:
    """Write docs/first_run.svg, docs/first_run.png and docs/digits_bounds.png; print the table of all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the five runs")
    draw(parser.parse_args().runs, DOCS)


def draw(runs: Path, pictures: Path) -> None:
    """Write the three pictures, and print the table of README.md.

    Args:
        runs: folder of the five runs.
        pictures: folder of the pictures.
    """
    folders = {defense: _folder(runs, defense) for defense in ORDER}
    pat = read_run(folders["pat_alexnet"], "quick")
    console = Console(record=True, width=64)
    console.print(run_table(pat, f"{pat.name} through attack suite quick"))
    drawing = console.export_svg(title="python train.py defense=pat_alexnet")
    (pictures / "first_run.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL))
    shutil.copy(folders["pat_alexnet"] / "pictures" / "quick.png", pictures / "first_run.png")
    shutil.copy(folders["normal"] / "pictures" / "quick.png", pictures / "digits_bounds.png")
    print(markdown(make_paper_table([read_run(folder, "quick") for folder in folders.values()], None)))


def _folder(runs: Path, defense: str) -> Path:
    folders = sorted(card.parent for card in runs.glob(f"{defense}-*/*/card.json"))
    if len(folders) != 1:
        raise SystemExit(f"{len(folders)} runs of {defense} in {runs}: expected one; python train.py defense={defense}")
    return folders[0]


if __name__ == "__main__":
    main()
