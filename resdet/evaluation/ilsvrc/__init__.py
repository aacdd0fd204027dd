"""ILSVRC's detection (DET) AP and localisation (LOC) error, by the devkit's rules."""
