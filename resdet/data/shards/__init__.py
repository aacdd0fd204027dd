"""Labelled images in tar shards, webdataset's layout: read at random by an index, and made."""
