// Bicubic backward warps (Keys, a = -1/2): of a level's planes, and of recorded frames.

// Weights for a sample at `position` in [0, size - 1], and the first tap's index; see
// pyflowreg.core.warp_kernels.cubic_weights about the border.
DEVICE int cubic_weights(double position, int size, double (&w)[4]) {
    const int base = smallest(static_cast<int>(position), size - 2);
    const double t = position - base;
    const double w0 = ((-0.5 * t + 1.0) * t - 0.5) * t;
    const double w1 = (1.5 * t - 2.5) * t * t + 1.0;
    const double w2 = ((-1.5 * t + 2.0) * t + 0.5) * t;
    const double w3 = (0.5 * t - 0.5) * t * t;
    const bool low = base == 0, high = !low && base == size - 2;
    w[0] = low ? w1 + 3.0 * w0 : (high ? 0.0 : w0);
    w[1] = low ? w2 - 3.0 * w0 : (high ? w0 + w3 : w1);
    w[2] = low ? w3 + w0 : (high ? w1 - 3.0 * w3 : w2);
    w[3] = low ? 0.0 : (high ? w2 + 3.0 * w3 : w3);
    return low ? 0 : (high ? size - 4 : base - 1);
}

DEVICE bool is_inside(double x, double y, int height, int width) {
    return x >= 0 && x <= width - 1 && y >= 0 && y <= height - 1;
}

// One sample anywhere in the closed image box.
template <class Real>
DEVICE Real sample_anywhere(const Real* RESTRICT plane, double px, double py, int height,
                            int width) {
    double a[4], b[4], rows[4];
    const int x = cubic_weights(px, width, a);
    const int y = cubic_weights(py, height, b);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        const Real* row = plane + (y + k) * width + x;
        rows[k] = a[0] * row[0] + a[1] * row[1] + a[2] * row[2] + a[3] * row[3];
    }
    return static_cast<Real>(b[0] * rows[0] + b[1] * rows[1] + b[2] * rows[2] + b[3] * rows[3]);
}

template <class Real>
DEVICE void inner_weights(Real t, Real (&w)[4]) {
    const Real half = Real(0.5), one = Real(1), two = Real(2), near = Real(1.5), far = Real(2.5);
    w[0] = ((Real(0) - half * t + one) * t - half) * t;
    w[1] = (near * t - far) * t * t + one;
    w[2] = ((two - near * t) * t + half) * t;
    w[3] = (half * t - half) * t * t;
}

// A sample whose taps all lie in the image: sums of columns, then of their weighted results.
template <class Real>
DEVICE Real sample_inner(const Real* RESTRICT plane, double px, double py, int width) {
    const double base_x = trunc(px), base_y = trunc(py);
    Real a[4], b[4];
    inner_weights(static_cast<Real>(px - base_x), a);
    inner_weights(static_cast<Real>(py - base_y), b);
    const Real* corner =
        plane + (static_cast<int>(base_y) - 1) * width + static_cast<int>(base_x) - 1;
    Real total = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        Real column = b[0] * corner[k];
        column = multiply_add(b[1], corner[width + k], column);
        column = multiply_add(b[2], corner[2 * width + k], column);
        column = multiply_add(b[3], corner[3 * width + k], column);
        total = k == 0 ? a[0] * column : multiply_add(a[k], column, total);
    }
    return total;
}

// Planes (n, C, H, W) by fields (n, 2, H, W); outside samples take `fill` (C, H, W).
// Grid: parts of a plane, frames.
template <class Real>
DEVICE void warp_level(const Real* RESTRICT moving, const Real* RESTRICT field,
                       const Real* RESTRICT fill, int channels, int height, int width,
                       double scale_x, double scale_y, Real* RESTRICT out) {
    const int size = height * width;
    const Real* u = field + static_cast<Offset>(blockIdx.y) * 2 * size;
    const Offset frame = static_cast<Offset>(blockIdx.y) * channels * size;
    FOR_PART(i, size) {
        const int y = i / width, x = i - y * width;
        // Positions in float64: at x = 1000, float32 would displace a sample by 6e-5 px.
        const double px = x + static_cast<double>(u[i]) * scale_x;
        const double py = y + static_cast<double>(u[size + i]) * scale_y;
        const bool inner = px >= 1.0 && px <= width - 3.0 && py >= 1.0 && py <= height - 3.0;
        const bool inside = is_inside(px, py, height, width);
        for (int c = 0; c < channels; ++c) {
            const Real* plane = moving + frame + static_cast<Offset>(c) * size;
            Real value = fill[c * size + i];
            if (inner) {
                value = sample_inner(plane, px, py, width);
            } else if (inside) {
                value = sample_anywhere(plane, px, py, height, width);
            }
            out[frame + static_cast<Offset>(c) * size + i] = value;
        }
    }
}

#define EXPORT_WARP(name, Real)                                                                \
    EXPORT(warp_level_##name,                                                                  \
           (const Real* moving, const Real* field, const Real* fill, int channels, int height, \
            int width, double scale_x, double scale_y, Real* out),                             \
           warp_level<Real>(moving, field, fill, channels, height, width, scale_x, scale_y, out))
EXPORT_WARP(f32, float)
EXPORT_WARP(f64, double)
