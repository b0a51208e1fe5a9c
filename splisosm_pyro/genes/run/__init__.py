"""Many genes: workers, memory, records on disk, resume."""
