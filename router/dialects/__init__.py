"""The ways of asking that the gateway understands: chat, completions, embeddings, responses, messages."""
