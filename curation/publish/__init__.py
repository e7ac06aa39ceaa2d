"""A version on disk: shards, formats, the card and its page, the proof of no leak."""
