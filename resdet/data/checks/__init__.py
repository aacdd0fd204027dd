"""What must hold before a set is used: boxes, sizes, no image twice; and refusals."""
