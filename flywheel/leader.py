"""The lock by which schedulers agree who leads, for whoever asks without being one."""

LOCK = 0x666C7973  # "flys"
