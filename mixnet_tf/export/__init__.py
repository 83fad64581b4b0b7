"""A Keras MixNet to files for phones and servers."""
