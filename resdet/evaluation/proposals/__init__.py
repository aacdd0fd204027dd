"""What proposals are worth, before any class: how many objects they cover."""
