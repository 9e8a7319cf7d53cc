// Copyright 2026 the tracker_ros authors
// SPDX-License-Identifier: Apache-2.0
//
// A CUDA runtime without a GPU, as strict as the real one. "Device" memory is host memory.
//
// Work that is queued on a stream is done no sooner than somebody waits for the stream, so that a
// wait that is missing, or memory that is written too soon, shows in the results. Every address is
// checked against what was allocated, when work is queued and again when it is done.
//
// cc -fsyntax-only -DREAL_HEADER -I /usr/local/cuda/include fake_cudart.c
// checks the signatures against NVIDIA's header.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef REAL_HEADER
#include <cuda_runtime_api.h>
#else
typedef int cudaError_t;
typedef struct CUstream_st *cudaStream_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;
typedef void (*cudaHostFn_t)(void *);
enum cudaMemcpyKind { cudaMemcpyDefault = 4 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76
};
struct cudaDeviceProp {
  char name[256];
  char others[776];
};
enum {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorIllegalAddress = 700,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901
};
#endif

struct work {
  cudaHostFn_t function; // or, where it is null, a copy
  void *data;
  void *target;
  const void *source;
  size_t size;
};
struct queue {
  struct work *work;
  size_t count;
};
struct CUstream_st {
  struct queue pending, captured;
  int capturing, is_invalid;
};
struct CUgraph_st {
  struct queue queue;
};
struct CUgraphExec_st {
  struct queue queue;
};
struct block {
  char *first;
  size_t size;
  int is_host;
  struct block *next;
};

static struct block *blocks;
static cudaStream_t capturing; // the stream being captured: of one thread, for the tests
static int live_streams, live_graphs, launches, copies, last_error;
static char failing[64];
static int failing_code, failing_after;

// -- for the tests -------------------------------------------------------------------------------

// Make the call of `function` after `after` more of them return `code`.
void fake_fail(const char *function, int code, int after) {
  snprintf(failing, sizeof failing, "%s", function);
  failing_code = code;
  failing_after = after;
}

int fake_live(const char *what) {
  int count = 0;
  if (!strcmp(what, "streams")) return live_streams;
  if (!strcmp(what, "graphs")) return live_graphs;
  if (!strcmp(what, "launches")) return launches;
  if (!strcmp(what, "copies")) return copies;
  for (struct block *block = blocks; block; block = block->next)
    count += block->is_host == !strcmp(what, "pinned");
  return count;
}

// What stands for a kernel: `function` is called when the stream comes to it.
int fake_enqueue(cudaStream_t stream, cudaHostFn_t function, void *data);

// -- helpers -------------------------------------------------------------------------------------

static int failed(const char *function, int code) {
  if (!code && failing[0] && !strcmp(function, failing) && failing_after-- == 0) {
    failing[0] = 0;
    code = failing_code;
  }
  if (code) last_error = code;
  return code;
}

static int is_allocated(const void *address, size_t size) {
  for (struct block *block = blocks; block; block = block->next)
    if ((const char *)address >= block->first &&
        (const char *)address + size <= block->first + block->size)
      return 1;
  return 0;
}

static void append(struct queue *queue, struct work work) {
  queue->work = realloc(queue->work, (queue->count + 1) * sizeof work);
  queue->work[queue->count++] = work;
}

static void append_all(struct queue *queue, const struct queue *others) {
  for (size_t i = 0; i < others->count; i++) append(queue, others->work[i]);
}

static void clear(struct queue *queue) {
  free(queue->work);
  memset(queue, 0, sizeof *queue);
}

// A call that a stream in capture mode does not survive.
static int spoils_capture(void) {
  if (!capturing) return 0;
  capturing->is_invalid = 1;
  return cudaErrorStreamCaptureUnsupported;
}

static cudaError_t allocate(const char *function, void **address, size_t size, int is_host) {
  int code = spoils_capture();
  if (!code && !size) code = cudaErrorInvalidValue;
  if ((code = failed(function, code))) return code;
  struct block *block = malloc(sizeof *block);
  *block = (struct block){aligned_alloc(256, (size + 255) / 256 * 256), size, is_host, blocks};
  memset(block->first, 0xCD, size); // as arbitrary as real memory
  blocks = block;
  *address = block->first;
  return cudaSuccess;
}

static cudaError_t release(void *address, int is_host) {
  int code = spoils_capture();
  if (code) return failed("", code);
  for (struct block **place = &blocks; *place; place = &(*place)->next) {
    struct block *block = *place;
    if (block->first != (char *)address || block->is_host != is_host) continue;
    *place = block->next;
    memset(block->first, 0xDD, block->size);
    free(block->first);
    free(block);
    return cudaSuccess;
  }
  return failed("", cudaErrorInvalidValue);
}

static cudaError_t put(cudaStream_t stream, struct work work) {
  if (!stream) return failed("", cudaErrorInvalidResourceHandle);
  append(stream->capturing ? &stream->captured : &stream->pending, work);
  return cudaSuccess;
}

// -- the CUDA runtime ----------------------------------------------------------------------------

const char *cudaGetErrorString(cudaError_t code) {
  switch ((int)code) {
  case cudaErrorInvalidValue: return "invalid argument";
  case cudaErrorMemoryAllocation: return "out of memory";
  case cudaErrorNoDevice: return "no CUDA-capable device is detected";
  case cudaErrorInvalidResourceHandle: return "invalid resource handle";
  case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
  case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
  case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
  }
  return "unrecognized error code";
}

cudaError_t cudaGetLastError(void) {
  int code = last_error;
  last_error = 0;
  return code;
}

cudaError_t cudaGetDeviceCount(int *count) {
  *count = 1;
  return failed("cudaGetDeviceCount", 0);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
  if (device) return failed("", cudaErrorInvalidValue);
  memset(properties, 0, sizeof *properties);
  strcpy(properties->name, "Fake GPU");
  return failed("cudaGetDeviceProperties", 0);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
  if (device) return failed("", cudaErrorInvalidValue);
  *value = attribute == cudaDevAttrComputeCapabilityMajor   ? 8
           : attribute == cudaDevAttrComputeCapabilityMinor ? 9
                                                            : -1;
  return failed("cudaDeviceGetAttribute", 0);
}

cudaError_t cudaMalloc(void **address, size_t size) {
  return allocate("cudaMalloc", address, size, 0);
}

cudaError_t cudaFree(void *address) { return release(address, 0); }

cudaError_t cudaMallocHost(void **address, size_t size) {
  return allocate("cudaMallocHost", address, size, 1);
}

cudaError_t cudaFreeHost(void *address) { return release(address, 1); }

cudaError_t cudaMemcpyAsync(
    void *target, const void *source, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream) {
  int code = 0;
  // Memory that is not pinned would be taken too, but slowly, and a capture would fail.
  if (kind != cudaMemcpyDefault || !is_allocated(target, size) || !is_allocated(source, size))
    code = cudaErrorInvalidValue;
  if ((code = failed("cudaMemcpyAsync", code))) return code;
  copies++;
  return put(stream, (struct work){0, 0, target, source, size});
}

int fake_enqueue(cudaStream_t stream, cudaHostFn_t function, void *data) {
  return put(stream, (struct work){function, data, 0, 0, 0});
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
  int code = failed("cudaStreamCreateWithFlags", flags == 1 ? 0 : cudaErrorInvalidValue);
  if (code) return code;
  *stream = calloc(1, sizeof **stream);
  live_streams++;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  clear(&stream->pending);
  clear(&stream->captured);
  free(stream);
  live_streams--;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->capturing) return failed("", spoils_capture());
  struct queue queue = stream->pending;
  int code = 0;
  memset(&stream->pending, 0, sizeof stream->pending);
  for (size_t i = 0; i < queue.count && !code; i++) {
    struct work *work = &queue.work[i];
    if (work->function)
      work->function(work->data);
    else if (is_allocated(work->target, work->size) && is_allocated(work->source, work->size))
      memmove(work->target, work->source, work->size);
    else
      code = cudaErrorIllegalAddress;
  }
  clear(&queue);
  return failed("cudaStreamSynchronize", code);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
  int code = capturing || mode != cudaStreamCaptureModeThreadLocal ? cudaErrorInvalidValue : 0;
  if ((code = failed("cudaStreamBeginCapture", code))) return code;
  stream->capturing = 1;
  stream->is_invalid = 0;
  capturing = stream;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  *graph = 0;
  if (!stream->capturing) return failed("", cudaErrorInvalidValue);
  stream->capturing = 0;
  capturing = 0;
  int code = failed(
      "cudaStreamEndCapture", stream->is_invalid ? cudaErrorStreamCaptureInvalidated : 0);
  if (!code) {
    *graph = calloc(1, sizeof **graph);
    (*graph)->queue = stream->captured;
    live_graphs++;
  } else {
    free(stream->captured.work);
  }
  memset(&stream->captured, 0, sizeof stream->captured);
  return code;
}

cudaError_t cudaGraphInstantiateWithFlags(
    cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags) {
  int code = failed("cudaGraphInstantiateWithFlags", flags ? cudaErrorInvalidValue : 0);
  if (code) return code;
  *executable = calloc(1, sizeof **executable);
  append_all(&(*executable)->queue, &graph->queue);
  live_graphs++;
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  int code = failed("cudaGraphLaunch", 0);
  if (code) return code;
  launches++;
  append_all(&stream->pending, &executable->queue);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  clear(&graph->queue);
  free(graph);
  live_graphs--;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  clear(&executable->queue);
  free(executable);
  live_graphs--;
  return cudaSuccess;
}
