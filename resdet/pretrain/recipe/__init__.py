"""Parts of a training recipe, one key each; off, a training is the one without them."""
