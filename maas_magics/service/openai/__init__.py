"""What clients of OpenAI's API find at a service: models, completions, conversations, embeddings."""
