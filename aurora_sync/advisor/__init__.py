"""What other systems should be told so that this one can rely on them."""
