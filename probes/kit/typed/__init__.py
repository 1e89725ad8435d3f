"""Tables of operations on integers that every type holds, with exact answers and gradients."""
