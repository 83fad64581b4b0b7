"""Searches a space of networks: python -m mixnet_tf.search --space=space.json --dataset=scattered_digits"""

import mixnet_launch

if __name__ == "__main__":
    mixnet_launch.search()
