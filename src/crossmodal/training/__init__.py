"""The training loop, the fitting of closed-form systems, and the choice of a device."""
