// A bundle's plan, as describe.py has written it down, from a frame in the engine's own memory to an action.

#pragma once

#include <NvInfer.h>
#include <cuda_runtime_api.h>
#include <openssl/evp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using Clock = std::chrono::steady_clock;

struct Tensor {
    std::string name, role, dtype;
    size_t bytes = 0;
    char* host = nullptr;  // page-locked; none of what parts hand to each other
    void* device = nullptr;
    bool used = false;  // by a part
};
struct Part {
    std::string file, sha256;
    size_t bytes = 0;
};
struct Component {
    std::string name, unit;
    double scale = 1, offset = 0, limit = 0;
};
struct Description {
    std::vector<Tensor> inputs, outputs, between;
    std::vector<Part> parts;  // in the order in which they run
    std::vector<Component> components;
    std::vector<std::pair<std::string, std::string>> state;  // an output, and the input that it becomes
    std::vector<int32_t> ids;  // of the instruction
    int32_t index = 0, pad = 0;
    bool holds_first = false;
    std::string check_frame;
    std::vector<double> check_action;
};

inline void require(bool good, const std::string& why) {
    if (!good) throw std::runtime_error(why);
}

inline void cuda(cudaError_t error, const std::string& what) {
    require(error == cudaSuccess, what + ": " + cudaGetErrorString(error));
}

inline Tensor& one_of(std::vector<Tensor>& tensors, const std::string Tensor::*field, const std::string& wanted) {
    for (Tensor& tensor : tensors)
        if (tensor.*field == wanted) return tensor;
    throw std::runtime_error("the policy has no tensor for its " + wanted);
}

// What the rest relies on where it reads and writes memory.
inline void require_consistent(Description& said) {
    for (auto* tensors : {&said.inputs, &said.outputs, &said.between})
        for (Tensor& tensor : *tensors)
            require(tensor.bytes > 0 && tensor.bytes < size_t{1} << 31, tensor.name + " has no size");
    for (Tensor& tensor : said.inputs)
        require(tensor.role == "frame" || tensor.bytes % 4 == 0, tensor.name + " holds no numbers of four bytes");
    for (auto& carried : said.state) {
        const Tensor& from = one_of(said.outputs, &Tensor::name, carried.first);
        const Tensor& to = one_of(said.inputs, &Tensor::name, carried.second);
        require(from.dtype == "float32" && from.dtype == to.dtype && from.bytes == to.bytes && to.role == "state",
                from.name + " does not become " + to.name);
    }
    const Tensor& actions = one_of(said.outputs, &Tensor::role, "actions");
    bool enough = actions.bytes / sizeof(float) >= said.components.size();
    require(enough && actions.dtype == "float32", "the policy has no action for each component");
    require(said.check_action.size() == said.components.size(), "the check is not of this action");
    for (const Component& one : said.components) require(one.limit > 0, one.name + " has no limit");
}

inline Description read_description(const std::string& path) {
    std::ifstream file(path);
    Description said;
    std::string word, version;
    file >> word >> version;
    require(word == "vla-host" && version == "1", path + " is not from describe.py");
    while (file >> word && word != "end") {
        if (word == "input" || word == "output" || word == "between") {
            Tensor tensor;
            file >> tensor.name >> tensor.role >> tensor.dtype >> tensor.bytes;
            (word == "input" ? said.inputs : word == "output" ? said.outputs : said.between).push_back(tensor);
        } else if (word == "part") {
            Part part;
            file >> part.bytes >> part.sha256 >> std::ws;
            std::getline(file, part.file);
            said.parts.push_back(part);
        } else if (word == "component") {
            Component one;
            file >> one.name >> one.unit >> one.scale >> one.offset >> one.limit;
            said.components.push_back(one);
        } else if (word == "state") {
            std::pair<std::string, std::string> carried;
            file >> carried.first >> carried.second;
            said.state.push_back(carried);
        } else if (word == "instruction") {
            size_t count = 0;
            file >> said.index >> said.pad >> count;
            require(count <= 65536, path + " is damaged");
            said.ids.resize(count);
            for (int32_t& id : said.ids) file >> id;
        } else if (word == "holds_first") {
            file >> said.holds_first;
        } else if (word == "check") {
            said.check_action.resize(said.components.size());
            for (double& value : said.check_action) file >> value;
            file >> std::ws;
            std::getline(file, said.check_frame);
        } else {
            require(false, path + " has an unknown line " + word);
        }
        require(bool(file), path + " is damaged at " + word);
    }
    require(word == "end" && !said.parts.empty() && !said.components.empty(), path + " is cut short");
    require_consistent(said);
    return said;
}

inline std::string read_checked(const Part& part) {
    std::ifstream file(part.file, std::ios::binary | std::ios::ate);  // at its end, whose place is its size
    bool whole = file && static_cast<uint64_t>(file.tellg()) == part.bytes && file.seekg(0);
    std::string data(whole ? part.bytes : 0, '\0');
    file.read(data.data(), static_cast<std::streamsize>(data.size()));
    require(whole && file, part.file + " is missing or of another size");
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    require(EVP_Digest(data.data(), data.size(), digest, &size, EVP_sha256(), nullptr) == 1, "no SHA-256");
    std::string hex;
    for (unsigned at = 0; at < size; ++at) {
        char two[3];
        std::snprintf(two, sizeof two, "%02x", digest[at]);
        hex += two;
    }
    require(hex == part.sha256, part.file + " was changed: run describe.py again");
    return data;
}

struct Log : nvinfer1::ILogger {
    void log(Severity severity, const char* text) noexcept override {
        if (severity <= Severity::kWARNING) std::fprintf(stderr, "%s\n", text);
    }
};

class Policy {
  public:
    explicit Policy(Description said) : said_(std::move(said)) {
        cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
        runtime_.reset(nvinfer1::createInferRuntime(log_));
        require(bool(runtime_), "TensorRT does not start");
        for (auto* tensors : {&said_.inputs, &said_.outputs, &said_.between}) {
            for (Tensor& tensor : *tensors) {
                cuda(cudaMalloc(&tensor.device, tensor.bytes), "device memory");
                if (tensors != &said_.between) {
                    cuda(cudaMallocHost(reinterpret_cast<void**>(&tensor.host), tensor.bytes), "pinned memory");
                    std::memset(tensor.host, 0, tensor.bytes);
                }
                require(by_name_.emplace(tensor.name, &tensor).second, tensor.name + " is there twice");
            }
        }
        for (const Part& part : said_.parts) load(part);  // nothing is deserialised before its hash was right
        for (auto& named : by_name_) require(named.second->used, named.first + " is in no part");
        feed();
        queue();  // the first run loads kernels, which a capture must not meet
        cuda(cudaStreamSynchronize(stream_), "the first run");
        cudaGraph_t graph = nullptr;
        cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "a capture");
        queue();
        cuda(cudaStreamEndCapture(stream_, &graph), "a capture");
        cuda(cudaGraphInstantiate(&graph_, graph, 0), "a graph");
        cuda(cudaGraphLaunch(graph_, stream_), "the first launch");  // uploads it
        cuda(cudaStreamSynchronize(stream_), "the first launch");
        reset();
    }

    Tensor& frame() { return one_of(said_.inputs, &Tensor::role, "frame"); }

    void reset() {  // an episode begins
        for (const auto& carried : said_.state) {
            Tensor& input = *by_name_.at(carried.second);
            std::memset(input.host, 0, input.bytes);
        }
        held_.clear();
    }

    // What the frame's memory holds, to the action: m/s, or each component's unit. Throws on any fault.
    std::vector<double> act(Clock::time_point deadline) {
        if (!held_.empty()) return held_;
        cuda(cudaGraphLaunch(graph_, stream_), "a launch");
        while (true) {
            cudaError_t now = cudaStreamQuery(stream_);
            if (now == cudaSuccess) break;
            require(now == cudaErrorNotReady, std::string("the engine failed: ") + cudaGetErrorString(now));
            require(Clock::now() < deadline, "the engine has not answered in time");
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
        const Tensor& actions = one_of(said_.outputs, &Tensor::role, "actions");
        const auto* raw = reinterpret_cast<const float*>(actions.host);  // [steps][components]
        std::vector<double> action;
        for (size_t at = 0; at < said_.components.size(); ++at) {
            const Component& one = said_.components[at];
            double value = raw[at] * one.scale + one.offset;
            require(std::isfinite(value), one.name + " is not finite");
            action.push_back(std::clamp(value, -one.limit, one.limit));
        }
        for (auto& carried : said_.state) {
            const Tensor &from = *by_name_.at(carried.first), &to = *by_name_.at(carried.second);
            const auto* values = reinterpret_cast<const float*>(from.host);
            const auto* end = values + from.bytes / sizeof(float);
            require(std::all_of(values, end, [](float x) { return std::isfinite(x); }), from.name + " is not finite");
            std::memcpy(to.host, from.host, to.bytes);
        }
        if (said_.holds_first) held_ = action;
        require(Clock::now() < deadline, "the action came too late");
        return action;
    }

    // The answer that Python gave to a frame on this machine, before anything moves.
    void check() {
        std::ifstream file(said_.check_frame, std::ios::binary);
        file.read(frame().host, static_cast<std::streamsize>(frame().bytes));
        require(file.gcount() == static_cast<std::streamsize>(frame().bytes), said_.check_frame + " is not there");
        std::vector<double> action = act(Clock::now() + std::chrono::seconds(5));
        for (size_t at = 0; at < action.size(); ++at)
            require(std::abs(action[at] - said_.check_action[at]) < 1e-3, "the action is not the one of describe.py");
        reset();
    }

  private:
    static std::pair<std::string, size_t> known(nvinfer1::DataType dtype) {  // its name, and bytes of one
        switch (dtype) {
            case nvinfer1::DataType::kFLOAT: return {"float32", 4};
            case nvinfer1::DataType::kHALF: return {"float16", 2};
            case nvinfer1::DataType::kINT32: return {"int32", 4};
            case nvinfer1::DataType::kUINT8: return {"uint8", 1};
            default: return {"unknown", 0};
        }
    }

    void load(const Part& part) {
        std::string data = read_checked(part);
        engines_.emplace_back(runtime_->deserializeCudaEngine(data.data(), data.size()));
        require(bool(engines_.back()), part.file + " is of another TensorRT or GPU: vla-build, then describe.py");
        nvinfer1::ICudaEngine& engine = *engines_.back();
        contexts_.emplace_back(engine.createExecutionContext());
        require(bool(contexts_.back()), "no memory for " + part.file);
        for (int at = 0; at < engine.getNbIOTensors(); ++at) {
            const char* name = engine.getIOTensorName(at);
            auto named = by_name_.find(name);
            require(named != by_name_.end(), part.file + " has an unknown tensor " + name);
            Tensor& tensor = *named->second;
            nvinfer1::Dims shape = engine.getTensorShape(name);
            nvinfer1::DataType dtype = engine.getTensorDataType(name);
            auto [dtype_name, bytes] = known(dtype);
            for (int axis = 0; axis < shape.nbDims; ++axis) bytes *= static_cast<size_t>(shape.d[axis]);
            require(dtype_name == tensor.dtype && bytes == tensor.bytes,
                    part.file + " has another dtype or size of " + name);
            require(contexts_.back()->setTensorAddress(name, tensor.device), part.file + " refuses " + name);
            tensor.used = true;
        }
    }

    void feed() {  // the prompt: written once, it stays
        for (Tensor& tensor : said_.inputs) {
            auto* numbers = reinterpret_cast<int32_t*>(tensor.host);
            size_t length = tensor.bytes / sizeof(int32_t);
            if (tensor.role == "token_ids" || tensor.role == "attention_mask") {
                require(said_.ids.size() <= length, "the instruction is too long");
                bool mask = tensor.role == "attention_mask";
                for (size_t at = 0; at < length; ++at) {
                    bool inside = at < said_.ids.size();
                    numbers[at] = mask ? inside : inside ? said_.ids[at] : said_.pad;
                }
            } else if (tensor.role == "instruction_index") {
                numbers[0] = said_.index;
            } else {
                require(tensor.role == "frame" || tensor.role == "state", "nothing feeds the role " + tensor.role);
            }
        }
    }

    void queue() {
        for (Tensor& tensor : said_.inputs)
            cuda(cudaMemcpyAsync(tensor.device, tensor.host, tensor.bytes, cudaMemcpyHostToDevice, stream_), "a copy");
        for (auto& context : contexts_) require(context->enqueueV3(stream_), "TensorRT refuses to run");
        for (Tensor& tensor : said_.outputs)
            cuda(cudaMemcpyAsync(tensor.host, tensor.device, tensor.bytes, cudaMemcpyDeviceToHost, stream_), "a copy");
    }

    Log log_;
    Description said_;
    cudaStream_t stream_ = nullptr;
    cudaGraphExec_t graph_ = nullptr;
    std::map<std::string, Tensor*> by_name_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;  // freed after engines, these after contexts
    std::vector<std::unique_ptr<nvinfer1::ICudaEngine>> engines_;
    std::vector<std::unique_ptr<nvinfer1::IExecutionContext>> contexts_;
    std::vector<double> held_;
};
