"""What lies on disk or in a bucket: versions of models, held-out rows, uploads, and the journal of jobs."""
