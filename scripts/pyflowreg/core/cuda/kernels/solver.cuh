// Successive over-relaxation of a level, a block per frame; see pyflowreg.core.solver_kernels for
// the method and pyflowreg.core.linear_system for the arithmetic.
//
// On a five-point stencil a lexicographic sweep needs the new left and upper and the old right and
// lower neighbour, so the points of an anti-diagonal are independent, and the next sweep may
// follow two anti-diagonals behind. A pass takes several sweeps through the level at once: in step
// t anti-diagonal t is brought in (its linear system, if the robust weights are renewed, is made
// from the tensors there and then), and sweep k (from 1) goes over anti-diagonal t - 2 k. Between
// two steps is one barrier. What a pass works on lies in a ring of anti-diagonals, in the block's
// shared memory if it fits: memory of the device is read and written once per pass.

constexpr double OMEGA = 1.95;
constexpr double EPSILON = 1e-5;

// Planes of the linear system. The weights of the edges are there with a robust smoothness term.
enum { SCALE_U, SCALE_V, COUPLING, RIGHT_U, RIGHT_V, LEFT, RIGHT, UP, DOWN };
constexpr int PLAIN_PLANES = 5, ROBUST_PLANES = 9;

template <class Real> struct LevelData {
    // Of this frame, skewed: tensors (C, 6, size), Laplacian of the displacement (2, size) with a
    // quadratic smoothness term, increments (2, size).
    const Real* tensor;
    const Real* laplacian;
    Real* unknowns;
    // Weights of all frames: (C, size) or, with `weight_step` 0, (C). Exponents, first weights (C).
    const Real* weights;
    int weight_step;
    const Real* exponents;
    const Real* starts;
    int channels, size;
    Real ax, ay;
    // With a robust smoothness term: displacement before (2, H, W), the same with the increments
    // and a border (2, H + 2, W + 2), and the weights made of it (H + 2, W + 2).
    const Real* field;
    Real* rim;
    Real* psi;
    Real exponent, epsilon, cx, cy;
};

// Where anti-diagonals are kept: increments of the last `slots`, and linear systems of as many or,
// if a later pass needs them again (`kept`), of all.
template <class Real> struct Ring {
    Real* unknowns;
    Real* system;
    int slots, length, planes;
    bool kept;

    DEVICE Real* unknowns_at(const Ring& ring, int slot) {
        return ring.unknowns + slot * 2 * ring.length;
    }
    DEVICE Real* system_at(const Ring& ring, int slot, int d) {
        const int place = ring.kept ? d : slot;
        return ring.system + static_cast<Offset>(place) * ring.planes * ring.length;
    }
    DEVICE int before(const Ring& ring, int slot, int steps) {
        const int place = slot - steps;
        return place < 0 ? place + ring.slots : place;
    }
};

template <class Real> DEVICE Real robust_weight(const Real (&j)[6], Real du, Real dv, Real a) {
    const Real mixed = multiply_add(j[4], du, j[5] * dv) + j[3] * du * dv;
    const Real pure = multiply_add(j[0] * du, du, multiply_add(j[1] * dv, dv, j[2]));
    const Real value = multiply_add(mixed, Real(2), pure);
    return a * power((value > 0 ? value : Real(0)) + static_cast<Real>(EPSILON), a - Real(1));
}

template <class Real> struct Edges { Real left, right, up, down; };

template <class Real>
DEVICE Real weighted_laplacian(const Real* plane, int y, int x, int height, int width,
                               const Edges<Real>& edges) {
    const Real p = plane[y * width + x];
    const Real left = plane[y * width + clamped(x - 1, width)];
    const Real right = plane[y * width + clamped(x + 1, width)];
    const Real up = plane[clamped(y - 1, height) * width + x];
    const Real down = plane[clamped(y + 1, height) * width + x];
    return (edges.left * (left - p) + edges.right * (right - p)) +
           (edges.up * (up - p) + edges.down * (down - p));
}

// The linear system of one point at the present increments.
template <class Real, bool ROBUST>
DEVICE void fold(const LevelData<Real>& data, Skewed level, int y, int x, int place, bool start,
                 Real du, Real dv, Real* system, int length) {
    Real j11 = 0, j22 = 0, j12 = 0, j13 = 0, j23 = 0;
    for (int c = 0; c < data.channels; ++c) {
        Real j[6];
#pragma unroll
        for (int k = 0; k < 6; ++k) {
            j[k] = data.tensor[static_cast<Offset>(c * 6 + k) * data.size + place];
        }
        const Real own = start ? data.starts[c] : robust_weight(j, du, dv, data.exponents[c]);
        const Real given =
            data.weight_step ? data.weights[static_cast<Offset>(c) * data.size + place]
                             : data.weights[c];
        const Real factor = given * own;
        j11 = multiply_add(factor, j[0], j11);
        j22 = multiply_add(factor, j[1], j22);
        j12 = multiply_add(factor, j[3], j12);
        j13 = multiply_add(factor, j[4], j13);
        j23 = multiply_add(factor, j[5], j23);
    }
    Edges<Real> edges = {data.ax, data.ax, data.ay, data.ay};
    Real laplace_u, laplace_v;
    if (ROBUST) {
        const int height = level.height, width = level.width;
        if (!start) {
            const Real* psi = data.psi + (y + 1) * (width + 2) + x + 1;
            const Real half = Real(0.5), centre = psi[0];
            edges.left = data.ax * (half * (psi[-1] + centre));
            edges.right = data.ax * (half * (psi[1] + centre));
            edges.up = data.ay * (half * (psi[-(width + 2)] + centre));
            edges.down = data.ay * (half * (psi[width + 2] + centre));
        }
        system[LEFT * length] = edges.left;
        system[RIGHT * length] = edges.right;
        system[UP * length] = edges.up;
        system[DOWN * length] = edges.down;
        const Real* field = data.field;
        laplace_u = weighted_laplacian(field, y, x, height, width, edges);
        laplace_v = weighted_laplacian(field + height * width, y, x, height, width, edges);
    } else {
        laplace_u = data.laplacian[place];
        laplace_v = data.laplacian[data.size + place];
    }
    const Real around = (edges.left + edges.right) + (edges.up + edges.down);
    const Real omega = static_cast<Real>(OMEGA);
    system[SCALE_U * length] = omega / (around + j11);
    system[SCALE_V * length] = omega / (around + j22);
    system[COUPLING * length] = j12;
    system[RIGHT_U * length] = laplace_u - j13;
    system[RIGHT_V * length] = laplace_v - j23;
}

// One point of one sweep. A neighbour outside the frame has the point's own value before.
template <class Real, bool ROBUST>
DEVICE void relax(const LevelData<Real>& data, const Ring<Real>& ring, Skewed level, int d, int i,
                  int slot, bool last) {
    const int height = level.height, width = level.width, length = ring.length;
    const int y = Skewed::first_row(d, width) + i, x = d - y;
    // Anti-diagonals that do not begin in the first row begin one row lower than the one before.
    const int from = d >= width, to = d + 1 >= width;
    Real* here = Ring<Real>::unknowns_at(ring, slot) + i;
    const Real* left_of = Ring<Real>::unknowns_at(ring, Ring<Real>::before(ring, slot, 1)) + i + from;
    const int next = slot + 1 == ring.slots ? 0 : slot + 1;
    const Real* right_of = Ring<Real>::unknowns_at(ring, next) + i - to;
    const Real* system = Ring<Real>::system_at(ring, slot, d) + i;
    const bool has_left = x > 0, has_up = y > 0, has_right = x < width - 1, has_down = y < height - 1;
    Edges<Real> edges = {data.ax, data.ax, data.ay, data.ay};
    if (ROBUST) {
        edges = {system[LEFT * length], system[RIGHT * length], system[UP * length],
                 system[DOWN * length]};
    }
    // Rounded as OMEGA is: the difference would act like a force that pulls increments to zero.
    const Real keep = Real(1) - static_cast<Real>(OMEGA);
    const Real coupling = system[COUPLING * length];
    Real other = here[length];
#pragma unroll
    for (int component = 0; component < 2; ++component) {
        const int plane = component * length;
        const Real centre = here[plane];
        const Real left = has_left ? left_of[plane] : centre;
        const Real up = has_up ? left_of[plane - 1] : centre;
        const Real right = has_right ? right_of[plane] : centre;
        const Real down = has_down ? right_of[plane + 1] : centre;
        Real rest = multiply_add(edges.right, right, system[(RIGHT_U + component) * length]);
        rest = multiply_add(edges.down, down, rest) - coupling * other;
        const Real sum = multiply_add(edges.left, left, multiply_add(edges.up, up, rest));
        other = multiply_add(system[(SCALE_U + component) * length], sum, keep * centre);
        here[plane] = other;
        if (last) data.unknowns[component * data.size + level.base[d] + i] = other;
    }
}

// `sweeps` sweeps over the level, all under way at the same time.
template <class Real, bool ROBUST>
DEVICE void pass(const LevelData<Real>& data, const Ring<Real>& ring, Skewed level, int sweeps,
                 bool folding, bool start) {
    const int diagonals = level.height + level.width - 1;
    const int first_sweep = static_cast<int>(threadIdx.x) / ring.length;
    const int first_item = static_cast<int>(threadIdx.x) - first_sweep * ring.length;
    int slot = 0;
    for (int t = 0; t < diagonals + 2 * sweeps; ++t) {
        int k = first_sweep, i = first_item;
        while (k <= sweeps) {
            const int d = t - 2 * k;
            if (d >= 0 && d < diagonals && i < Skewed::count(d, level.height, level.width)) {
                if (k > 0) {
                    relax<Real, ROBUST>(data, ring, level, d, i, Ring<Real>::before(ring, slot, 2 * k),
                                        k == sweeps);
                } else {
                    const int place = level.base[d] + i;
                    const Real du = data.unknowns[place], dv = data.unknowns[data.size + place];
                    Real* target = Ring<Real>::unknowns_at(ring, slot) + i;
                    target[0] = du;
                    target[ring.length] = dv;
                    if (folding) {
                        const int y = Skewed::first_row(d, level.width) + i;
                        fold<Real, ROBUST>(data, level, y, d - y, place, start, du, dv,
                                           Ring<Real>::system_at(ring, slot, d) + i, ring.length);
                    }
                }
            }
            i += static_cast<int>(blockDim.x);
            while (i >= ring.length) {
                i -= ring.length;
                ++k;
            }
        }
        __syncthreads();
        slot = slot + 1 == ring.slots ? 0 : slot + 1;
    }
}

// The border around the displacement with the outermost increments, as before a sweep.
template <class Real> DEVICE void old_rim(const LevelData<Real>& data, Skewed level) {
    const int height = level.height, width = level.width;
    const int stride = width + 2, area = (height + 2) * stride;
    FOR_BLOCK(item, 2 * 2 * (height + width + 2)) {
        const int c = item & 1, i = item >> 1;
        int y, x;
        if (i < 2 * stride) {
            y = i < stride ? 0 : height + 1;
            x = i < stride ? i : i - stride;
        } else {
            y = (i - 2 * stride) / 2 + 1;
            x = (i & 1) ? width + 1 : 0;
        }
        const int row = clamped(y - 1, height), column = clamped(x - 1, width);
        const Real before = data.field[(c * height + row) * width + column];
        const Real increment = data.unknowns[c * data.size + Skewed::place(level, row, column)];
        data.rim[c * area + y * stride + x] = before + increment;
    }
    __syncthreads();
}

// Robust weight of the smoothness term at every point and on the border around.
template <class Real> DEVICE void update_smoothness(const LevelData<Real>& data, Skewed level) {
    const int height = level.height, width = level.width;
    const int stride = width + 2, area = (height + 2) * stride;
    FOR_BLOCK(i, 2 * height * width) {
        const int c = i / (height * width), pixel = i - c * height * width;
        const int y = pixel / width, x = pixel - y * width;
        const Real increment = data.unknowns[c * data.size + Skewed::place(level, y, x)];
        data.rim[c * area + (y + 1) * stride + x + 1] = increment + data.field[i];
    }
    __syncthreads();
    FOR_BLOCK(i, area) {
        const int y = i / stride, x = i - y * stride;
        const int upper = largest(y - 1, 0), lower = smallest(y + 1, height + 1);
        const int left = largest(x - 1, 0), right = smallest(x + 1, width + 1);
        const Real scale_y = lower - upper == 2 ? data.cy : Real(2) * data.cy;
        const Real scale_x = right - left == 2 ? data.cx : Real(2) * data.cx;
        Real squared = data.epsilon;
        for (int c = 0; c < 2; ++c) {
            const Real* plane = data.rim + c * area;
            const Real dx = (plane[y * stride + right] - plane[y * stride + left]) * scale_x;
            const Real dy = (plane[lower * stride + x] - plane[upper * stride + x]) * scale_y;
            squared += dx * dx + dy * dy;
        }
        data.psi[i] = power(squared, data.exponent - Real(1)) * data.exponent;
    }
    __syncthreads();
}

// All sweeps of a level. `fused` sweeps at most are under way at the same time.
template <class Real, bool ROBUST>
DEVICE void relaxation(const LevelData<Real>& data, const Ring<Real>& ring, Skewed level, int fused,
                       int iterations, int update_lag) {
    FOR_BLOCK(i, 2 * data.size) data.unknowns[i] = 0;
    __syncthreads();
    if (ROBUST) old_rim(data, level);
    int done = 0;
    while (done < iterations) {
        const bool update = (done + 1) % update_lag == 0;
        const int begin = done;
        const int stop =
            smallest((done + 1) / update_lag * update_lag + update_lag - 1, iterations);
        if (ROBUST && update) update_smoothness(data, level);
        while (done < stop) {
            int count = smallest(fused, stop - done);
            if (ROBUST) {
                // The last sweep before an update alone, to see the border before it.
                count = smallest(fused, largest(stop - done - 1, 1));
                if (stop - done == 1) old_rim(data, level);
            }
            pass<Real, ROBUST>(data, ring, level, count, done == begin, !update);
            done += count;
        }
    }
}

// Solve a level of frames. The ring is in `memory`, (n, `memory_step`), or null for the block's
// shared memory. Grid: frames.
template <class Real, bool ROBUST>
DEVICE void solve(LevelData<Real> data, Skewed level, int fused, int iterations, int update_lag,
                  int kept, int length, Real* memory, Offset memory_step) {
    const Offset frame = blockIdx.x;
    const Offset area = static_cast<Offset>(level.height) * level.width;
    data.tensor += frame * data.channels * 6 * data.size;
    data.unknowns += frame * 2 * data.size;
    if (ROBUST) {
        const Offset around = static_cast<Offset>(level.height + 2) * (level.width + 2);
        data.field += frame * 2 * area;
        data.rim += frame * 2 * around;
        data.psi += frame * around;
    } else {
        data.laplacian += frame * 2 * data.size;
    }
    Ring<Real> ring;
    ring.slots = 2 * fused + 2;
    ring.length = length;
    ring.planes = ROBUST ? ROBUST_PLANES : PLAIN_PLANES;
    ring.kept = kept;
    if (ROBUST || memory != nullptr) {
        ring.unknowns = memory + frame * memory_step;
        ring.system = ring.unknowns + ring.slots * 2 * length;
        relaxation<Real, ROBUST>(data, ring, level, fused, iterations, update_lag);
    } else {
        SHARED_MEMORY(shared);
        ring.kept = false;
        ring.unknowns = reinterpret_cast<Real*>(shared);
        ring.system = ring.unknowns + ring.slots * 2 * length;
        relaxation<Real, ROBUST>(data, ring, level, fused, iterations, update_lag);
    }
}

#define EXPORT_SOLVE(name, Real)                                                               \
    EXPORT(solve_##name,                                                                       \
           (const Real* tensor, const Real* laplacian, Real* unknowns, const Real* weights,    \
            int weight_step, const Real* exponents, const Real* starts, int channels,          \
            int height, int width, const int* base, int size, Real ax, Real ay, int fused,     \
            int iterations, int update_lag, int kept, int length, Real* memory,                \
            Offset memory_step),                                                               \
           (solve<Real, false>(                                                                \
               LevelData<Real>{tensor, laplacian, unknowns, weights, weight_step, exponents,   \
                               starts, channels, size, ax, ay},                                \
               Skewed{height, width, base}, fused, iterations, update_lag, kept, length,       \
               memory, memory_step)))                                                          \
    EXPORT(solve_robust_##name,                                                                \
           (const Real* tensor, Real* unknowns, const Real* weights, int weight_step,          \
            const Real* exponents, const Real* starts, int channels, int height, int width,    \
            const int* base, int size, Real ax, Real ay, const Real* field, Real* rim,         \
            Real* psi, Real exponent, Real epsilon, Real cx, Real cy, int fused,               \
            int iterations, int update_lag, int length, Real* memory, Offset memory_step),     \
           (solve<Real, true>(                                                                 \
               LevelData<Real>{tensor, nullptr, unknowns, weights, weight_step, exponents,     \
                               starts, channels, size, ax, ay, field, rim, psi, exponent,      \
                               epsilon, cx, cy},                                               \
               Skewed{height, width, base}, fused, iterations, update_lag, 1, length, memory,  \
               memory_step)))
EXPORT_SOLVE(f32, float)
EXPORT_SOLVE(f64, double)
