"""Triton kernels: `<name>.py` describes launches and imports no Triton, `<name>_device.py` is what the GPU runs."""
