"""The front door `evaluate.py`; see README.md."""

from gauntlet.cli.main import evaluate

if __name__ == "__main__":
    evaluate()
