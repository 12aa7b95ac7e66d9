"""What the farm tells about itself: histograms to count in, and the picture for people."""
