// Stands in for CUDA, so that a C++ compiler makes the kernels for the processor.
//
// A block is one thread that goes through all of its items, or really many threads: then every
// thread has a stack of its own, they take turns at barriers, and in every phase in another order.
// What depends on the order within a phase, because a barrier is missing, gives other results.

#define PYFLOWREG_EMULATED
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#define DEVICE static inline
#define RESTRICT __restrict__
#define __shared__ static
#define SHARED_MEMORY(name) double* name = emulation::shared_memory.data()

static inline void fetch_ahead(const void*) {}

struct Position {
    unsigned x, y;
};
static Position blockIdx, threadIdx, blockDim;

namespace emulation {

static std::vector<double> shared_memory;

struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    bool finished;
};
static std::vector<Thread> threads;
static ucontext_t scheduler;
static unsigned current;
static void (*body)(void*);
static void* argument;

static void enter() {
    body(argument);
    threads[current].finished = true;
}

// 0, or 1 if some threads wait at a barrier that others have passed by.
static int run_block(unsigned seed) {
    constexpr size_t STACK = 64 * 1024;
    threads.resize(blockDim.x);
    for (auto& thread : threads) {
        thread.stack.resize(STACK);
        thread.finished = false;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.data();
        thread.context.uc_stack.ss_size = STACK;
        thread.context.uc_link = &scheduler;
        makecontext(&thread.context, enter, 0);
    }
    std::vector<unsigned> order(blockDim.x);
    std::iota(order.begin(), order.end(), 0u);
    std::mt19937 random(seed);
    for (;;) {
        std::shuffle(order.begin(), order.end(), random);
        for (unsigned number : order) {
            current = number;
            threadIdx = {number, 0};
            swapcontext(&scheduler, &threads[number].context);
        }
        const auto finished = std::count_if(threads.begin(), threads.end(),
                                            [](const Thread& t) { return t.finished; });
        if (finished == static_cast<long>(blockDim.x)) return 0;
        if (finished > 0) return 1;
    }
}

static void barrier() {
    if (blockDim.x > 1) swapcontext(&threads[current].context, &scheduler);
}

template <class... A, size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

struct Call {
    void (*kernel)(void**);
    void** arguments;
};

static int launch(void (*kernel)(void**), unsigned grid_x, unsigned grid_y, unsigned block,
                  unsigned shared_bytes, unsigned seed, void** arguments) {
    // Filled with what is no number, so that reading what nobody wrote is seen.
    shared_memory.assign((shared_bytes + 7) / 8, std::nan(""));
    blockDim = {block, 1};
    Call what = {kernel, arguments};
    for (unsigned y = 0; y < grid_y; ++y) {
        for (unsigned x = 0; x < grid_x; ++x) {
            blockIdx = {x, y};
            threadIdx = {0, 0};
            if (block == 1) {
                kernel(arguments);
                continue;
            }
            body = [](void* data) {
                auto* made = static_cast<Call*>(data);
                made->kernel(made->arguments);
            };
            argument = &what;
            if (run_block(seed + 7919 * (x + grid_x * y))) return 1;
        }
    }
    return 0;
}

}  // namespace emulation

#define EXPORT(name, parameters, call_)                                                           \
    static void name parameters { call_; }                                                        \
    template <class... A>                                                                         \
    static void name##_unpack(void (*kernel)(A...), void** arguments) {                           \
        emulation::call(kernel, arguments, std::index_sequence_for<A...>());                      \
    }                                                                                             \
    extern "C" int launch_##name(unsigned grid_x, unsigned grid_y, unsigned block,                \
                                 unsigned shared, unsigned seed, void** arguments) {              \
        return emulation::launch([](void** a) { name##_unpack(name, a); }, grid_x, grid_y, block, \
                                 shared, seed, arguments);                                        \
    }                                                                                             \
    extern "C" const char* signature_##name() { return emulation::signature(name); }

#define EXPORT_SOLVER EXPORT

// A letter for every parameter of a kernel.
template <class T>
struct Letter;
template <class T>
struct Letter<T*> {
    static constexpr char value = 'P';
};
template <>
struct Letter<int> {
    static constexpr char value = 'i';
};
template <>
struct Letter<long long> {
    static constexpr char value = 'q';
};
template <>
struct Letter<float> {
    static constexpr char value = 'f';
};
template <>
struct Letter<double> {
    static constexpr char value = 'd';
};

namespace emulation {
template <class... A>
static const char* signature(void (*)(A...)) {
    static const char letters[] = {Letter<A>::value..., '\0'};
    return letters;
}
}  // namespace emulation

static inline void __syncthreads() { emulation::barrier(); }
static inline int atomicAdd(int* place, int number) {
    const int before = *place;
    *place += number;
    return before;
}

template <class To, class From>
static inline To same_bits(From value) {
    static_assert(sizeof(To) == sizeof(From), "of the same size");
    To result;
    std::memcpy(&result, &value, sizeof(To));
    return result;
}
static inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return same_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return same_bits<double>(x); }
// Without the rules about what is no number, which no kernel needs, but which are slow here.
static inline float lesser(float a, float b) { return a < b ? a : b; }
static inline float greater(float a, float b) { return a > b ? a : b; }
#define fminf lesser
#define fmaxf greater
using std::fma;
using std::sqrt;
using std::trunc;

#include "all.cu"
