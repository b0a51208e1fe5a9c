"""The forms of a population; a module of its own, as options need no more of it."""

FORMS = ("gaussian", "mixture")
