// What gsplat's host code asks of the CUDA runtime, of CUB and of PyTorch's CUDA library, for tensors on the CPU.
#pragma once

#include <torch/extension.h>

#include <numeric>

#include "cuda_on_cpu.h"

enum cudaError_t { cudaSuccess };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
template <class Kernel> cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int) { return cudaSuccess; }

namespace c10::cuda {

struct Memory {
    std::vector<char> bytes;
    void *get() { return bytes.data(); }
};
struct CUDACachingAllocator {
    static CUDACachingAllocator *get() {
        static CUDACachingAllocator allocator;
        return &allocator;
    }
    Memory allocate(size_t bytes) { return {std::vector<char>(bytes)}; }
};

}  // namespace c10::cuda

namespace at::cuda {

struct OptionalCUDAGuard {
    explicit OptionalCUDAGuard(std::optional<at::Device>) {}
};
using CUDAStream = int;
inline CUDAStream getCurrentCUDAStream() { return 0; }

}  // namespace at::cuda

namespace cub {

template <class T> struct DoubleBuffer {
    T *buffers[2];
    int selector = 0;
    DoubleBuffer(T *current, T *alternate) : buffers{current, alternate} {}
};

struct DeviceRadixSort {
    // Stable, by the bits from `begin` to `end` of the keys, as unsigned numbers.
    template <class Key, class Value>
    static void SortPairs(
        void *storage, size_t &bytes, const Key *keys, Key *sorted_keys, const Value *values, Value *sorted_values,
        int64_t count, int begin, int end, int
    ) {
        bytes = 1;
        if (storage == nullptr) return;
        const uint64_t mask = (end - begin >= 64 ? ~0ull : (1ull << (end - begin)) - 1) << begin;
        std::vector<int64_t> order(count);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
            return (uint64_t(keys[a]) & mask) < (uint64_t(keys[b]) & mask);
        });
        for (int64_t i = 0; i < count; ++i) {
            sorted_keys[i] = keys[order[i]];
            sorted_values[i] = values[order[i]];
        }
    }

    template <class Key, class Value>
    static void SortPairs(
        void *storage, size_t &bytes, DoubleBuffer<Key> &keys, DoubleBuffer<Value> &values, int64_t count, int begin,
        int end, int stream
    ) {
        SortPairs(
            storage, bytes, keys.buffers[0], keys.buffers[1], values.buffers[0], values.buffers[1], count, begin, end,
            stream
        );
        if (storage != nullptr) keys.selector = values.selector = 1;
    }
};

}  // namespace cub
