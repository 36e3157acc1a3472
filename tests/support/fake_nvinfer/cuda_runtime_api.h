// The calls of CUDA that a C++ host makes, in host memory: a stream is what was queued, a graph what was recorded.
// FAKE_HANG_AT=n: the n-th launch of a graph never ends. FAKE_NAN_AT=n: its outputs are no numbers.

#pragma once

#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

enum cudaError_t { cudaSuccess = 0, cudaErrorNotReady = 600 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
constexpr unsigned cudaStreamNonBlocking = 1;

struct FakeStream {
    std::vector<std::function<void()>>* recorded = nullptr;
    bool hangs = false;
};
using FakeGraph = std::vector<std::function<void()>>;
using cudaStream_t = FakeStream*;
using cudaGraph_t = FakeGraph*;
using cudaGraphExec_t = FakeGraph*;

namespace fake {
inline int launches = 0;
inline bool is_now(const char* variable) {
    const char* at = std::getenv(variable);
    return at != nullptr && launches == std::atoi(at);
}
inline void queue(cudaStream_t stream, std::function<void()> work) {
    if (stream->recorded != nullptr)
        stream->recorded->push_back(work);
    else
        work();
}
}  // namespace fake

inline const char* cudaGetErrorString(cudaError_t) { return "a fake error"; }
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    *stream = new FakeStream;
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamQuery(cudaStream_t stream) { return stream->hangs ? cudaErrorNotReady : cudaSuccess; }
inline cudaError_t cudaMalloc(void** address, size_t size) {
    *address = std::malloc(size);
    return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** address, size_t size) { return cudaMalloc(address, size); }
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t stream) {
    fake::queue(stream, [=] { std::memcpy(to, from, size); });
    return cudaSuccess;
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    stream->recorded = new FakeGraph;
    return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    *graph = stream->recorded;
    stream->recorded = nullptr;
    return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
    *made = graph;
    return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    ++fake::launches;
    stream->hangs = fake::is_now("FAKE_HANG_AT");
    if (!stream->hangs)
        for (auto& work : *graph) work();
    return cudaSuccess;
}
