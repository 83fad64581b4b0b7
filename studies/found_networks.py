"""Trains what a search found beside the best network drawn at random and MixNet-S's pattern, on the test split.

python studies/found_networks.py --search_dir=runs/search, after a search with --random_baseline. Of the search and of
the random networks it takes the one with the lowest estimated cross-entropy among those that cost no more than
MixNet-S's pattern. Each is trained on the whole training split by the search's recipe. The same command resumes it.
Leaves found.json, networks/ and a folder of runs for each network.
"""

import mixnet_launch

if __name__ == "__main__":
    mixnet_launch.start("comparison")
