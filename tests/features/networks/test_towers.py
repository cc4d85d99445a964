from __future__ import annotations

import numpy as np

from crossmodal.features.networks import towers


def test_boxes_where_the_picture_is_squashed_or_filled_up():
    squashed = towers.patch_boxes(100, 60, (20, 20), (1, 2), "squash")
    np.testing.assert_allclose(squashed, [[0, 0, 50, 60], [50, 0, 100, 60]])
    # 80 x 40 pixels become 20 x 10, with 5 pixels of filling above and below, which is 20 of the file.
    filled = towers.patch_boxes(80, 40, (20, 20), (2, 2), "longest")
    np.testing.assert_allclose(filled, [[0, 0, 40, 20], [40, 0, 80, 20], [0, 20, 40, 40], [40, 20, 80, 40]])
    # The short side of 40 pixels becomes 20, of which the middle 10 are seen: 20 pixels of the file each way.
    cropped = towers.patch_boxes(80, 40, (10, 10), (1, 2), "shortest", 20)
    np.testing.assert_allclose(cropped, [[30, 10, 40, 30], [40, 10, 50, 30]])
