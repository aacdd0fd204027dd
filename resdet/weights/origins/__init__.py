"""Where weights come from: names, value layouts, conventions, and the net to compare with."""
