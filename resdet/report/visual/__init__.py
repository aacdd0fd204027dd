"""Pages of pictures: what one run or two detect on chosen images (`resdet visualize`)."""
