"""Trains MixNet. Without flags: MixNet-S on scikit-learn's handwritten digits, in minutes on a laptop."""

import mixnet_launch

if __name__ == "__main__":
    mixnet_launch.train()
