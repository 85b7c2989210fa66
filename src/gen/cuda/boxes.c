#include "gen/cuda/boxes.h"

#include "gen/cuda/block.h"

static const int weight_roles[] = {SG_ROLE_W, SG_ROLE_H, SG_ROLE_D, SG_ROLE_C, SG_ROLE_N};
enum { WEIGHT_ROLES = sizeof weight_roles / sizeof *weight_roles };

static void measure_weights(const sg_problem *problem, int64_t sizes[WEIGHT_ROLES]) {
    const sg_convolution *convolution = &problem->convolution;
    for (int i = 0; i < SG_SPATIAL_MAX; i++)
        sizes[i] = convolution->kernel[SG_SPATIAL_MAX - 1 - i];
    sizes[SG_SPATIAL_MAX] = convolution->in_channels;
    sizes[SG_SPATIAL_MAX + 1] = problem->size[SG_ROLE_C];
}

bool sg_cuda_weights_in_order(const sg_problem *problem) {
    int64_t sizes[WEIGHT_ROLES], step = 1;
    measure_weights(problem, sizes);
    for (int i = 0; i < WEIGHT_ROLES; i++) {
        if (sizes[i] > 1 && problem->convolution.weight.stride[weight_roles[i]] != step)
            return false;
        step *= sizes[i];
    }
    return true;
}

void sg_cuda_assume_weights_in_order(sg_cuda_arguments *arguments, const sg_problem *problem) {
    int64_t sizes[WEIGHT_ROLES];
    measure_weights(problem, sizes);
    sg_cuda_assume_dense(arguments, &problem->convolution.weight, weight_roles, sizes,
                         WEIGHT_ROLES);
}

void sg_cuda_add_boxes(sg_cuda_arguments *arguments, const sg_problem *problem,
                       const int64_t boxes[SG_SPATIAL_MAX], const int64_t jobs[SG_SPATIAL_MAX],
                       int64_t job_count) {
    const sg_convolution *convolution = &problem->convolution;
    sg_cuda_add_tensor(arguments, "input", &convolution->input, false);
    sg_cuda_add_tensor(arguments, "weight", &convolution->weight, false);
    sg_operand bias = convolution->bias;
    if (bias.index < 0)
        bias = (sg_operand){.index = convolution->input.index, .dtype = convolution->input.dtype};
    sg_cuda_add_tensor(arguments, "bias", &bias, false);
    static const char *const outs[] = {"out_d", "out_h", "out_w"};
    static const char *const ins[] = {"in_d", "in_h", "in_w"};
    static const char *const names[] = {"jobs_d", "jobs_h", "jobs_w"};
    for (int axis = 0; axis < SG_SPATIAL_MAX; axis++) {
        sg_cuda_add_number(arguments, outs[axis], problem->size[SG_ROLE_D + axis], "%s",
                           sg_cuda_size(problem, SG_ROLE_D + axis, arguments->arena));
        sg_cuda_add_number(arguments, ins[axis], convolution->in_size[axis], "%s",
                           sg_cuda_in_size(problem, axis));
    }
    if (sg_problem_walks(problem, 0))
        sg_cuda_add_number(arguments, "box_d", boxes[0], "a.out_d");
    else
        sg_cuda_add_number(arguments, "box_d", boxes[0], "%lld", (long long)boxes[0]);
    sg_cuda_add_number(arguments, names[0], jobs[0], "pieces(a.out_d, a.box_d)");
    for (int axis = 1; axis < SG_SPATIAL_MAX; axis++)
        sg_cuda_add_number(arguments, names[axis], jobs[axis], "pieces(a.%s, %lld)", outs[axis],
                           (long long)boxes[axis]);
    sg_cuda_add_number(arguments, "job_count", job_count, "%s * a.jobs_d * a.jobs_h * a.jobs_w",
                       sg_cuda_size(problem, SG_ROLE_N, arguments->arena));
    sg_cuda_assume(arguments, "boxes are counted in 28 bits", "a.job_count < %d", INT32_MAX / 8);
}
