"""Compares a search's network with the best random one and MixNet-S's pattern: trains them, and tests them.

python studies/found_networks.py --search_dir=runs/search, after a search with --random_baseline. From the search and
from the random draws it takes the network with the lowest estimated cross-entropy among those that cost no more than
MixNet-S's pattern. Each is trained on the whole training split by the search's recipe. The same command resumes an
interrupted study. Writes found.json, networks/ and a folder of runs for each network.
"""

import mixnet_launch

if __name__ == "__main__":
    mixnet_launch.start("comparison")
