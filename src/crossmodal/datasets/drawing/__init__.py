"""Drawing code of the embedded data sets: pictures, solids, sounds, motion and sentences."""
