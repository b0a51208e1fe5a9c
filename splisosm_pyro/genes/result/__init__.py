"""What a run hands back: a table, figures, a folder, AnnData."""
