"""What the farm tells about itself: histograms, the snapshot, the client that asks for it."""
