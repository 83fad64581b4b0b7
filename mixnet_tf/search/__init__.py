"""Networks found, as block strings: so far what a search chooses from, and one graph for all of it.

In: block strings with alternatives. Out: choices, networks, network files; a supernet, and its networks as models.
"""

from mixnet_tf.search.space import Alternatives, SearchSpace
from mixnet_tf.search.supernet import build_supernet, extract

__all__ = ["Alternatives", "SearchSpace", "build_supernet", "extract"]
