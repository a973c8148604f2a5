// Resampling of planes with given taps and weights: down the columns, then along the rows.
// A constant plane stays exactly constant: its rounding errors would pass for structure.

// Which planes vary, after rounding to the type they are resized in. `varying` must be zero before.
// Grid: parts of a plane, planes.
template <class In, class Real>
DEVICE void mark_varying(const In* RESTRICT planes, int size, int* varying) {
    const In* plane = planes + static_cast<Offset>(blockIdx.y) * size;
    const Real first = static_cast<Real>(plane[0]);
    bool found = false;
    FOR_PART(i, size) found |= !(static_cast<Real>(plane[i]) == first);
    if (found) varying[blockIdx.y] = 1;  // every thread would write the same
}

// Planes (n, rows, width) to (n, height, width). Grid: parts of a plane of the result, planes.
template <class In, class Real>
DEVICE void resize_down(const In* RESTRICT planes, int rows, int width, int height,
                        const int* RESTRICT taps, const Real* RESTRICT weights, int count,
                        Real* RESTRICT out) {
    const In* plane = planes + static_cast<Offset>(blockIdx.y) * rows * width;
    Real* target = out + static_cast<Offset>(blockIdx.y) * height * width;
    FOR_PART(i, height * width) {
        const int y = i / width, x = i - y * width;
        Real total = 0;
        for (int k = y * count; k < (y + 1) * count; ++k) {
            const Real value = static_cast<Real>(plane[taps[k] * width + x]);
            total = multiply_add(weights[k], value, total);
        }
        target[i] = total;
    }
}

// Planes (n, height, columns) to (n, height, width), of which `planes` (n, size) were the source.
// Grid: parts of a plane of the result, planes.
template <class In, class Real>
DEVICE void resize_across(const In* RESTRICT planes, int size, const int* RESTRICT varying,
                          const Real* RESTRICT middle, int columns, int height, int width,
                          const int* RESTRICT taps, const Real* RESTRICT weights, int count,
                          Real* RESTRICT out) {
    const Real* source = middle + static_cast<Offset>(blockIdx.y) * height * columns;
    Real* target = out + static_cast<Offset>(blockIdx.y) * height * width;
    const bool constant = !varying[blockIdx.y];
    const Real value = static_cast<Real>(planes[static_cast<Offset>(blockIdx.y) * size]);
    FOR_PART(i, height * width) {
        const int y = i / width, x = i - y * width;
        Real total = 0;
        for (int k = x * count; k < (x + 1) * count; ++k) {
            total = multiply_add(weights[k], source[y * columns + taps[k]], total);
        }
        target[i] = constant ? value : total;
    }
}

#define EXPORT_RESIZE(name, In, Real)                                                            \
    EXPORT(mark_varying_##name, (const In* planes, int size, int* varying),                      \
           (mark_varying<In, Real>(planes, size, varying)))                                      \
    EXPORT(resize_down_##name,                                                                   \
           (const In* planes, int rows, int width, int height, const int* taps,                  \
            const Real* weights, int count, Real* out),                                          \
           (resize_down<In, Real>(planes, rows, width, height, taps, weights, count, out)))      \
    EXPORT(resize_across_##name,                                                                 \
           (const In* planes, int size, const int* varying, const Real* middle, int columns,     \
            int height, int width, const int* taps, const Real* weights, int count, Real* out),  \
           (resize_across<In, Real>(planes, size, varying, middle, columns, height, width, taps, \
                                    weights, count, out)))
EXPORT_RESIZE(f32_f32, float, float)
EXPORT_RESIZE(f32_f64, float, double)
EXPORT_RESIZE(f64_f32, double, float)
EXPORT_RESIZE(f64_f64, double, double)
