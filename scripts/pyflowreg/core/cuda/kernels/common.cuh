// What all kernels share.
//
// The threads of a block go through the block's items in steps of their number, with barriers
// between the phases: the result does not depend on the number of threads. A block may even be one
// thread, so a C++ compiler makes the same kernels for the processor out of this text, with the
// header of the tests in place of CUDA. Contraction of products and sums is off; where the
// processor rounds once, `multiply_add` stands here, too: both give the same bits.

#ifndef PYFLOWREG_EMULATED
#define DEVICE static __device__ __forceinline__
// Four blocks fit a multiprocessor.
#define EXPORT(name, parameters, call) \
    extern "C" __global__ void __launch_bounds__(THREADS, 4) name parameters { call; }
// Two blocks of the solver fit a multiprocessor, if its shared memory suffices.
#define EXPORT_SOLVER(name, parameters, call) \
    extern "C" __global__ void __launch_bounds__(SOLVER_THREADS, 2) name parameters { call; }
#define SHARED_MEMORY(name) extern __shared__ double name[]
#define RESTRICT __restrict__
static __device__ __forceinline__ void fetch_ahead(const void* place) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(place));
}
#endif

constexpr int THREADS = 256;         // of a block, but for the solver
constexpr int SOLVER_THREADS = 512;  // most of a block of the solver
constexpr int PART = 1024;           // items of a block of an elementwise kernel
constexpr int TILE = 32;             // side of a block's square of pixels

using Offset = long long;

DEVICE float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
DEVICE double multiply_add(double a, double b, double c) { return fma(a, b, c); }
DEVICE float square_root(float x) { return sqrtf(x); }
DEVICE double square_root(double x) { return sqrt(x); }
DEVICE float smaller(float a, float b) { return fminf(a, b); }
DEVICE double smaller(double a, double b) { return a < b ? a : b; }
DEVICE float larger(float a, float b) { return fmaxf(a, b); }
DEVICE double larger(double a, double b) { return a > b ? a : b; }

DEVICE int clamped(int index, int size) {
    return index < 0 ? 0 : (index < size ? index : size - 1);
}

// Index of the pixel that stands for one outside, borders mirrored including the edge.
DEVICE int mirrored(int index, int size) {
    index %= 2 * size;
    if (index < 0) index += 2 * size;
    return index < size ? index : 2 * size - 1 - index;
}

template <class Real>
struct Bits;
template <>
struct Bits<float> {
    using Number = unsigned int;
    static constexpr int MANTISSA = 23;
    static constexpr int LOG_TERMS = 5;
    static constexpr int EXP_TERMS = 8;
};
template <>
struct Bits<double> {
    using Number = unsigned long long;
    static constexpr int MANTISSA = 52;
    static constexpr int LOG_TERMS = 12;
    static constexpr int EXP_TERMS = 14;
};

DEVICE unsigned int bits_of(float x) { return __float_as_uint(x); }
DEVICE unsigned long long bits_of(double x) {
    return static_cast<unsigned long long>(__double_as_longlong(x));
}
DEVICE float number_of(unsigned int bits) { return __uint_as_float(bits); }
DEVICE double number_of(unsigned long long bits) {
    return __longlong_as_double(static_cast<long long>(bits));
}

// Sum of terms[k] x^k in a tree (Estrin), as pyflowreg.core.power adds up.
template <int N>
struct Tree {
    template <class Real>
    DEVICE Real sum(const Real (&terms)[N], Real x) {
        Real next[(N + 1) / 2];
#pragma unroll
        for (int k = 0; k < N / 2; ++k) {
            next[k] = multiply_add(terms[2 * k + 1], x, terms[2 * k]);
        }
        if (N % 2) next[N / 2] = terms[N - 1];
        return Tree<(N + 1) / 2>::sum(next, x * x);
    }
};
template <>
struct Tree<1> {
    template <class Real>
    DEVICE Real sum(const Real (&terms)[1], Real) {
        return terms[0];
    }
};

// x^exponent of a positive, normal x by arithmetic alone; see pyflowreg.core.power.
template <class Real>
DEVICE Real power(Real x, Real exponent) {
    using Format = Bits<Real>;
    using Number = typename Format::Number;
    constexpr int MANTISSA = Format::MANTISSA;
    constexpr Number ONE = 1;
    constexpr double LN2 = 0.693147180559945309417232121458;
    const Real magic = static_cast<Real>(1.5 * static_cast<double>(1ull << MANTISSA));
    // x = m 2^e with m in [sqrt(1/2), sqrt(2)).
    const Number low = bits_of(static_cast<Real>(0.707106781186547524400844362105));
    const Number above = bits_of(x) - low;
    const Real m = number_of((above & ((ONE << MANTISSA) - 1)) + low);
    // An arithmetic shift of what may be negative.
    const Number sign = ~(~Number(0) >> MANTISSA);
    Number shifted = above >> MANTISSA;
    if (above >> (8 * sizeof(Number) - 1)) shifted |= sign;
    const Real e = number_of(shifted + bits_of(magic)) - magic;
    const Real s = (m - Real(1)) / (m + Real(1));
    Real log_terms[Format::LOG_TERMS];
#pragma unroll
    for (int k = 0; k < Format::LOG_TERMS; ++k) {
        log_terms[k] = static_cast<Real>(2.0 / (2 * k + 1));
    }
    const Real log = s * Tree<Format::LOG_TERMS>::sum(log_terms, s * s);
    const Real y = exponent * multiply_add(e, static_cast<Real>(LN2), log);
    const Real held = multiply_add(y, static_cast<Real>(1.0 / LN2), magic);
    const Real n = held - magic;
    const Real high = static_cast<Real>(-0.693145751953125);
    const Real rest = static_cast<Real>(-1.42860682030941723212e-6);
    const Real r = multiply_add(n, rest, multiply_add(n, high, y));
    Real exp_terms[Format::EXP_TERMS];
    double factorial = 1;
#pragma unroll
    for (int k = 0; k < Format::EXP_TERMS; ++k) {
        if (k > 1) factorial *= k;
        exp_terms[k] = static_cast<Real>(1.0 / factorial);
    }
    const Number doublings = bits_of(held) - bits_of(magic);
    const Real exp = Tree<Format::EXP_TERMS>::sum(exp_terms, r);
    return number_of(bits_of(exp) + (doublings << MANTISSA));
}

// A level as it is solved: anti-diagonal after anti-diagonal (x + y = d), on each of them the rows
// in order, so that what a sweep can do at the same time lies side by side. `base` tells where the
// anti-diagonals begin.
struct Skewed {
    int height, width;
    const int* base;

    DEVICE int first_row(int d, int width) { return d < width ? 0 : d - width + 1; }
    DEVICE int count(int d, int height, int width) {
        return (d < height ? d : height - 1) - first_row(d, width) + 1;
    }
    DEVICE int place(const Skewed& level, int y, int x) {
        return level.base[y + x] + y - first_row(y + x, level.width);
    }
};

// The parts of a plane or a list: the items of this block, for its threads in turn.
#define FOR_PART(item, count)                                                            \
    for (int item = static_cast<int>(blockIdx.x) * PART + static_cast<int>(threadIdx.x), \
             item##_end = smallest((static_cast<int>(blockIdx.x) + 1) * PART, (count));  \
         item < item##_end; item += static_cast<int>(blockDim.x))

#define FOR_BLOCK(item, count)                                     \
    for (int item = static_cast<int>(threadIdx.x); item < (count); \
         item += static_cast<int>(blockDim.x))

DEVICE int smallest(int a, int b) { return a < b ? a : b; }
DEVICE int largest(int a, int b) { return a > b ? a : b; }
