"""Draw the pictures of README.md from finished runs.

python train.py -m defense=pat_alexnet,normal,at_linf,at_l2,pat_self
python scripts/draw_docs.py outputs/digits
"""

import argparse
import re
import shutil
from pathlib import Path

from rich.console import Console

from gauntlet.reports import make_paper_tables, markdown, read_run, run_table

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Write docs/first_run.svg, docs/first_run.png and docs/digits_bounds.png; print the table of all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the five runs")
    runs = parser.parse_args().runs
    pat, normal = _run(runs, "pat_alexnet"), _run(runs, "normal")
    console = Console(record=True, width=64)
    run = read_run(pat, "quick")
    console.print(run_table(run, f"{run.name} through attack suite quick"))
    drawing = console.export_svg(title="python train.py defense=pat_alexnet")
    (DOCS / "first_run.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL))
    shutil.copy(pat / "pictures" / "quick.png", DOCS / "first_run.png")
    shutil.copy(normal / "pictures" / "quick.png", DOCS / "digits_bounds.png")
    order = ("normal", "at_linf", "at_l2", "pat_self", "pat_alexnet")
    tables = make_paper_tables([read_run(_run(runs, name), "quick") for name in order], {})
    for table in tables:
        print(markdown(table))


def _run(runs: Path, defense: str) -> Path:
    return next(card.parent for card in sorted(runs.glob(f"{defense}-*/*/card.json")))


if __name__ == "__main__":
    main()
