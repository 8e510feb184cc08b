"""How each kind of code lies on a device, and is scanned and scored there."""
