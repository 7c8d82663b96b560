"""Ideas on top of the recipe, each by a loop of its own on the library's parts; a row says whether it helps."""
