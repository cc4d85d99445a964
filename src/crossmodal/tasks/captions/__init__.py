"""The parts of captioning: references and generated captions, and the choice of an epoch on validation images."""
