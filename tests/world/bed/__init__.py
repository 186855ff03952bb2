"""The test bed: four machines of real parts, and the driver for scenarios that run on them."""
