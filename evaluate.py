"""The front door `evaluate.py`; see README.md."""

from gauntlet.launch.doors import evaluate

if __name__ == "__main__":
    evaluate()
