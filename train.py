"""Trains a classifier or detector; without flags MixNet-S on handwritten digits, in minutes on a laptop."""

import mixnet_launch

if __name__ == "__main__":
    mixnet_launch.train()
