/* What CUDA's driver_types.h needs of its compiler's headers, for a C compiler. */
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __attribute__((aligned(n)))
#define __cuda_builtin_vector_align8(tag, members) struct __attribute__((aligned(8))) tag {members}
#define __device_builtin__
#define __device_builtin_surface_type__
#define __device_builtin_texture_type__
#define CUDARTAPI
