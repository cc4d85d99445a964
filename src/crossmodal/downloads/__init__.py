"""`crossmodal download NAME`: raw files from where their makers publish them, resumed, checked and unpacked.

`origins.yaml` says what there is. torchvision's weights have names of their own, `torchvision/NETWORK`.
"""

from crossmodal.downloads.fetching import fetch
from crossmodal.downloads.origins import Origin, SourceFile, named, origins

__all__ = ["Origin", "SourceFile", "fetch", "named", "origins"]
