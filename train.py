"""The front door `train.py`; see README.md."""

from gauntlet.launch.doors import train

if __name__ == "__main__":
    train()
