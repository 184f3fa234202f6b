"""Where the five points of a face lie in an aligned face; separate so that importing it loads no detector."""

import numpy as np

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Eyes, nose and mouth corners in an image of 112 x 112 pixels (Deng et al. 2019, ArcFace)."""
