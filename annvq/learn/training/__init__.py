"""The trainer, and what a training run needs: dev queries, devices, processes, checkpoints, pictures."""
