"""TV-L1 optical flow between consecutive aligned faces."""
