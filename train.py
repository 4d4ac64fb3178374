"""The front door `train.py`; see README.md."""

from gauntlet.cli.main import train

if __name__ == "__main__":
    train()
