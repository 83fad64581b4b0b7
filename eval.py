"""Evaluates a model on every image of a split, on single images, or on a run's checkpoints as they are written."""

import mixnet_launch

if __name__ == "__main__":
    mixnet_launch.evaluate()
