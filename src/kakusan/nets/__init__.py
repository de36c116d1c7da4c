"""Networks: they know shapes, not probability."""
