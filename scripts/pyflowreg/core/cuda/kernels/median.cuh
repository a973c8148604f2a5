// 5 x 5 medians, borders mirrored including the edge, and the addition of filtered increments.

constexpr int WINDOW = 25;

template <class Real>
DEVICE void exchange(Real& a, Real& b) {
    const Real low = smaller(a, b), high = larger(a, b);
    a = low;
    b = high;
}

// Of `N` values the smallest comes first and the largest last.
template <int N, class Real>
DEVICE void ends(Real* v) {
#pragma unroll
    for (int k = 0; k < N / 2; ++k) exchange(v[k], v[N - 1 - k]);
    // The smaller ones of the pairs are in the first half, with an odd one in the middle of both.
#pragma unroll
    for (int k = 1; k < (N + 1) / 2; ++k) exchange(v[0], v[k]);
#pragma unroll
    for (int k = N / 2; k < N - 1; ++k) exchange(v[k], v[N - 1]);
}

// Of so many values that the median is not an end of any `N` of them: both ends are dropped, and
// the next value takes the place of one of them.
template <int N>
struct Forget {
    template <class Real>
    DEVICE Real median(Real* v, const Real* next) {
        ends<N>(v);
        v[0] = *next;
        return Forget<N - 1>::median(v, next + 1);
    }
};
template <>
struct Forget<3> {
    template <class Real>
    DEVICE Real median(Real* v, const Real*) {
        ends<3>(v);
        return v[1];
    }
};

template <class Real>
DEVICE Real median_5x5(const Real* RESTRICT plane, int y, int x, int height, int width) {
    Real v[WINDOW];
#pragma unroll
    for (int dy = -2; dy <= 2; ++dy) {
        const Real* row = plane + mirrored(y + dy, height) * width;
#pragma unroll
        for (int dx = -2; dx <= 2; ++dx) v[(dy + 2) * 5 + dx + 2] = row[mirrored(x + dx, width)];
    }
    return Forget<14>::median(v, v + 14);
}

// Add increments to fields, planes (n, H, W), filtered or not. What is not finite would be hidden
// by a median; the whole plane becomes no number. `out` may be `field`.
// Grid: parts of a plane, planes.
template <class Real>
DEVICE void add_increments(const Real* RESTRICT increments, const int* RESTRICT broken, int height,
                           int width, int filtered, Real nothing, const Real* field, Real* out) {
    const Offset first = static_cast<Offset>(blockIdx.y) * height * width;
    const bool spoilt = broken[blockIdx.y];
    FOR_PART(i, height * width) {
        Real value = increments[first + i];
        if (filtered && !spoilt) {
            const int y = i / width;
            value = median_5x5(increments + first, y, i - y * width, height, width);
        }
        out[first + i] = spoilt ? nothing : field[first + i] + value;
    }
}

// Medians of planes (n, H, W) that are not marked as broken. Grid: parts of a plane, planes.
template <class Real>
DEVICE void median_planes(const Real* RESTRICT planes, const int* RESTRICT broken, int height,
                          int width, Real* RESTRICT out) {
    const Offset first = static_cast<Offset>(blockIdx.y) * height * width;
    const bool spoilt = broken[blockIdx.y];
    FOR_PART(i, height * width) {
        const int y = i / width;
        out[first + i] = spoilt ? planes[first + i]
                                : median_5x5(planes + first, y, i - y * width, height, width);
    }
}

#define EXPORT_MEDIAN(name, Real)                                                                 \
    EXPORT(                                                                                       \
        add_increments_##name,                                                                    \
        (const Real* increments, const int* broken, int height, int width, int filtered,          \
         Real nothing, const Real* field, Real* out),                                             \
        (add_increments<Real>(increments, broken, height, width, filtered, nothing, field, out))) \
    EXPORT(median_planes_##name,                                                                  \
           (const Real* planes, const int* broken, int height, int width, Real* out),             \
           median_planes<Real>(planes, broken, height, width, out))
EXPORT_MEDIAN(f32, float)
EXPORT_MEDIAN(f64, double)
