/* A CUDA runtime without a GPU: memory of the device is memory of the host, kernels do nothing.
 *
 * ONNX Runtime's CUDA provider starts with it, so that its own code says which nodes it has kernels for, lays out their
 * weights, and checks the shapes of a step. What comes out of a step means nothing. `link.py` adds every other
 * function that the provider imports, each of which does nothing and reports success.
 */
#include <driver_types.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 256, MULTIPROCESSORS = 108, WARP = 32, BLOCK_THREADS = 1024, SHARED_BYTES = 163 << 10 };
static const size_t MEMORY = (size_t)16 << 30;
static char object[4096]; /* what every handle points to */

static int major_version(void) {
    const char* given = getenv("STAND_IN_CAPABILITY");
    return given ? atoi(given) : 8;
}

static int minor_version(void) {
    const char* given = getenv("STAND_IN_CAPABILITY");
    const char* dot = given ? strchr(given, '.') : NULL;
    return dot ? atoi(dot + 1) : 0;
}

int cudaMalloc(void** memory, size_t size) {
    size_t whole = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    *memory = aligned_alloc(ALIGNMENT, whole ? whole : ALIGNMENT);
    if (!*memory) return cudaErrorMemoryAllocation;
    memset(*memory, 0, whole);
    return cudaSuccess;
}
int cudaMallocHost(void** memory, size_t size) { return cudaMalloc(memory, size); }
int cudaHostAlloc(void** memory, size_t size, unsigned flags) { return cudaMalloc(memory, size); }
int cudaMallocFromPoolAsync(void** memory, size_t size, void* pool, void* stream) { return cudaMalloc(memory, size); }
int cudaFree(void* memory) { free(memory); return cudaSuccess; }
int cudaFreeHost(void* memory) { return cudaFree(memory); }
int cudaFreeAsync(void* memory, void* stream) { return cudaFree(memory); }
int cudaMemcpy(void* to, const void* from, size_t size, int kind) { memmove(to, from, size); return cudaSuccess; }
int cudaMemcpyAsync(void* to, const void* from, size_t size, int kind, void* stream) {
    return cudaMemcpy(to, from, size, kind);
}
int cudaMemset(void* to, int value, size_t size) { memset(to, value, size); return cudaSuccess; }
int cudaMemsetAsync(void* to, int value, size_t size, void* stream) { return cudaMemset(to, value, size); }
int cudaMemGetInfo(size_t* available, size_t* total) { *available = *total = MEMORY; return cudaSuccess; }
int cudaMemPoolCreate(void** pool, const void* properties) { *pool = object; return cudaSuccess; }

int cudaGetDeviceCount(int* count) { *count = 1; return cudaSuccess; }
int cudaGetDevice(int* device) { *device = 0; return cudaSuccess; }
int cudaRuntimeGetVersion(int* version) { *version = 13000; return cudaSuccess; }
int cudaDriverGetVersion(int* version) { *version = 13000; return cudaSuccess; }
const char* cudaGetErrorName(int error) { return error ? "cudaError" : "cudaSuccess"; }
const char* cudaGetErrorString(int error) { return error ? "an error of the stand-in" : "no error"; }

int cudaGetDeviceProperties(struct cudaDeviceProp* found, int device) {
    memset(found, 0, sizeof *found);
    strcpy(found->name, "stand-in");
    found->major = major_version();
    found->minor = minor_version();
    found->multiProcessorCount = MULTIPROCESSORS;
    found->warpSize = WARP;
    found->maxThreadsPerBlock = found->maxThreadsDim[0] = found->maxThreadsDim[1] = BLOCK_THREADS;
    found->maxThreadsDim[2] = 64;
    found->maxThreadsPerMultiProcessor = 2 * BLOCK_THREADS;
    found->maxGridSize[0] = 0x7fffffff;
    found->maxGridSize[1] = found->maxGridSize[2] = 0xffff;
    found->totalGlobalMem = MEMORY;
    found->sharedMemPerBlock = 48 << 10;
    found->sharedMemPerBlockOptin = found->sharedMemPerMultiprocessor = SHARED_BYTES;
    found->regsPerBlock = found->regsPerMultiprocessor = 1 << 16;
    found->l2CacheSize = 40 << 20;
    return cudaSuccess;
}

int cudaDeviceGetAttribute(int* value, enum cudaDeviceAttr attribute, int device) {
    switch (attribute) {
        case cudaDevAttrComputeCapabilityMajor: *value = major_version(); break;
        case cudaDevAttrComputeCapabilityMinor: *value = minor_version(); break;
        case cudaDevAttrMultiProcessorCount: *value = MULTIPROCESSORS; break;
        case cudaDevAttrMaxThreadsPerBlock: *value = BLOCK_THREADS; break;
        case cudaDevAttrWarpSize: *value = WARP; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = 48 << 10; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = SHARED_BYTES; break;
        default: *value = 1;
    }
    return cudaSuccess;
}

int cudaStreamCreate(void** stream) { *stream = object; return cudaSuccess; }
int cudaStreamCreateWithFlags(void** stream, unsigned flags) { return cudaStreamCreate(stream); }
int cudaStreamIsCapturing(void* stream, int* status) { *status = 0; return cudaSuccess; }
int cudaEventCreate(void** event) { *event = object; return cudaSuccess; }
int cudaEventCreateWithFlags(void** event, unsigned flags) { return cudaEventCreate(event); }
int cudaEventElapsedTime(float* milliseconds, void* start, void* end) { *milliseconds = 1; return cudaSuccess; }

int cudaFuncGetAttributes(struct cudaFuncAttributes* found, const void* kernel) {
    memset(found, 0, sizeof *found);
    return cudaSuccess;
}
int cudaPointerGetAttributes(struct cudaPointerAttributes* found, const void* memory) {
    memset(found, 0, sizeof *found);
    found->type = cudaMemoryTypeDevice;
    return cudaSuccess;
}
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* k, int t, size_t s, unsigned f) {
    *blocks = 1;
    return cudaSuccess;
}
static int nothing(void) { return 0; }
int cudaGetDriverEntryPointByVersion(const char* name, void** found, unsigned version, unsigned long long f, int* s) {
    *found = (void*)nothing;
    if (s) *s = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}
void** __cudaRegisterFatBinary(void* binary) {
    static void* handle[1];
    return handle;
}
