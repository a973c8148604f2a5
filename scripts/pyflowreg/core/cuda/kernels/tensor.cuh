// Motion tensors of a level, and what else the solver reads, from planes to the skewed layout.
//
// A block loads a square of pixels with one more around, borders replicated, and goes through it
// along anti-diagonals, so that neighbouring threads write neighbouring places.

constexpr int PITCH = TILE + 4;  // one less is odd: an anti-diagonal lies in different banks
constexpr int TILE_AREA = (TILE + 2) * PITCH;
constexpr int COMPONENTS = 6;  // J11, J22, J33, J12, J13, J23

struct Square {
    int top, left, height, width;

    DEVICE Square of_block(int height, int width) {
        const int columns = (width + TILE - 1) / TILE;
        const int row = static_cast<int>(blockIdx.x) / columns;
        const int column = static_cast<int>(blockIdx.x) - row * columns;
        return {row * TILE, column * TILE, height, width};
    }
    // Pixel `item` (0 to TILE^2 - 1) along anti-diagonals, counted from the corner.
    DEVICE int row(int item) { return item % TILE; }
    DEVICE int column(int item) { return (item / TILE + TILE - item % TILE) % TILE; }
};

// Planes (n, H, W) to their weighted Laplacians, skewed, (n, size). Grid: squares, planes.
template <class Real>
DEVICE void laplacian(const Real* RESTRICT field, Skewed level, int size, Real ax, Real ay,
                      Real* RESTRICT out) {
    __shared__ Real values[TILE_AREA];
    const int height = level.height, width = level.width;
    const Square square = Square::of_block(height, width);
    const Real* plane = field + static_cast<Offset>(blockIdx.y) * height * width;
    FOR_BLOCK(i, (TILE + 2) * (TILE + 2)) {
        const int row = i / (TILE + 2), column = i % (TILE + 2);
        const int y = clamped(square.top + row - 1, height);
        const int x = clamped(square.left + column - 1, width);
        values[row * PITCH + column] = plane[y * width + x];
    }
    __syncthreads();
    FOR_BLOCK(i, TILE * TILE) {
        const int row = Square::row(i), column = Square::column(i);
        const int y = square.top + row, x = square.left + column;
        if (y < height && x < width) {
            const Real* here = values + (row + 1) * PITCH + column + 1;
            const Real p = here[0];
            const Real across = ax * ((here[-1] - p) + (here[1] - p));
            const Real down = ay * ((here[-PITCH] - p) + (here[PITCH] - p));
            out[static_cast<Offset>(blockIdx.y) * size + Skewed::place(level, y, x)] =
                across + down;
        }
    }
}

// The spacings as the terms need them; see pyflowreg.core.motion_tensor.
template <class Real>
struct Spacing {
    Real cx, cy, cxx, cyy, cxy;
};

template <class Real>
DEVICE void gradient_components(const Real* total, const Real* change, Spacing<Real> h, Real eps,
                                Real* out, int size) {
    const Real twice = total[0] + total[0];
    const Real fxx = (total[1] - twice + total[-1]) * h.cxx;
    const Real fyy = (total[PITCH] - twice + total[-PITCH]) * h.cyy;
    const Real lower = total[PITCH + 1] - total[PITCH - 1];
    const Real upper = total[-PITCH + 1] - total[-PITCH - 1];
    const Real fxy = (lower - upper) * h.cxy;
    const Real fxt = (change[1] - change[-1]) * h.cx;
    const Real fyt = (change[PITCH] - change[-PITCH]) * h.cy;
    const Real squared = multiply_add(fxy, fxy, eps);
    const Real nx = Real(1) / multiply_add(fxx, fxx, squared);
    const Real ny = Real(1) / multiply_add(fyy, fyy, squared);
    const Real ax = nx * fxx, bx = nx * fxy, cx = nx * fxt;
    const Real ay = ny * fxy, by = ny * fyy, cy = ny * fyt;
    out[0] = multiply_add(ax, fxx, ay * fxy);
    out[size] = multiply_add(bx, fxy, by * fyy);
    out[2 * size] = multiply_add(cx, fxt, cy * fyt);
    out[3 * size] = multiply_add(ax, fxy, ay * fyy);
    out[4 * size] = multiply_add(ax, fxt, ay * fyt);
    out[5 * size] = multiply_add(bx, fxt, by * fyt);
}

template <class Real>
DEVICE void brightness_components(Real fx, Real fy, Real ft, Real factor, Real (&j)[COMPONENTS]) {
    j[0] = multiply_add(factor * fx, fx, j[0]);
    j[1] = multiply_add(factor * fy, fy, j[1]);
    j[2] = multiply_add(factor * ft, ft, j[2]);
    j[3] = multiply_add(factor * fx, fy, j[3]);
    j[4] = multiply_add(factor * fx, ft, j[4]);
    j[5] = multiply_add(factor * fy, ft, j[5]);
}

// Gradient constancy (`brightness` 0) or brightness constancy of planes: fixed (C, H, W), moving
// (n, C, H, W), to tensors (n, C, 6, size). `energies` (n C) and those of the fixed planes (C) are
// their noise, of which `noise_weight` is added to the normaliser. Grid: squares, planes.
template <class Real>
DEVICE void constancy(const Real* RESTRICT fixed, const Real* RESTRICT moving, int channels,
                      Skewed level, int size, int brightness, Spacing<Real> h, double normaliser,
                      double noise_weight, const double* fixed_energies, const double* energies,
                      Real* RESTRICT out) {
    __shared__ Real total[TILE_AREA];
    __shared__ Real change[TILE_AREA];
    const int height = level.height, width = level.width, area = height * width;
    const int channel = static_cast<int>(blockIdx.y) % channels;
    const Square square = Square::of_block(height, width);
    const Real* f = fixed + static_cast<Offset>(channel) * area;
    const Real* m = moving + static_cast<Offset>(blockIdx.y) * area;
    FOR_BLOCK(i, (TILE + 2) * (TILE + 2)) {
        const int row = i / (TILE + 2), column = i % (TILE + 2);
        const int y = clamped(square.top + row - 1, height);
        const int x = clamped(square.left + column - 1, width);
        const Real a = f[y * width + x], b = m[y * width + x];
        total[row * PITCH + column] = a + b;
        change[row * PITCH + column] = b - a;
    }
    __syncthreads();
    double added = normaliser;
    if (noise_weight > 0) {
        const double excess = energies[blockIdx.y] - (1 + 0.05) * fixed_energies[channel];
        added += noise_weight * (excess > 0 ? excess : 0.0);
    }
    const Real eps = static_cast<Real>(added);
    Real* target = out + static_cast<Offset>(blockIdx.y) * COMPONENTS * size;
    FOR_BLOCK(i, TILE * TILE) {
        const int row = Square::row(i), column = Square::column(i);
        const int y = square.top + row, x = square.left + column;
        if (y < height && x < width) {
            const int here = (row + 1) * PITCH + column + 1;
            const int place = Skewed::place(level, y, x);
            if (brightness) {
                Real j[COMPONENTS] = {0, 0, 0, 0, 0, 0};
                const Real fx = (total[here + 1] - total[here - 1]) * h.cx;
                const Real fy = (total[here + PITCH] - total[here - PITCH]) * h.cy;
                brightness_components(fx, fy, change[here], Real(1), j);
#pragma unroll
                for (int k = 0; k < COMPONENTS; ++k) target[k * size + place] = j[k];
            } else {
                gradient_components(total + here, change + here, h, eps, target + place, size);
            }
        }
    }
}

// Smoothed step of the difference of a pixel's neighbour from it.
template <class Real>
DEVICE Real census_code(Real pixel, Real neighbour, Real distance, Real eps) {
    const Real r = (neighbour - pixel) / distance;
    return Real(0.5) * (Real(1) + r / square_root(r * r + eps * eps));
}

// An image with its census codes.
template <class Real>
struct Coded {
    const Real* plane;
    int height, width;

    DEVICE Real code(const Coded& image, int y, int x, int dy, int dx, Real distance, Real eps) {
        y = clamped(y, image.height);
        x = clamped(x, image.width);
        const int row = clamped(y + dy, image.height), column = clamped(x + dx, image.width);
        const Real neighbour = image.plane[row * image.width + column];
        return census_code(image.plane[y * image.width + x], neighbour, distance, eps);
    }
};

// Brightness constancy of the eight census codes; see `constancy`.
template <class Real>
DEVICE void census(const Real* RESTRICT fixed, const Real* RESTRICT moving, int channels,
                   Skewed level, int size, Real cx, Real cy, Real across, Real down, Real diagonal,
                   Real eps, Real* RESTRICT out) {
    const int height = level.height, width = level.width, area = height * width;
    const int channel = static_cast<int>(blockIdx.y) % channels;
    const Square square = Square::of_block(height, width);
    const Coded<Real> f = {fixed + static_cast<Offset>(channel) * area, height, width};
    const Coded<Real> m = {moving + static_cast<Offset>(blockIdx.y) * area, height, width};
    Real* target = out + static_cast<Offset>(blockIdx.y) * COMPONENTS * size;
    FOR_BLOCK(i, TILE * TILE) {
        const int y = square.top + Square::row(i), x = square.left + Square::column(i);
        if (y < height && x < width) {
            Real j[COMPONENTS] = {0, 0, 0, 0, 0, 0};
            for (int k = 0; k < 9; ++k) {
                if (k == 4) continue;
                const int dy = k / 3 - 1, dx = k % 3 - 1;
                const Real d = dy == 0 ? across : (dx == 0 ? down : diagonal);
                const auto total = [&](int row, int column) {
                    return Coded<Real>::code(f, row, column, dy, dx, d, eps) +
                           Coded<Real>::code(m, row, column, dy, dx, d, eps);
                };
                const Real fx = (total(y, x + 1) - total(y, x - 1)) * cx;
                const Real fy = (total(y + 1, x) - total(y - 1, x)) * cy;
                const Real ft = Coded<Real>::code(m, y, x, dy, dx, d, eps) -
                                Coded<Real>::code(f, y, x, dy, dx, d, eps);
                brightness_components(fx, fy, ft, Real(2.0 / 8), j);
            }
            const int place = Skewed::place(level, y, x);
#pragma unroll
            for (int k = 0; k < COMPONENTS; ++k) target[k * size + place] = j[k];
        }
    }
}

// The way back, of planes (n, size) to (n, H, W); planes with a value that is not finite are
// marked. `broken` must be zero before. Grid: squares, planes.
template <class Real>
DEVICE void unskewed(const Real* RESTRICT skewed, Skewed level, int size, Real* RESTRICT out,
                     int* broken) {
    __shared__ Real values[TILE_AREA];
    const int height = level.height, width = level.width;
    const Square square = Square::of_block(height, width);
    bool found = false;
    FOR_BLOCK(i, TILE * TILE) {
        const int row = Square::row(i), column = Square::column(i);
        const int y = square.top + row, x = square.left + column;
        if (y < height && x < width) {
            const Real value =
                skewed[static_cast<Offset>(blockIdx.y) * size + Skewed::place(level, y, x)];
            found |= !(value - value == 0);
            values[row * PITCH + column] = value;
        }
    }
    if (found) broken[blockIdx.y] = 1;  // every thread would write the same
    __syncthreads();
    FOR_BLOCK(i, TILE * TILE) {
        const int row = i / TILE, column = i % TILE;
        const int y = square.top + row, x = square.left + column;
        if (y < height && x < width) {
            out[static_cast<Offset>(blockIdx.y) * height * width + y * width + x] =
                values[row * PITCH + column];
        }
    }
}

#define EXPORT_TENSOR(name, Real)                                                                  \
    EXPORT(laplacian_##name,                                                                       \
           (const Real* field, int height, int width, const int* base, int size, Real ax, Real ay, \
            Real* out),                                                                            \
           (laplacian<Real>(field, Skewed{height, width, base}, size, ax, ay, out)))               \
    EXPORT(constancy_##name,                                                                       \
           (const Real* fixed, const Real* moving, int channels, int height, int width,            \
            const int* base, int size, int brightness, Real cx, Real cy, Real cxx, Real cyy,       \
            Real cxy, double normaliser, double noise_weight, const double* fixed_energies,        \
            const double* energies, Real* out),                                                    \
           (constancy<Real>(fixed, moving, channels, Skewed{height, width, base}, size,            \
                            brightness, Spacing<Real>{cx, cy, cxx, cyy, cxy}, normaliser,          \
                            noise_weight, fixed_energies, energies, out)))                         \
    EXPORT(census_##name,                                                                          \
           (const Real* fixed, const Real* moving, int channels, int height, int width,            \
            const int* base, int size, Real cx, Real cy, Real across, Real down, Real diagonal,    \
            Real eps, Real* out),                                                                  \
           (census<Real>(fixed, moving, channels, Skewed{height, width, base}, size, cx, cy,       \
                         across, down, diagonal, eps, out)))                                       \
    EXPORT(unskewed_##name,                                                                        \
           (const Real* skewed, int height, int width, const int* base, int size, Real* out,       \
            int* broken),                                                                          \
           (unskewed<Real>(skewed, Skewed{height, width, base}, size, out, broken)))
EXPORT_TENSOR(f32, float)
EXPORT_TENSOR(f64, double)
