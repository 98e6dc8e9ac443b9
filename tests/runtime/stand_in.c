/* Enough of CUDA for ONNX Runtime to open a session without a GPU: memory is the host's, and kernels
 * do nothing, so that what a session returns means nothing. Where it places nodes is what it would
 * do. The other functions of each library, which stand_in.py writes, do nothing and return 0. */

#include <stdlib.h>
#include <string.h>

#define GIB (1ull << 30)

#ifdef LIBRARY_libcudart
int cudaGetDeviceCount(int *n) { *n = 1; return 0; }
int cudaGetDevice(int *n) { *n = 0; return 0; }
int cudaDriverGetVersion(int *n) { *n = 13000; return 0; }
int cudaRuntimeGetVersion(int *n) { *n = 13000; return 0; }
int cudaMemGetInfo(size_t *left, size_t *whole) { *left = 60 * GIB; *whole = 64 * GIB; return 0; }
/* cudaDeviceProp of CUDA 13, of compute capability 9.0. */
int cudaGetDeviceProperties(char *p, int device) {
  memset(p, 0, 800);
  strcpy(p, "stand-in");
  *(size_t *)(p + 288) = 64 * GIB;
  *(size_t *)(p + 296) = 49152;
  *(int *)(p + 304) = 65536;
  *(int *)(p + 308) = 32;
  *(size_t *)(p + 312) = GIB;
  *(int *)(p + 320) = 1024;
  for (int axis = 0; axis < 3; axis++) {
    ((int *)(p + 324))[axis] = 1024;
    ((int *)(p + 336))[axis] = 65535;
  }
  *(size_t *)(p + 352) = 65536;
  *(int *)(p + 360) = 9;
  *(size_t *)(p + 368) = 512;
  *(size_t *)(p + 376) = 32;
  *(int *)(p + 384) = 132;
  return 0;
}
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) {
    case 1: *value = 1024; break;  /* threads a block */
    case 10: *value = 32; break;   /* threads a warp */
    case 16: *value = 132; break;  /* multiprocessors */
    case 75: *value = 9; break;    /* compute capability */
    case 76: *value = 0; break;
    default: *value = 65536;
  }
  return 0;
}
int cudaMalloc(void **p, size_t n) { *p = aligned_alloc(256, (n / 256 + 1) * 256); return 0; }
int cudaMallocHost(void **p, size_t n) { return cudaMalloc(p, n); }
int cudaHostAlloc(void **p, size_t n, unsigned flags) { return cudaMalloc(p, n); }
int cudaMallocFromPoolAsync(void **p, size_t n, void *pool, void *s) { return cudaMalloc(p, n); }
int cudaFree(void *p) { free(p); return 0; }
int cudaFreeHost(void *p) { free(p); return 0; }
int cudaFreeAsync(void *p, void *stream) { free(p); return 0; }
int cudaMemcpy(void *to, void *from, size_t n, int kind) { memcpy(to, from, n); return 0; }
int cudaMemcpyAsync(void *to, void *from, size_t n, int kind, void *stream) {
  memcpy(to, from, n);
  return 0;
}
int cudaMemset(void *p, int value, size_t n) { memset(p, value, n); return 0; }
int cudaMemsetAsync(void *p, int value, size_t n, void *s) { memset(p, value, n); return 0; }
int cudaStreamCreate(void **p) { *p = malloc(8); return 0; }
int cudaStreamCreateWithFlags(void **p, unsigned flags) { *p = malloc(8); return 0; }
int cudaEventCreate(void **p) { *p = malloc(8); return 0; }
int cudaEventCreateWithFlags(void **p, unsigned flags) { *p = malloc(8); return 0; }
int cudaEventElapsedTime(float *ms, void *a, void *b) { *ms = 1; return 0; }
int cudaPointerGetAttributes(int *attributes, void *p) {
  attributes[0] = 2; /* of a device */
  attributes[1] = 0;
  *(void **)(attributes + 2) = p;
  *(void **)(attributes + 4) = p;
  return 0;
}
const char *cudaGetErrorString(int error) { return "the stand-in's"; }
const char *cudaGetErrorName(int error) { return "stand-in"; }
void **__cudaRegisterFatBinary(void *binary) { return malloc(64); }
int cudaFuncGetAttributes(int *attributes, void *f) { memset(attributes, 0, 64); return 0; }
int cudaStreamIsCapturing(void *stream, int *status) { *status = 0; return 0; }
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n) { *n = 8; return 0; }
int cudaGetDriverEntryPointByVersion(char *name, void **p) { *p = 0; return 1; }
#endif

#ifdef LIBRARY_libcudnn
size_t cudnnGetVersion(void) { return 91300; }
const char *cudnnGetErrorString(int error) { return "the stand-in's"; }
#endif

#ifdef LIBRARY_libcublas
const char *cublasGetStatusString(int error) { return "the stand-in's"; }
const char *cublasGetStatusName(int error) { return "stand-in"; }
#endif

#ifdef LIBRARY_libcuda
int cuDriverGetVersion(int *n) { *n = 13000; return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int n, int device) { strcpy(name, "stand-in"); return 0; }
int cuDeviceTotalMem_v2(size_t *n, int device) { *n = 64 * GIB; return 0; }
#endif
