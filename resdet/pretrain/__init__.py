"""Classification: the trainer, its test protocol, BN statistics. Knows nothing of detection."""
