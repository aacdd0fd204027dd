"""Published numbers as data, with protocol and source."""
