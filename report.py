"""The front door `report.py`; see README.md."""

from gauntlet.launch.doors import report

if __name__ == "__main__":
    report()
