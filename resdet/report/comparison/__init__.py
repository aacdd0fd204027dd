"""What the runs of a report say of each other: comparable or not, gains, noise, errors."""
