"""`crossmodal download NAME`: downloads raw files from their publishers, with resuming, verification and unpacking.

`origins.yaml` lists what can be downloaded; in addition, `torchvision/NETWORK` names torchvision's weights.
"""

from crossmodal.downloads.fetching import fetch
from crossmodal.downloads.origins import Origin, SourceFile, named, origins

__all__ = ["Origin", "SourceFile", "fetch", "named", "origins"]
