"""What a weight file is and whether it is healthy: by its names, its first layer, and on images."""
