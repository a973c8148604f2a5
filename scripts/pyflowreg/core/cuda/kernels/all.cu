// Every kernel of the backend flowreg_cuda, in one source.
#include "common.cuh"
#include "resize.cuh"
#include "warp.cuh"
#include "noise.cuh"
#include "tensor.cuh"
#include "solver.cuh"
#include "median.cuh"
#include "frames.cuh"
