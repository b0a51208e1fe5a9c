"""Prior sensitivity: by derivative, by power scaling, by refits."""
