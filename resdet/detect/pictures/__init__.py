"""A trained detector on pictures that belong to no data set: a few in Python, folders of them."""
