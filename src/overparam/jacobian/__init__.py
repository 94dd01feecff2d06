"""How much the Jacobian can change on a ball around theta_0: its modulus omega and constant L."""
