"""Learn on without forgetting: what rides on a supervised training that goes on from a version.

Every method is a small file; a training meets them in four places. `mixed` adds old rows to the new
ones, `starting_point` gives room beside what is frozen, `protected` hangs the method into the
trainer, and `keep_state` stores beside the adapter what the next training of the line will need.

What a version keeps for later stands in its folder `continual/`: serving and the hash of the
weights read the folder above it only. Every method ends with one plain LoRA adapter.
"""

from trainer.continual.hooks import keep_state, mixed, protected, starting_point

__all__ = ["keep_state", "mixed", "protected", "starting_point"]
