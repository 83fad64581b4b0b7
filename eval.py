"""Evaluates a MixNet on every image of a split, on single images, or on checkpoints as training writes them."""

import mixnet_launch

if __name__ == "__main__":
    mixnet_launch.evaluate()
