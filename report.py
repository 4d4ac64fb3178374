"""The front door `report.py`; see README.md."""

from gauntlet.cli.main import report

if __name__ == "__main__":
    report()
