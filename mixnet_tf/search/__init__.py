"""Search: a space of networks, a supernet that computes all of them, and a search in the space.

In: block strings with alternatives, a dataset, a `Recipe`.
Out: a front of network files in the search's folder.
"""

from mixnet_tf.search.alternatives import Alternatives
from mixnet_tf.search.costs import COSTS
from mixnet_tf.search.front import front_of, hypervolume
from mixnet_tf.search.ranking import kendall_tau
from mixnet_tf.search.searching import search
from mixnet_tf.search.settings import ESTIMATES, SearchSettings
from mixnet_tf.search.space import SearchSpace
from mixnet_tf.search.supernet import build_supernet, extract

__all__ = [
    "Alternatives",
    "COSTS",
    "ESTIMATES",
    "SearchSettings",
    "SearchSpace",
    "build_supernet",
    "extract",
    "front_of",
    "hypervolume",
    "kendall_tau",
    "search",
]
