"""Which bits each layer gets on a machine: what they cost there, and the choice among them."""
