"""How the embedded data is drawn: pictures, solids, sounds, motion and words, shared by the modules that draw it."""
