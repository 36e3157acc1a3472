// The classes of TensorRT that a C++ host uses, in host memory. A plan is text, "in|out NAME DTYPE COUNT" a line, and
// every number of its outputs is the sum of all numbers of its inputs, as tests/support/fake_tensorrt.py has it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "cuda_runtime_api.h"

namespace nvinfer1 {

enum class DataType : int32_t { kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3, kUINT8 = 5 };

struct Dims {
    int32_t nbDims = 1;
    int64_t d[8] = {};
};

class ILogger {
  public:
    enum class Severity : int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
    virtual void log(Severity severity, const char* text) noexcept = 0;
    virtual ~ILogger() = default;
};

struct FakeTensor {
    std::string name;
    bool input;
    DataType dtype;
    int64_t count;

    double sum(const void* at) const {
        double total = 0;
        for (int64_t k = 0; k < count; ++k) {
            if (dtype == DataType::kFLOAT) total += static_cast<const float*>(at)[k];
            if (dtype == DataType::kINT32) total += static_cast<const int32_t*>(at)[k];
            if (dtype == DataType::kUINT8) total += static_cast<const uint8_t*>(at)[k];
        }
        return total;
    }
};

class IExecutionContext {
  public:
    explicit IExecutionContext(const std::vector<FakeTensor>& tensors) : tensors_(tensors) {}
    bool setTensorAddress(const char* name, void* address) {
        addresses_[name] = address;
        return true;
    }
    bool enqueueV3(cudaStream_t stream) {
        if (addresses_.size() != tensors_.size()) return false;
        fake::queue(stream, [this] { compute(); });
        return true;
    }

  private:
    void compute() {
        double total = fake::is_now("FAKE_NAN_AT") ? std::numeric_limits<double>::quiet_NaN() : 0;
        for (const FakeTensor& tensor : tensors_)
            if (tensor.input) total += tensor.sum(addresses_.at(tensor.name));
        for (const FakeTensor& tensor : tensors_)
            for (int64_t k = 0; !tensor.input && k < tensor.count; ++k)
                static_cast<float*>(addresses_.at(tensor.name))[k] = static_cast<float>(total);
    }
    std::vector<FakeTensor> tensors_;
    std::map<std::string, void*> addresses_;
};

class ICudaEngine {
  public:
    std::vector<FakeTensor> tensors;
    int32_t getNbIOTensors() const { return static_cast<int32_t>(tensors.size()); }
    const char* getIOTensorName(int32_t at) const { return tensors[static_cast<size_t>(at)].name.c_str(); }
    DataType getTensorDataType(const char* name) const { return find(name).dtype; }
    Dims getTensorShape(const char* name) const {
        Dims dims;
        dims.d[0] = find(name).count;
        return dims;
    }
    IExecutionContext* createExecutionContext() { return new IExecutionContext(tensors); }

  private:
    const FakeTensor& find(const std::string& name) const {
        for (const FakeTensor& tensor : tensors)
            if (tensor.name == name) return tensor;
        return tensors.front();
    }
};

class IRuntime {
  public:
    ICudaEngine* deserializeCudaEngine(const void* data, size_t size) {
        std::istringstream text(std::string(static_cast<const char*>(data), size));
        auto* engine = new ICudaEngine;
        std::string way, name, dtype;
        int64_t count = 0;
        while (text >> way >> name >> dtype >> count) {
            bool single = dtype == "float32";
            DataType kind = single ? DataType::kFLOAT : dtype == "int32" ? DataType::kINT32 : DataType::kUINT8;
            engine->tensors.push_back({name, way == "in", kind, count});
        }
        if (!engine->tensors.empty()) return engine;
        delete engine;
        return nullptr;
    }
};

inline IRuntime* createInferRuntime(ILogger&) { return new IRuntime; }

}  // namespace nvinfer1
