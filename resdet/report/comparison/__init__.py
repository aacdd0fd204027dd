"""The runs of a report compared: comparable or not, gains, noise, errors."""
