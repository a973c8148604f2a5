// Squared gradient in the flatter parts of planes; see pyflowreg.core.noise.

constexpr int ENERGY_BLOCK = 8;  // side, pixels
constexpr double QUANTILE = 0.25;

// Mean squared gradient of the blocks of planes (n, H, W), to (n, rows columns). `cx`, `cy` are
// half the inverse spacings. Grid: parts of a plane's blocks, planes.
template <class Real>
DEVICE void block_energies(const Real* RESTRICT planes, int height, int width, Real cx, Real cy,
                           Real* RESTRICT out) {
    const Real* plane = planes + static_cast<Offset>(blockIdx.y) * height * width;
    const int rows = (height - 2) / ENERGY_BLOCK, columns = (width - 2) / ENERGY_BLOCK;
    const int count = rows * columns;
    FOR_PART(i, count) {
        const int row = i / columns, column = i - row * columns;
        Real total = 0;
        for (int k = 0; k < ENERGY_BLOCK; ++k) {
            const Real* here = plane + (1 + row * ENERGY_BLOCK) * width + column * ENERGY_BLOCK + k;
            Real sum = 0;
            for (int y = 0; y < ENERGY_BLOCK; ++y, here += width) {
                const Real gx = (here[2] - here[0]) * cx;
                const Real gy = (here[1 + width] - here[1 - width]) * cy;
                sum += gx * gx + gy * gy;
            }
            total = k == 0 ? sum : total + sum;
        }
        out[static_cast<Offset>(blockIdx.y) * count + i] =
            total * static_cast<Real>(0.5 / (ENERGY_BLOCK * ENERGY_BLOCK));
    }
}

// Lower quartile of `count` numbers, none negative, per plane: bit by bit the largest number that
// no more than a quarter of the others are below. Grid: planes.
template <class Real>
DEVICE void lower_quartile(const Real* RESTRICT energies, int count, double* out) {
    using Number = typename Bits<Real>::Number;
    const Real* values = energies + static_cast<Offset>(blockIdx.x) * count;
    const int rank = static_cast<int>(count * QUANTILE);
    __shared__ int below;
    Number found = 0;
    for (int bit = 8 * sizeof(Number) - 2; bit >= 0; --bit) {
        const Number candidate = found | (Number(1) << bit);
        FOR_BLOCK(i, 1) below = 0;
        __syncthreads();
        int own = 0;
        FOR_BLOCK(i, count) own += bits_of(values[i]) < candidate;
        atomicAdd(&below, own);
        __syncthreads();
        if (below <= rank) found = candidate;
        __syncthreads();
    }
    FOR_BLOCK(i, 1) out[blockIdx.x] = static_cast<double>(number_of(found));
}

#define EXPORT_NOISE(name, Real)                                                     \
    EXPORT(block_energies_##name,                                                    \
           (const Real* planes, int height, int width, Real cx, Real cy, Real* out), \
           block_energies<Real>(planes, height, width, cx, cy, out))                 \
    EXPORT(lower_quartile_##name, (const Real* energies, int count, double* out),    \
           lower_quartile<Real>(energies, count, out))
EXPORT_NOISE(f32, float)
EXPORT_NOISE(f64, double)
