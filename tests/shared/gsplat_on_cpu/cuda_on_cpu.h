// A thread model for CUDA kernels on a CPU: enough of CUDA's dialect to compile gsplat's kernels with a plain C++ compiler.
//
// A thread of a block is a fiber with its own stack. Fibers take turns on one core and change only where CUDA threads
// wait for each other: at a block's barrier and at a warp's exchange. So a kernel runs in an order that a GPU could
// have chosen, results repeat exactly, and atomics need no lock. Blocks run one after another. Nothing here is fast.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline

struct dim3 {
    uint32_t x, y, z;
    constexpr dim3(uint32_t x = 1, uint32_t y = 1, uint32_t z = 1) : x(x), y(y), z(z) {}
    uint32_t count() const { return x * y * z; }
};

struct uint2 {
    uint32_t x, y;
};

struct __half {};
struct __nv_bfloat16 {};

namespace cuda_on_cpu {

constexpr uint32_t warp_size = 32;
constexpr size_t stack_bytes = 256 * 1024;

// Threads wait here until all that are still alive have come; one that ends counts no longer.
struct Barrier {
    uint32_t alive = 0, waiting = 0;
    uint64_t generation = 0;

    void arrive() {
        if (++waiting == alive) release();
    }
    void leave() {
        if (--alive > 0 && waiting == alive) release();
    }
    void release() {
        waiting = 0;
        ++generation;
    }
};

// What the lanes of a warp show each other. Two boards in turn: a fast lane writes on the other one while a slow lane
// still reads.
struct Warp {
    Barrier barrier;
    uint64_t values[2][warp_size];
    uint32_t present[2] = {0, 0};
};

struct Thread {
    ucontext_t start;
    jmp_buf place;  // where it goes on; unlike a ucontext, left and entered without asking the kernel about signals
    std::unique_ptr<char[]> stack{new char[stack_bytes]};
    Barrier *barrier = nullptr;  // where it waits
    uint64_t generation = 0;     // and for the end of which round
    bool started = false, done = false;
};

struct Block {
    dim3 grid, shape, index;
    Barrier barrier;
    std::vector<Warp> warps;
    std::vector<uint64_t> counts;
    std::vector<char> shared;
    std::function<void()> kernel;
};

inline std::vector<Thread> threads;
inline Block block;
inline uint32_t current = 0;
inline jmp_buf scheduler;

// Go on with a thread until it waits or ends.
__attribute__((noinline)) inline void resume(Thread &thread) {
    if (_setjmp(scheduler) != 0) return;
    if (thread.started) _longjmp(thread.place, 1);
    thread.started = true;
    setcontext(&thread.start);
}

__attribute__((noinline)) inline void pause(Thread &thread) {
    if (_setjmp(thread.place) == 0) _longjmp(scheduler, 1);
}

inline void wait_at(Barrier &barrier) {
    Thread &thread = threads[current];
    thread.barrier = &barrier;
    thread.generation = barrier.generation;
    barrier.arrive();
    if (barrier.generation == thread.generation) pause(thread);
    thread.barrier = nullptr;
}

inline uint32_t lane() { return current % warp_size; }

struct Board {
    const uint64_t *values;
    uint32_t present;  // a bit for each lane that took part
};

// Show this lane's value to its warp and see those of all lanes that are alive.
inline Board exchange(uint64_t value) {
    Warp &warp = block.warps[current / warp_size];
    const uint32_t side = warp.barrier.generation & 1;
    if (warp.barrier.waiting == 0) warp.present[side] = 0;
    warp.values[side][lane()] = value;
    warp.present[side] |= 1u << lane();
    wait_at(warp.barrier);
    return {warp.values[side], warp.present[side]};
}

template <class T> uint64_t to_bits(T value) {
    static_assert(sizeof(T) <= sizeof(uint64_t));
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return bits;
}

template <class T> T from_bits(uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

inline int sync_threads_count(int predicate) {
    // Two counters in turn, for the same reason as a warp's two boards.
    uint64_t &count = block.counts[block.barrier.generation & 1];
    if (block.barrier.waiting == 0) count = 0;
    count += predicate != 0;
    wait_at(block.barrier);
    return static_cast<int>(count);
}

inline void run_thread() {
    block.kernel();
    threads[current].done = true;
    block.warps[current / warp_size].barrier.leave();
    block.barrier.leave();
    _longjmp(scheduler, 1);
}

inline void start_block() {
    const uint32_t count = block.shape.count();
    block.barrier = {count};
    block.counts.assign(2, 0);
    block.warps.assign((count + warp_size - 1) / warp_size, {});
    for (uint32_t t = 0; t < count; ++t) {
        ++block.warps[t / warp_size].barrier.alive;
        Thread &thread = threads[t];
        thread.started = thread.done = false;
        thread.barrier = nullptr;
        getcontext(&thread.start);
        thread.start.uc_stack.ss_sp = thread.stack.get();
        thread.start.uc_stack.ss_size = stack_bytes;
        thread.start.uc_link = nullptr;
        makecontext(&thread.start, run_thread, 0);
    }
}

inline void run_block() {
    start_block();
    uint32_t left = block.shape.count();
    while (left > 0) {
        bool moved = false;
        for (current = 0; current < block.shape.count(); ++current) {
            Thread &thread = threads[current];
            if (thread.done || (thread.barrier && thread.barrier->generation == thread.generation)) continue;
            resume(thread);
            left -= thread.done;
            moved = true;
        }
        // On a GPU this would hang, or worse.
        if (!moved) throw std::runtime_error("threads of a block wait for each other at different places");
    }
}

// What `kernel<<<grid, block, shared_bytes, stream>>>(arguments...)` becomes.
template <class Kernel> auto launch(Kernel kernel, dim3 grid, dim3 shape, size_t shared_bytes = 0, int = 0) {
    return [=](auto... arguments) {
        block.grid = grid;
        block.shape = shape;
        block.shared.resize(shared_bytes);
        block.kernel = [&] { kernel(arguments...); };
        if (threads.size() < shape.count()) threads.resize(shape.count());
        for (uint32_t z = 0; z < grid.z; ++z)
            for (uint32_t y = 0; y < grid.y; ++y)
                for (uint32_t x = 0; x < grid.x; ++x) {
                    block.index = {x, y, z};
                    // What an earlier block left in shared memory must not look like a value: all bits set is a NaN.
                    std::fill(block.shared.begin(), block.shared.end(), char(0xff));
                    run_block();
                }
    };
}

inline int *shared_memory() { return reinterpret_cast<int *>(block.shared.data()); }

}  // namespace cuda_on_cpu

inline int __syncthreads_count(int predicate) { return cuda_on_cpu::sync_threads_count(predicate); }
inline float __expf(float x) { return std::exp(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float rsqrt(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }

template <class T, class U> void gpuAtomicAdd(T *address, U value) { *address += value; }

namespace cooperative_groups {

struct grid_group {
    uint32_t thread_rank() const {
        const auto &b = cuda_on_cpu::block;
        const uint32_t rank = (b.index.z * b.grid.y + b.index.y) * b.grid.x + b.index.x;
        return rank * b.shape.count() + cuda_on_cpu::current;
    }
};

struct thread_block {
    dim3 group_index() const { return cuda_on_cpu::block.index; }
    dim3 thread_index() const {
        const dim3 shape = cuda_on_cpu::block.shape;
        const uint32_t rank = cuda_on_cpu::current;
        return {rank % shape.x, rank / shape.x % shape.y, rank / (shape.x * shape.y)};
    }
    uint32_t size() const { return cuda_on_cpu::block.shape.count(); }
    uint32_t thread_rank() const { return cuda_on_cpu::current; }
    void sync() const { cuda_on_cpu::wait_at(cuda_on_cpu::block.barrier); }
};

}  // namespace cooperative_groups

#define threadIdx (cooperative_groups::thread_block{}.thread_index())
#define blockIdx (cuda_on_cpu::block.index)
#define blockDim (cuda_on_cpu::block.shape)

namespace cooperative_groups {

// Some lanes of a warp. Every lane alive must come to each exchange, whichever group it belongs to.
struct lanes {
    uint32_t members;

    uint32_t thread_rank() const { return __builtin_popcount(members & ((1u << cuda_on_cpu::lane()) - 1)); }
    bool any(bool predicate) const {
        const auto board = cuda_on_cpu::exchange(predicate);
        bool found = false;
        for (uint32_t i = 0; i < cuda_on_cpu::warp_size; ++i)
            if (board.present & members & (1u << i)) found |= board.values[i] != 0;
        return found;
    }
};

template <uint32_t Size> struct thread_block_tile : lanes {
    static_assert(Size == cuda_on_cpu::warp_size);
};

inline grid_group this_grid() { return {}; }
inline thread_block this_thread_block() { return {}; }
template <uint32_t Size> thread_block_tile<Size> tiled_partition(const thread_block &) { return {{~0u}}; }

template <class Label> lanes labeled_partition(const lanes &, Label label) {
    const uint64_t mine = cuda_on_cpu::to_bits(label);
    const auto board = cuda_on_cpu::exchange(mine);
    uint32_t members = 0;
    for (uint32_t i = 0; i < cuda_on_cpu::warp_size; ++i)
        if ((board.present & (1u << i)) && board.values[i] == mine) members |= 1u << i;
    return {members};
}

template <class T> struct plus {
    T operator()(T a, T b) const { return a + b; }
};
template <class T> struct greater {  // CUDA's name for the larger of the two
    T operator()(T a, T b) const { return a > b ? a : b; }
};

template <class T, class Operation> T reduce(const lanes &group, T value, Operation operation) {
    const auto board = cuda_on_cpu::exchange(cuda_on_cpu::to_bits(value));
    bool first = true;
    T total{};
    for (uint32_t i = 0; i < cuda_on_cpu::warp_size; ++i) {
        if (!(board.present & group.members & (1u << i))) continue;
        const T other = cuda_on_cpu::from_bits<T>(board.values[i]);
        total = first ? other : operation(total, other);
        first = false;
    }
    return total;
}

}  // namespace cooperative_groups

namespace gsplat {

// A rounded float, perhaps on its way to an unsigned integer. On CUDA that conversion stops at the ends of the range;
// in C++ it is undefined for negative numbers, and gsplat's tile bounds rely on it.
template <class T> struct Rounded {
    T value;
    operator T() const { return value; }
    explicit operator uint32_t() const {
        if (!(value > 0)) return 0;
        return value >= T(4294967295.0) ? 4294967295u : static_cast<uint32_t>(value);
    }
};
inline Rounded<float> floor(float x) { return {std::floor(x)}; }
inline Rounded<double> floor(double x) { return {std::floor(x)}; }
inline Rounded<float> ceil(float x) { return {std::ceil(x)}; }
inline Rounded<double> ceil(double x) { return {std::ceil(x)}; }

// CUDA's min and max take two arithmetic types: C++'s usual conversions hold, and a NaN loses.
template <class A, class B> std::common_type_t<A, B> min(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) return std::fmin(T(a), T(b));
    return std::min(T(a), T(b));
}
template <class A, class B> std::common_type_t<A, B> max(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) return std::fmax(T(a), T(b));
    return std::max(T(a), T(b));
}
template <class T> T abs(T x) { return std::abs(x); }

}  // namespace gsplat
