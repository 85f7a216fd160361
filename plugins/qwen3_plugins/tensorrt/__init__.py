"""The TensorRT plugins: Triton kernels, their ahead-of-time compilation, and the wrappers that TensorRT loads."""
