/* Arguments of the skeletons whose jobs are boxes of one image's pixels: conv_wgmma_packed.cuh and
 * conv_wgmma_gathered.cuh. */
#ifndef SEGUE_GEN_CUDA_BOXES_H
#define SEGUE_GEN_CUDA_BOXES_H

#include "gen/cuda/arguments.h"

/* Whether the convolution's weights lie dense, [out][in][d][h][w]; and the assumption that they
 * do. */
bool sg_cuda_weights_in_order(const sg_problem *problem);
void sg_cuda_assume_weights_in_order(sg_cuda_arguments *arguments, const sg_problem *problem);

/* The convolution's tensors, sizes of result and input, and jobs. boxes, jobs: along d, h and w;
 * job_count: of all images. A walked depth is one box. */
void sg_cuda_add_boxes(sg_cuda_arguments *arguments, const sg_problem *problem,
                       const int64_t boxes[SG_SPATIAL_MAX], const int64_t jobs[SG_SPATIAL_MAX],
                       int64_t job_count);

#endif
