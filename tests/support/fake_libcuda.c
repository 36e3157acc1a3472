/* A driver library without a GPU, for tests: "device" memory is host memory, a graph replays its copies.

   It checks what a real driver would refuse: calls without a context, unknown addresses, a copy from
   memory that is not page-locked while a capture runs, a second end of a capture, the end of one that an
   allocation has invalidated, or that another stream was taken into and not waited for. `fake_live` counts
   what was not freed. Names with _v2 are aliases, as in the real library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int CUresult;
typedef void *handle;
typedef unsigned long long address;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, INVALID_HANDLE = 400,
       NOT_FOUND = 500, LAUNCH_TIMEOUT = 702, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901,
       CAPTURE_UNJOINED = 904 };

#define API __attribute__((visibility("default")))
#define V2(name) extern __typeof__(name) name##_v2 __attribute__((alias(#name), visibility("default")));
#define NEED_CONTEXT if (!current) return INVALID_CONTEXT

static __thread handle current;
static __thread handle stack[8];
static __thread int depth;
static int retained, live_memory, live_pins, live_streams, live_graphs, live_events;
static uintptr_t pinned[16][2];
static struct node { void *to; const void *from; size_t size; } nodes[64];
static int captured = -1, invalidated;
/* A capture holds the stream that it began on, and others from their first wait for an event recorded in it;
   as cuStreamEndCapture asks, each must have been waited for by then. */
static struct stream { int in_capture, joined; } *origin, *taken[8];
static int taken_count;
struct event { int in_capture; struct stream *of; };
static int limit_mib = 1 << 20;
static volatile int hangs;

struct graph { int count; struct node nodes[64]; };

API void fake_hang(int on) { hangs = on; }
API void fake_set_limit_mib(int mib) { limit_mib = mib; }
API int fake_live(const char *kind) {
  if (!strcmp(kind, "memory")) return live_memory;
  if (!strcmp(kind, "pins")) return live_pins;
  if (!strcmp(kind, "streams")) return live_streams;
  if (!strcmp(kind, "graphs")) return live_graphs;
  if (!strcmp(kind, "events")) return live_events;
  return retained;
}

API CUresult cuInit(unsigned flags) { return flags ? INVALID_VALUE : SUCCESS; }
API CUresult cuDriverGetVersion(int *version) { *version = 12060; return SUCCESS; }
API CUresult cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
API CUresult cuDeviceGet(int *device, int index) { *device = index; return index ? 101 : SUCCESS; }
/* as on a machine whose first GPU is not the first of the bus */
API CUresult cuDeviceGetPCIBusId(char *text, int size, int device) { snprintf(text, size, "0000:4%d:00.0", device); return SUCCESS; }
API CUresult cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "Fake GPU"); return SUCCESS; }
API CUresult cuDeviceTotalMem(size_t *size, int device) { *size = (size_t)limit_mib << 20; return SUCCESS; }
V2(cuDeviceTotalMem)
API CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 18 ? 1 : 0; /* 8.7, integrated */
  return SUCCESS;
}
API CUresult cuDeviceComputeCapability(int *major, int *minor, int device) { *major = 8; *minor = 7; return SUCCESS; }
API CUresult cuDevicePrimaryCtxRetain(handle *context, int device) { retained++; *context = &retained; return SUCCESS; }
API CUresult cuDevicePrimaryCtxRelease(int device) { retained--; return SUCCESS; }
V2(cuDevicePrimaryCtxRelease)
API CUresult cuCtxSetCurrent(handle context) { current = context; return SUCCESS; }
API CUresult cuCtxGetCurrent(handle *context) { *context = current; return SUCCESS; }
API CUresult cuCtxGetDevice(int *device) { NEED_CONTEXT; *device = 0; return SUCCESS; }
API CUresult cuCtxPushCurrent(handle context) { stack[depth++] = current; current = context; return SUCCESS; }
V2(cuCtxPushCurrent)
API CUresult cuCtxPopCurrent(handle *context) {
  if (!depth) return INVALID_CONTEXT;
  if (context) *context = current;
  current = stack[--depth];
  return SUCCESS;
}
V2(cuCtxPopCurrent)

API CUresult cuMemGetInfo(size_t *available, size_t *total) {
  NEED_CONTEXT; *available = (size_t)limit_mib << 19; *total = (size_t)limit_mib << 20; return SUCCESS;
}
V2(cuMemGetInfo)
API CUresult cuMemAlloc(address *memory, size_t size) {
  NEED_CONTEXT;
  if (captured >= 0) { invalidated = 1; return CAPTURE_UNSUPPORTED; }
  if (size > (size_t)limit_mib << 20) return OUT_OF_MEMORY;
  *memory = (address)(uintptr_t)aligned_alloc(512, (size + 511) / 512 * 512);
  live_memory++;
  return SUCCESS;
}
V2(cuMemAlloc)
API CUresult cuMemFree(address memory) { NEED_CONTEXT; free((void *)(uintptr_t)memory); live_memory--; return SUCCESS; }
V2(cuMemFree)
API CUresult cuMemHostRegister(void *memory, size_t size, unsigned flags) {
  NEED_CONTEXT;
  for (int i = 0; i < 16; i++)
    if (!pinned[i][0]) { pinned[i][0] = (uintptr_t)memory; pinned[i][1] = size; live_pins++; return SUCCESS; }
  return INVALID_VALUE;
}
V2(cuMemHostRegister)
API CUresult cuMemHostUnregister(void *memory) {
  NEED_CONTEXT;
  for (int i = 0; i < 16; i++)
    if (pinned[i][0] == (uintptr_t)memory) { pinned[i][0] = 0; live_pins--; return SUCCESS; }
  return 713; /* CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED */
}

static int is_pinned(const void *memory, size_t size) {
  uintptr_t at = (uintptr_t)memory;
  for (int i = 0; i < 16; i++)
    if (pinned[i][0] && at >= pinned[i][0] && at + size <= pinned[i][0] + pinned[i][1]) return 1;
  return 0;
}
static CUresult copy(void *to, const void *from, size_t size, const void *host, handle stream) {
  NEED_CONTEXT;
  struct stream *on = stream;
  if (captured < 0 || !on || !on->in_capture) { memcpy(to, from, size); return SUCCESS; }
  if (!is_pinned(host, size)) return CAPTURE_UNSUPPORTED;
  on->joined = 0;
  nodes[captured++] = (struct node){to, from, size};
  return SUCCESS;
}
API CUresult cuMemcpyHtoDAsync(address to, const void *from, size_t size, handle stream) {
  return copy((void *)(uintptr_t)to, from, size, from, stream);
}
V2(cuMemcpyHtoDAsync)
API CUresult cuMemcpyDtoHAsync(void *to, address from, size_t size, handle stream) {
  return copy(to, (void *)(uintptr_t)from, size, to, stream);
}
V2(cuMemcpyDtoHAsync)

API CUresult cuStreamCreate(handle *stream, unsigned flags) { NEED_CONTEXT; *stream = calloc(1, sizeof(struct stream)); live_streams++; return SUCCESS; }
API CUresult cuStreamDestroy(handle stream) { NEED_CONTEXT; free(stream); live_streams--; return SUCCESS; }
V2(cuStreamDestroy)
/* A hanging one waits for another thread to call fake_hang(0), five seconds at most. */
API CUresult cuStreamSynchronize(handle stream) {
  NEED_CONTEXT;
  for (int i = 0; hangs && i < 500; i++) usleep(10000);
  return hangs ? LAUNCH_TIMEOUT : captured >= 0 ? CAPTURE_UNSUPPORTED : SUCCESS;
}
API CUresult cuStreamBeginCapture(handle stream, int mode) {
  if (!stream) return CAPTURE_UNSUPPORTED;
  captured = invalidated = taken_count = 0;
  origin = stream;
  origin->in_capture = 1;
  return mode == 1 ? SUCCESS : INVALID_VALUE;
}
V2(cuStreamBeginCapture)
API CUresult cuStreamEndCapture(handle stream, handle *graph) {
  if (captured < 0) return CAPTURE_INVALIDATED;
  if (stream != origin) return INVALID_VALUE;
  int unjoined = 0;
  origin->in_capture = 0;
  for (int i = 0; i < taken_count; i++) { unjoined |= !taken[i]->joined; taken[i]->in_capture = 0; }
  if (unjoined) { captured = -1; *graph = NULL; return CAPTURE_UNJOINED; }
  if (invalidated) { captured = -1; *graph = NULL; return CAPTURE_INVALIDATED; } /* it keeps no graph */
  struct graph *made = malloc(sizeof *made);
  made->count = captured;
  memcpy(made->nodes, nodes, sizeof nodes);
  captured = -1;
  live_graphs++;
  *graph = made;
  return SUCCESS;
}
API CUresult cuGraphInstantiateWithFlags(handle *executable, handle graph, unsigned long long flags) {
  *executable = malloc(sizeof(struct graph));
  memcpy(*executable, graph, sizeof(struct graph));
  live_graphs++;
  return SUCCESS;
}
API CUresult cuGraphInstantiate(handle *executable, handle graph, unsigned long long flags) {
  return cuGraphInstantiateWithFlags(executable, graph, flags);
}
API CUresult cuGraphLaunch(handle executable, handle stream) {
  NEED_CONTEXT;
  struct graph *graph = executable;
  for (int i = 0; i < graph->count; i++) memcpy(graph->nodes[i].to, graph->nodes[i].from, graph->nodes[i].size);
  return SUCCESS;
}
API CUresult cuGraphExecDestroy(handle graph) { free(graph); live_graphs--; return SUCCESS; }
API CUresult cuGraphDestroy(handle graph) { free(graph); live_graphs--; return SUCCESS; }

API CUresult cuEventCreate(handle *event, unsigned flags) { NEED_CONTEXT; *event = calloc(1, sizeof(struct event)); live_events++; return SUCCESS; }
API CUresult cuEventRecord(handle event, handle stream) {
  NEED_CONTEXT;
  *(struct event *)event = (struct event){((struct stream *)stream)->in_capture, stream};
  return SUCCESS;
}
API CUresult cuStreamWaitEvent(handle stream, handle event, unsigned flags) {
  NEED_CONTEXT;
  struct stream *waits = stream;
  struct event *seen = event;
  if (flags) return INVALID_VALUE;
  if (!seen->in_capture) return waits->in_capture ? CAPTURE_UNSUPPORTED : SUCCESS;
  if (!waits->in_capture) { waits->in_capture = 1; taken[taken_count++] = waits; }
  waits->joined = 0;
  seen->of->joined = 1;
  return SUCCESS;
}
API CUresult cuEventSynchronize(handle event) { return SUCCESS; }
API CUresult cuEventElapsedTime(float *milliseconds, handle start, handle end) { *milliseconds = 1.5f; return SUCCESS; }
V2(cuEventElapsedTime)
API CUresult cuEventDestroy(handle event) { free(event); live_events--; return SUCCESS; }
V2(cuEventDestroy)

static const char *words(CUresult status, int name) {
  switch (status) {
    case OUT_OF_MEMORY: return name ? "CUDA_ERROR_OUT_OF_MEMORY" : "out of memory";
    case INVALID_CONTEXT: return name ? "CUDA_ERROR_INVALID_CONTEXT" : "invalid device context";
    case CAPTURE_UNSUPPORTED:
      return name ? "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" : "operation not permitted when stream is capturing";
    case CAPTURE_UNJOINED: return name ? "CUDA_ERROR_STREAM_CAPTURE_UNJOINED" : "capturing stream has unjoined work";
    case CAPTURE_INVALIDATED: return name ? "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" : "operation failed due to a previous error during capture";
    default: return name ? "CUDA_ERROR_INVALID_VALUE" : "invalid argument";
  }
}
API CUresult cuGetErrorName(CUresult status, const char **text) { *text = words(status, 1); return SUCCESS; }
API CUresult cuGetErrorString(CUresult status, const char **text) { *text = words(status, 0); return SUCCESS; }

API CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version, unsigned long long flags, int *found) {
  *function = dlsym(RTLD_DEFAULT, symbol);
  if (!*function) {
    Dl_info self;
    dladdr((void *)cuInit, &self);
    *function = dlsym(dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD), symbol);
  }
  if (found) *found = *function ? 0 : 1;
  return *function ? SUCCESS : NOT_FOUND;
}
API CUresult cuGetProcAddress(const char *symbol, void **function, int version, unsigned long long flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}
