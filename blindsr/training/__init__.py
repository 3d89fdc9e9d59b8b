"""Training of the pretrained network: synthetic and photographic images, their degradation, and the optimisation."""
